import Election

/// What the mailbox is asked in Redis, and what it answers.
enum MailboxCall: Sendable, Equatable {
  /// The letters of these serials by their texts, after one of them; no commands.
  case scan(MailboxScan)
  /// The letters of some controllers, all of one range. Nil range: nothing is marked.
  case open([MailboxOpening], by: OwnedRange?)
  /// What is to be the result of letters of one range, in the wire form of a `CommandResult`.
  case decide([Letter], results: [[UInt8]], by: OwnedRange)
  /// So much is done of lists of one range that were given.
  case note([Letter], done: [Int], by: OwnedRange)
  /// Letters that are done with, by their texts.
  case remove([[UInt8]], by: OwnedRange)
}

struct MailboxScan: Sendable, Equatable {
  var first: UInt64
  var last: UInt64
  /// Begins behind this text, which need not be a letter's; empty: at the first serial.
  var after: [UInt8] = []
}

struct MailboxOpening: Sendable, Equatable {
  var serial: UInt64
  /// Letters after this number.
  var after: UInt64
  var count: Int
  /// They are to be given: marked, in Redis, as perhaps sent.
  var marks: Bool
}

enum MailboxReply: Sendable, Equatable {
  case scanned([[UInt8]])
  /// Of the first `read` controllers that were named.
  case opened([OpenedLetter], read: Int)
  case decided([Decision])
  case noted
  case removed
  /// By the word of Redis the range is another's, or under another epoch; nothing was done.
  case notOwner
  /// Nobody knows whether it was done. All of it may be asked again.
  case failed

  enum Decision: Sendable, Equatable {
    case taken
    /// It had one before.
    case was([UInt8])
    /// It had one, and the vendor app has it.
    case ended
    case gone
  }
}

struct OpenedLetter: Sendable, Equatable {
  var text: [UInt8]
  /// Empty: missing, or too long to be one.
  var body: [UInt8]
  var mark: Mark

  enum Mark: Sendable, Equatable {
    case none
    /// It was given to a controller, perhaps; so much of it is done, if it is a list.
    case given(done: Int)
    case result([UInt8])
  }
}

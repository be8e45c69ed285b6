/// The 16 bytes that name a command.
struct CommandID: Hashable, Sendable {
  var high: UInt64
  var low: UInt64

  /// Nil unless there are exactly 16 bytes and one of them is not 0 (an id of nothing but zeros is
  /// what "no id" looks like on the wire).
  init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 16 else { return nil }
    var words: (UInt64, UInt64) = (0, 0)
    for byte in bytes.prefix(8) { words.0 = words.0 << 8 | UInt64(byte) }
    for byte in bytes.dropFirst(8) { words.1 = words.1 << 8 | UInt64(byte) }
    guard words != (0, 0) else { return nil }
    self.init(high: words.0, low: words.1)
  }

  init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  var bytes: [UInt8] {
    (0..<16).map { index in
      let word = index < 8 ? self.high : self.low
      return UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * (index % 8)))
    }
  }
}

extension CommandID: CustomStringConvertible {
  /// As UUIDs are written.
  var description: String {
    let digits = Array("0123456789abcdef".unicodeScalars)
    var text = ""
    for (index, byte) in self.bytes.enumerated() {
      if [4, 6, 8, 10].contains(index) { text.append("-") }
      text.unicodeScalars.append(digits[Int(byte >> 4)])
      text.unicodeScalars.append(digits[Int(byte & 15)])
    }
    return text
  }
}

/// A command as the controller takes it.
struct ControllerCommand: Sendable, Equatable {
  /// A deadline that is past by every clock: the controller says what it knows of the id and does
  /// nothing (CSCP_NOT_AFTER_PAST).
  static let notAfterPast: UInt64 = 1

  var id: CommandID
  /// 1 … 2^64 − 2.
  var serial: UInt64
  /// 0 urgent, 1 normal, 2 bulk.
  var lane: UInt8
  /// Host time, ms UTC; 0 = no deadline.
  var notAfterMs: UInt64
  var code: UInt16
  /// At most 4,000 bytes.
  var body: [UInt8]
  /// The body is the node's time, set at the moment of sending.
  var carriesNodeTime = false
  /// A former owner may have sent it: the controller's word alone says what became of it.
  var mayHaveBeenSent = false
  /// It is a sequence, carried out in steps; code and body are of no meaning then.
  var sequence: SequenceContent?

  /// A deadline of what is wanted now or not at all that is further ahead than this is not believed: a clock
  /// is wrong, this node's or the giver's, and a door would open whenever its controller comes back.
  static let momentaryLimit = Duration.seconds(3600)

  /// As it is given to the controller: with a deadline that is not to be believed it is asked what it knows
  /// of it, and does nothing. Not refused: another node may have given it to the controller as well.
  func believed(at now: Moment) -> ControllerCommand {
    guard self.sequence == nil, CommandEncoding.needsDeadline(self.code),
      self.notAfterMs > now.utcMs + Self.momentaryLimit.microseconds / 1000
    else { return self }
    var question = self
    question.notAfterMs = Self.notAfterPast
    return question
  }
}

/// How a command came in: the vendor app's Attach stream, a Redis channel, the mailbox, an operator, a
/// peer, or as a step of a sequence.
typealias CommandDoor = CommandMetrics.Door

extension CommandDoor {
  /// Whoever gave it keeps it until it has its result: where it cannot be carried out now it goes back.
  var keeps: Bool { self == .mailbox || self == .sequence }
}

/// How a command ended; the numbers are those of `clusterdriver.v1.CommandStatus`.
enum CommandStatus: UInt8, Sendable, Equatable {
  case done = 1
  case refused, expired, offline, superseded
}

/// What the pipeline says of a command that came out of the mailbox.
enum LetterEnd: Sendable, Equatable {
  case ended(FinishedCommand)
  /// It cannot be carried out now: it waits in the mailbox on, without a result.
  case putBack(CommandID)
  /// So much of a list is done, and is to be noted.
  case came(CommandID, done: Int)
}

/// Why the driver itself refuses (Docs/PROTOCOL.md, "Result reasons").
enum DriverReason {
  static let badCommand: UInt32 = 256
  static let tooManyPending: UInt32 = 257
  static let stopping: UInt32 = 258
  static let badTransfer: UInt32 = 259
}

/// The one result of a command.
struct FinishedCommand: Sendable, Equatable {
  var id: CommandID
  var serial: UInt64
  /// By which it came first.
  var door: CommandDoor
  var status: CommandStatus
  var reason: UInt32 = 0
  var index: UInt32 = 0
  var body: [UInt8] = []
  var detail = ""
  /// ms UTC.
  var atMs: UInt64
  var elapsedUs: UInt64
}

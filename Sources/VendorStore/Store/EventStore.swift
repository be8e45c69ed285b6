public import DriverProtocol

/// The node a message came from.
public struct NodeIdentity: Hashable, Sendable {
  public var id: String
  public var incarnation: UInt64
  public var version: String

  public init(id: String, incarnation: UInt64, version: String) {
    self.id = id
    self.incarnation = incarnation
    self.version = version
  }
}

/// One numbered message of one node, on its way to the disk.
public struct Submission: Sendable {
  public enum Content: Sendable {
    case events(EventRows)
    case results([Clusterdriver_V1_CommandResult])
    case statuses([Clusterdriver_V1_ControllerStatus])
    case progress([Clusterdriver_V1_SequenceProgress])
  }

  /// The stream it came on; numbers given out by the gateway.
  public var stream: UInt64
  public var node: NodeIdentity
  public var number: UInt64
  public var content: Content

  public init(stream: UInt64, node: NodeIdentity, number: UInt64, content: Content) {
    self.stream = stream
    self.node = node
    self.number = number
    self.content = content
  }
}

/// What a commit did, to be added to the counters of `Stats`.
public struct CommitCounts: Sendable, Equatable {
  public var eventsStored = 0
  public var eventsRepeated = 0
  public var eventsStale = 0
  public var advisories = 0
  public var resultsStored = 0
  public var resultsRepeated = 0
  public var resultsConflicting = 0
  public var statusesOutdated = 0

  public init() {}

  static func += (sum: inout CommitCounts, more: CommitCounts) {
    sum.eventsStored += more.eventsStored
    sum.eventsRepeated += more.eventsRepeated
    sum.eventsStale += more.eventsStale
    sum.advisories += more.advisories
    sum.resultsStored += more.resultsStored
    sum.resultsRepeated += more.resultsRepeated
    sum.resultsConflicting += more.resultsConflicting
    sum.statusesOutdated += more.statusesOutdated
  }
}

/// What a commit did with one message.
public struct SubmissionOutcome: Sendable {
  /// Which of the message's rows were stored by this commit, in their order.
  public enum Fresh: Sendable, Equatable {
    case all
    case some([Int])

    /// How many of `count` rows.
    public func count(of count: Int) -> Int {
      switch self {
      case .all: count
      case .some(let indexes): indexes.count
      }
    }
  }

  public var fresh = Fresh.all
  public var stale: [Clusterdriver_V1_StaleOwner] = []
}

/// What a commit did, message by message in the order given.
public struct CommitOutcome: Sendable {
  /// More contradictions than this of one commit are only counted.
  static let contradictionsMax = 5

  public var counts = CommitCounts()
  public var messages: [SubmissionOutcome] = []
  public var contradictions: [Contradiction] = []
}

/// A result that says something else of its command than the one that is stored. The stored one stays.
public struct Contradiction: Sendable, CustomStringConvertible {
  let result: Clusterdriver_V1_CommandResult
  let node: String
  let stored: Int

  init(_ result: Clusterdriver_V1_CommandResult, by node: String, stored: Int) {
    self.result = result
    self.node = node
    self.stored = stored
  }

  public var description: String {
    let id = result.id.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }
      .joined()
    let before = Clusterdriver_V1_CommandStatus(rawValue: stored).map { "\($0)" } ?? "\(stored)"
    let why = result.detail.isEmpty ? "" : " (\(result.detail))"
    return "command \(id) for \(result.serial): \(before) before, \(result.status)\(why) by \(node)"
  }
}

public struct EventQuery: Sendable {
  /// 0 = all.
  public var serial: UInt64
  /// Occurred at or after / before, ms UTC; 0 = open.
  public var from: UInt64
  public var before: UInt64
  public var limit: Int

  public init(serial: UInt64 = 0, from: UInt64 = 0, before: UInt64 = 0, limit: Int = 1_000) {
    self.serial = serial
    self.from = from
    self.before = before
    self.limit = limit
  }

  func matches(_ row: EventRow) -> Bool {
    let time = Int64(bitPattern: row.occurredAt)
    return (serial == 0 || row.serial == serial)
      && (from == 0 || time >= Int64(clamping: from))
      && (before == 0 || time < Int64(clamping: before))
  }
}

/// Says for whom a door opens.
public struct CardRule: Hashable, Sendable {
  public var card: UInt64
  /// 0 = at any controller.
  public var serial: UInt64
  /// 0 = at any door.
  public var door: UInt16
  public var allowed: Bool

  public init(card: UInt64, serial: UInt64 = 0, door: UInt16 = 0, allowed: Bool = true) {
    self.card = card
    self.serial = serial
    self.door = door
    self.allowed = allowed
  }
}

/// Why a store did not do what was asked, for a person.
public struct StoreError: Error, CustomStringConvertible {
  public var what: String
  /// What to do about it.
  public var advice: String

  public init(_ what: String, advice: String) {
    self.what = what
    self.advice = advice
  }

  public var description: String { "\(what). \(advice)." }
}

/// Where a vendor app keeps what the nodes send.
///
/// `commit` is called by one thread at a time; everything else from anywhere, at any time. What the
/// queries return is as of some commit at or after the call.
public protocol EventStore: Sendable {
  /// Stores a group of messages of any nodes, in their order, all or nothing. When it returns, the
  /// group is as safe as the store makes anything; when it throws, nothing of it is stored and the
  /// same group may be tried again.
  ///
  /// Idempotent: records by identity, results by id (the first stays), statuses by their order, the
  /// progress of sequences by id (the furthest stays).
  func commit(_ group: [Submission]) throws -> CommitOutcome

  /// Last number committed for the node's incarnation; nil when this store has not met it.
  func committedThrough(_ node: NodeIdentity) async throws -> UInt64?

  /// Controllers by serial; 0 = all.
  func controllers(serial: UInt64) async throws -> [Clusterdriver_V1_ControllerRecord]

  /// Newest first.
  func events(_ query: EventQuery) async throws -> EventRows

  /// What is stored of each log of the serials, by serial and log epoch.
  func audit(_ serials: ClosedRange<UInt64>) async throws -> [Clusterdriver_V1_LogAudit]

  func result(id: CommandID) async throws -> Clusterdriver_V1_CommandResult?

  /// Command sequences that nodes have told the progress of, by id, with their results; 0 = of all
  /// controllers.
  func sequences(serial: UInt64) async throws -> [Clusterdriver_V1_SequenceRecord]

  /// How far a sequence came, as it was last told.
  func progress(id: CommandID) async throws -> Clusterdriver_V1_SequenceProgress?

  /// The table of cards if it is not the one of `version`, with its own version.
  func cards(since version: Int?) async throws -> (version: Int, rules: [CardRule])?

  /// Adds rules; a rule for the same card, controller and door is replaced.
  func put(cards: [CardRule]) async throws

  /// Removes all rules of a card; returns how many there were.
  func remove(card: UInt64) async throws -> Int

  /// Nothing may be called afterwards.
  func close() throws
}

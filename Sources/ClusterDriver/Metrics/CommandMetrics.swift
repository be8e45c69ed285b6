/// Commands taken and ended, by door. Any thread.
final class CommandMetrics: Sendable {
  /// By which door a command came, as its label says it.
  enum Door: String, Sendable, CaseIterable {
    /// The vendor app's Attach stream.
    case attach
    /// Redis: a serial's channel.
    case redis
    /// Redis: the durable mailbox.
    case mailbox
    /// The admin socket.
    case admin
    /// Another node, which was given it by one of the others.
    case peer
    /// None: it is a step of a command sequence.
    case sequence
  }

  /// How a command ended, as its label says it.
  enum End: String, Sendable, CaseIterable {
    case done, refused, expired, offline, superseded
  }

  /// What became of a command that was offered to its owner, as its label says it.
  enum Pass: String, Sendable, CaseIterable {
    case taken, ended
    case notMine = "not_mine"
    case busy, unanswered
  }

  struct Sequences: Sendable, Equatable {
    /// That the node has, now, and their bytes.
    var held: UInt64 = 0
    var bytes: UInt64 = 0
    /// Given back to their holders without a result.
    var givenBack: UInt64 = 0
  }

  struct Snapshot: Sendable, Equatable {
    var taken: [Door: UInt64] = [:]
    var ended: [Door: [End: UInt64]] = [:]
    /// Offered to peers, and by peers to this node; the latter without `unanswered`.
    var passed: [Pass: UInt64] = [:]
    var received: [Pass: UInt64] = [:]
    /// Taken and not ended, now.
    var pending: UInt64 = 0
    /// Of these, for controllers that are not this node's.
    var away: UInt64 = 0
    var sequences = Sequences()
    /// Results the vendor app has not acknowledged, now.
    var resultsUnacked: UInt64 = 0
    /// Given to peers for that reason; and peers' that this node tells.
    var resultsCopied: UInt64 = 0
    var resultsKept: UInt64 = 0
    /// From taking a command to its result.
    var latency = LatencyHistogram.Snapshot()
  }

  private struct Counts: Sendable {
    let taken = Counter()
    let done = Counter()
    let refused = Counter()
    let expired = Counter()
    let offline = Counter()
    let superseded = Counter()

    subscript(end: End) -> Counter {
      switch end {
      case .done: return self.done
      case .refused: return self.refused
      case .expired: return self.expired
      case .offline: return self.offline
      case .superseded: return self.superseded
      }
    }
  }

  private struct PassCounts: Sendable {
    let taken = Counter()
    let ended = Counter()
    let notMine = Counter()
    let busy = Counter()
    let unanswered = Counter()

    subscript(pass: Pass) -> Counter {
      switch pass {
      case .taken: return self.taken
      case .ended: return self.ended
      case .notMine: return self.notMine
      case .busy: return self.busy
      case .unanswered: return self.unanswered
      }
    }
  }

  private let attach = Counts()
  private let redis = Counts()
  private let mailbox = Counts()
  private let admin = Counts()
  private let peer = Counts()
  private let sequence = Counts()
  private let passed = PassCounts()
  private let received = PassCounts()
  private let copiedResults = Counter()
  private let keptResults = Counter()
  private let latency = LatencyHistogram()

  init() {}

  func took(by door: Door) { self[door].taken.add() }

  /// `us` from taking the command to its result, in µs; nil: it is a sequence or a step of one, which take
  /// what they take.
  func ended(_ end: End, by door: Door, us: UInt64?) {
    self[door][end].add()
    if let us { self.latency.record(us: us) }
  }

  func passed(_ pass: Pass) { self.passed[pass].add() }

  func received(_ pass: Pass) { self.received[pass].add() }

  func copied(_ results: Int) { self.copiedResults.add(UInt64(results)) }

  func kept(_ results: Int) { self.keptResults.add(UInt64(results)) }

  /// At this moment; each number is exact, the set of them is not of one instant. What is pending,
  /// away, a sequence or unacknowledged is the caller's to fill in.
  func snapshot() -> Snapshot {
    var snapshot = Snapshot()
    for door in Door.allCases {
      snapshot.taken[door] = self[door].taken.value
      for end in End.allCases {
        snapshot.ended[door, default: [:]][end] = self[door][end].value
      }
    }
    for pass in Pass.allCases {
      snapshot.passed[pass] = self.passed[pass].value
      // A node does not leave its own answer out.
      if pass != .unanswered { snapshot.received[pass] = self.received[pass].value }
    }
    snapshot.resultsCopied = self.copiedResults.value
    snapshot.resultsKept = self.keptResults.value
    snapshot.latency = self.latency.snapshot()
    return snapshot
  }

  private subscript(door: Door) -> Counts {
    switch door {
    case .attach: return self.attach
    case .redis: return self.redis
    case .mailbox: return self.mailbox
    case .admin: return self.admin
    case .peer: return self.peer
    case .sequence: return self.sequence
    }
  }
}

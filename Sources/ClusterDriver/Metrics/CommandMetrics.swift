/// Commands taken and ended, by door. Any thread.
final class CommandMetrics: Sendable {
  /// By which door a command came, as its label says it.
  enum Door: String, Sendable, CaseIterable {
    /// The vendor app's Attach stream.
    case attach
    /// Redis: a serial's channel.
    case redis
    /// The admin socket.
    case admin
  }

  /// How a command ended, as its label says it.
  enum End: String, Sendable, CaseIterable {
    case done, refused, expired, offline, superseded
  }

  struct Snapshot: Sendable, Equatable {
    var taken: [Door: UInt64] = [:]
    var ended: [Door: [End: UInt64]] = [:]
    /// Taken and not ended, now.
    var pending: UInt64 = 0
    /// Results the vendor app has not acknowledged, now.
    var resultsUnacked: UInt64 = 0
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

  private let attach = Counts()
  private let redis = Counts()
  private let admin = Counts()
  private let latency = LatencyHistogram()

  init() {}

  func took(by door: Door) { self[door].taken.add() }

  /// `us` from taking the command to its result, in µs.
  func ended(_ end: End, by door: Door, us: UInt64) {
    self[door][end].add()
    self.latency.record(us: us)
  }

  /// At this moment; each number is exact, the set of them is not of one instant. What is pending
  /// and unacknowledged is the caller's to fill in.
  func snapshot() -> Snapshot {
    var snapshot = Snapshot()
    for door in Door.allCases {
      snapshot.taken[door] = self[door].taken.value
      for end in End.allCases {
        snapshot.ended[door, default: [:]][end] = self[door][end].value
      }
    }
    snapshot.latency = self.latency.snapshot()
    return snapshot
  }

  private subscript(door: Door) -> Counts {
    switch door {
    case .attach: return self.attach
    case .redis: return self.redis
    case .admin: return self.admin
    }
  }
}

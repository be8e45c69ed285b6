import Synchronization

/// A loop of the process, and a number that grows at least once a second while it moves.
struct Beat: Sendable {
  /// For people; another one for each loop.
  var name: String
  var count: UInt64

  init(_ name: String, _ count: UInt64) {
    self.name = name
    self.count = count
  }
}

/// Whether the loops of the process still move. A value; whoever looks says when.
struct Pulse: Sendable {
  /// A loop that has not moved for so long is stuck.
  static let patience: Duration = .seconds(10)

  private var seen: [String: (count: UInt64, movedAt: ContinuousClock.Instant)] = [:]

  /// Of a loop that is not there, nothing is remembered.
  ///
  /// - Returns: the loops that are stuck, by name.
  mutating func look(_ beats: [Beat], at now: ContinuousClock.Instant) -> [String] {
    var stuck: [String] = []
    let before = self.seen
    self.seen = [:]
    for beat in beats {
      var movedAt = now
      if let last = before[beat.name], last.count == beat.count { movedAt = last.movedAt }
      self.seen[beat.name] = (beat.count, movedAt)
      if now - movedAt >= Pulse.patience { stuck.append(beat.name) }
    }
    return stuck
  }
}

/// Finds out whether Swift's pool runs tasks: gives it an empty one, and the next one when that has run.
final class PoolProbe: Sendable {
  private let given = Atomic<UInt64>(0)
  private let run = Atomic<UInt64>(0)

  /// Grows with every call while the pool moves. Of one thread.
  func look() -> UInt64 {
    let run = self.run.load(ordering: .relaxed)
    if self.given.load(ordering: .relaxed) == run {
      self.given.add(1, ordering: .relaxed)
      Task.detached { self.run.add(1, ordering: .relaxed) }
    }
    return run
  }
}

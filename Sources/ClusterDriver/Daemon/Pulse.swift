/// Whether the loops of the process still move: each has a number that grows at least once a second
/// while it lives. A value; whoever looks says when.
struct Pulse: Sendable {
  /// A loop that has not moved for so long is stuck.
  static let patience: Duration = .seconds(10)

  private struct Beat: Sendable {
    var count: UInt64
    var movedAt: ContinuousClock.Instant
  }

  private var beats: [String: Beat] = [:]

  /// - Parameter counts: each loop's number now, by its name.
  /// - Returns: the loops that are stuck, by name.
  mutating func look(
    _ counts: [(name: String, count: UInt64)], at now: ContinuousClock.Instant
  ) -> [String] {
    var stuck: [String] = []
    for (name, count) in counts {
      if let beat = self.beats[name], beat.count == count {
        if now - beat.movedAt >= Pulse.patience { stuck.append(name) }
      } else {
        self.beats[name] = Beat(count: count, movedAt: now)
      }
    }
    return stuck
  }
}

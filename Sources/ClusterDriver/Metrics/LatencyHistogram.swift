/// Durations by bucket. Any thread; recording is two relaxed additions and no allocation, for one
/// duration or for a batch that shares it.
final class LatencyHistogram: Sendable {
  /// Upper bounds of the buckets in µs, each included; one more bucket holds the rest.
  static let boundsUs: [UInt64] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
  ]

  struct Snapshot: Sendable, Equatable {
    /// For each bound, and for the rest, how many were in that bucket alone.
    var counts = [UInt64](repeating: 0, count: LatencyHistogram.boundsUs.count + 1)
    var sumUs: UInt64 = 0

    var count: UInt64 { self.counts.reduce(0, &+) }
  }

  private let counts: [Counter]
  private let sumUs = Counter()

  init() {
    self.counts = (0...LatencyHistogram.boundsUs.count).map { _ in Counter() }
  }

  /// Records `count` durations of `us` microseconds each.
  func record(us: UInt64, count: UInt64 = 1) {
    self.counts[LatencyHistogram.bucket(us: us)].add(count)
    self.sumUs.add(us &* count)
  }

  func snapshot() -> Snapshot {
    Snapshot(counts: self.counts.map(\.value), sumUs: self.sumUs.value)
  }

  private static func bucket(us: UInt64) -> Int {
    var low = 0
    var high = self.boundsUs.count
    while low < high {
      let middle = (low + high) / 2
      if us <= self.boundsUs[middle] { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

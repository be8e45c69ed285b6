/// The sequence of delays between attempts to connect: a value, so that it can be tested without
/// waiting.
struct Backoff {
  private let config: NGHTTP2Backoff
  private var attempts = 0

  init(_ config: NGHTTP2Backoff) {
    self.config = config
  }

  /// The connection came up: the next delay is the first one again.
  mutating func reset() {
    self.attempts = 0
  }

  /// The delay before the next attempt, in nanoseconds.
  mutating func next(using random: inout some RandomNumberGenerator) -> UInt64 {
    var delay = Double(self.config.initial.nanoseconds)
    let maximum = Double(self.config.maximum.nanoseconds)
    for _ in 0..<self.attempts where delay < maximum {
      delay *= max(1, self.config.multiplier)
    }
    delay = min(delay, maximum)
    self.attempts = min(self.attempts + 1, 1000)
    let jitter = min(max(self.config.jitter, 0), 1)
    let factor = 1 + Double.random(in: -jitter...jitter, using: &random)
    return UInt64(max(0, delay * factor))
  }

  /// A small random delay, for a reconnect a peer asked for: many clients may have been asked.
  func spread(using random: inout some RandomNumberGenerator) -> UInt64 {
    let most = Double(self.config.initial.nanoseconds) * min(max(self.config.jitter, 0), 1)
    return UInt64(Double.random(in: 0...max(0, most), using: &random))
  }
}

extension Duration {
  /// Whole nanoseconds; 0 for negative durations, capped at about 292 years.
  var nanoseconds: UInt64 {
    let (seconds, attoseconds) = self.components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    guard seconds < Int64.max / 1_000_000_000 - 1 else { return UInt64(Int64.max) }
    return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
  }

  var wholeSeconds: UInt32 {
    UInt32(clamping: max(1, self.components.seconds))
  }
}

/// Rations what a peer can make a node say: a token bucket for each key, for at most ``keysMax``
/// keys at a time. Keys beyond that share one bucket, so that a peer with many names gains nothing.
///
/// Pure: the caller brings the time, in nanoseconds on a clock that does not go back.
struct RateLimit<Key: Hashable & Sendable>: Sendable {
  enum Verdict: Sendable, Equatable {
    /// Say it, and that so many like it were left out since the last.
    case say(suppressed: UInt64)
    case suppress
  }

  /// What may be said at once after a time of silence, 1 ….
  let burst: UInt32
  /// Time in which one more may be said, in ns, 1 ….
  let intervalNs: UInt64
  /// Keys with a bucket of their own.
  let keysMax: Int

  private struct Bucket {
    /// When the bucket would be full again. Full now if not in the future: then it may be dropped.
    var fullAtNs: UInt64
    var suppressed: UInt64 = 0
  }

  private var buckets: [Key: Bucket] = [:]
  private var shared = Bucket(fullAtNs: 0)
  /// Not before this is it worth looking for buckets to drop: a peer with many names must not make
  /// every call look through all of them.
  private var sweepAtNs: UInt64 = 0

  init(burst: UInt32, every interval: Duration, keysMax: Int = 1_024) {
    precondition(burst >= 1 && interval > .zero && keysMax >= 0, "a bucket holds and fills")
    self.burst = burst
    let (seconds, attoseconds) = interval.components
    self.intervalNs = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    self.keysMax = keysMax
  }

  /// Keys with a bucket of their own at present.
  var keyCount: Int { self.buckets.count }

  /// Whether something about `key` may be said at `nowNs`.
  mutating func take(_ key: Key, at nowNs: UInt64) -> Verdict {
    if let known = self.buckets[key] {
      var bucket = known
      defer { self.buckets[key] = bucket }
      return self.take(&bucket, at: nowNs)
    }
    if self.buckets.count >= self.keysMax, nowNs >= self.sweepAtNs {
      self.forgetTheQuiet(at: nowNs)
    }
    guard self.buckets.count < self.keysMax else {
      var bucket = self.shared
      defer { self.shared = bucket }
      return self.take(&bucket, at: nowNs)
    }
    var bucket = Bucket(fullAtNs: nowNs)
    defer { self.buckets[key] = bucket }
    return self.take(&bucket, at: nowNs)
  }

  private func take(_ bucket: inout Bucket, at nowNs: UInt64) -> Verdict {
    let fullAtNs = max(bucket.fullAtNs, nowNs) + self.intervalNs
    guard fullAtNs - nowNs <= UInt64(self.burst) * self.intervalNs else {
      bucket.suppressed += 1
      return .suppress
    }
    defer { bucket.suppressed = 0 }
    bucket.fullAtNs = fullAtNs
    return .say(suppressed: bucket.suppressed)
  }

  /// Drops the buckets that are full: a new one would be the same. What they suppressed without
  /// having said so goes to the shared bucket's count.
  private mutating func forgetTheQuiet(at nowNs: UInt64) {
    for (key, bucket) in self.buckets where bucket.fullAtNs <= nowNs {
      self.shared.suppressed += bucket.suppressed
      self.buckets[key] = nil
    }
    let nextQuietNs = self.buckets.values.lazy.map(\.fullAtNs).min() ?? nowNs
    self.sweepAtNs = max(nextQuietNs, nowNs + self.intervalNs / 16)
  }
}

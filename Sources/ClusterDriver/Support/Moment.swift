import Glibc

/// One reading of both clocks. Decisions go by `uptime`, which only ever moves forward and counts a
/// suspended machine's sleep; `utcMs` is for what is written down and for deadlines that others set.
struct Moment: Sendable, Equatable {
  var uptime: ContinuousClock.Instant
  /// ms since 1970-01-01T00:00:00Z.
  var utcMs: UInt64

  static func now() -> Moment {
    Moment(uptime: .now, utcMs: Moment.utcMsNow())
  }

  static func utcMsNow() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(max(0, time.tv_sec)) * 1000 + UInt64(max(0, time.tv_nsec)) / 1_000_000
  }

  /// The instant at which the host's time will be `utcMs`, going by the two clocks' present
  /// relation. A time too far off to matter (over a thousand years) becomes one a thousand years off.
  func uptime(atUTC utcMs: UInt64) -> ContinuousClock.Instant {
    let limit: Int64 = 1000 * 366 * 86_400_000
    let ahead: Int64
    if utcMs >= self.utcMs {
      ahead = Int64(min(utcMs - self.utcMs, UInt64(limit)))
    } else {
      ahead = -Int64(min(self.utcMs - utcMs, UInt64(limit)))
    }
    return self.uptime.advanced(by: .milliseconds(ahead))
  }
}

extension Duration {
  /// Whole microseconds; 0 for a negative duration.
  var microseconds: UInt64 {
    let parts = self.components
    guard parts.seconds >= 0, parts.attoseconds >= 0 else { return 0 }
    return UInt64(parts.seconds) * 1_000_000 + UInt64(parts.attoseconds / 1_000_000_000_000)
  }

  /// Milliseconds, rounded up, as `poll` and its like take them; at most Int32.max.
  var millisecondsRoundedUp: Int32 {
    guard self > .zero else { return 0 }
    let parts = self.components
    guard parts.seconds < 2_000_000 else { return .max }
    let nanoseconds = parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
    return Int32((nanoseconds + 999_999) / 1_000_000)
  }
}

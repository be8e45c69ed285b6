internal import Glibc

/// Times and durations as people and programs read them.
enum Times {
  /// "2026-01-31T08:15:30.250Z"; empty for 0.
  static func rfc3339(_ ms: UInt64) -> String {
    guard ms > 0 else { return "" }
    var seconds = time_t(ms / 1000)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil else { return "" }
    return formatted(parts, "%Y-%m-%dT%H:%M:%S") + milliseconds(ms) + "Z"
  }

  /// "2026-01-31 09:15:30.250" in the local zone; empty for 0.
  static func local(_ ms: UInt64) -> String {
    guard ms > 0 else { return "" }
    var seconds = time_t(ms / 1000)
    var parts = tm()
    guard localtime_r(&seconds, &parts) != nil else { return "" }
    return formatted(parts, "%Y-%m-%d %H:%M:%S") + milliseconds(ms)
  }

  private static func formatted(_ parts: tm, _ format: String) -> String {
    var parts = parts
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { room in
      let n = strftime(room.baseAddress!, room.count, format, &parts)
      return String(decoding: room[..<n].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }

  private static func milliseconds(_ ms: UInt64) -> String {
    let rest = String(ms % 1000)
    return "." + String(repeating: "0", count: 3 - rest.count) + rest
  }

  /// "350 ms", "12 s", "3 min", "5 h", "2 d": the age of something, in one unit.
  static func age(_ ms: UInt64) -> String {
    switch ms {
    case ..<1_000: "\(ms) ms"
    case ..<120_000: "\(ms / 1_000) s"
    case ..<7_200_000: "\(ms / 60_000) min"
    case ..<172_800_000: "\(ms / 3_600_000) h"
    default: "\(ms / 86_400_000) d"
    }
  }

  /// Milliseconds since 1970, by this machine's clock.
  static func now() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
  }
}

/// A duration as it is typed: "250ms", "5s", "2m", "1h".
struct DurationArgument: Equatable, Sendable {
  var milliseconds: UInt64

  /// Nil when it is none of these forms, or longer than a day.
  init?(argument: String) {
    let units: [(String, UInt64)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
    guard let (unit, factor) = units.first(where: { argument.hasSuffix($0.0) }),
      let number = Double(argument.dropLast(unit.count)), number >= 0,
      number * Double(factor) <= 86_400_000
    else { return nil }
    milliseconds = UInt64((number * Double(factor)).rounded())
  }
}

/// Why a value was not taken: the end of a sentence that begins with the value ("is not a number").
struct Objection: Error, Equatable {
  let why: String

  init(_ why: String) {
    self.why = why
  }
}

/// Readers of the kinds of values that settings have.
enum SettingValue {
  /// A whole number within `range`.
  static func number<N: FixedWidthInteger>(
    _ text: String, in range: ClosedRange<N>
  ) throws(Objection) -> N {
    let digits = text.filter { $0 != "_" && $0 != "," }
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }) else {
      throw Objection("is not a whole number")
    }
    guard let number = N(digits), range.contains(number) else {
      throw Objection("is outside \(range.lowerBound) … \(range.upperBound)")
    }
    return number
  }

  /// A time with its unit: `500ms`, `15s`, `2m`, `1h`.
  static func duration(
    _ text: String, in range: ClosedRange<Duration>
  ) throws(Objection) -> Duration {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int64(digits), count < 1_000_000_000_000 else {
      throw Objection("is not a whole number with a unit (ms, s, m, h)")
    }
    let duration: Duration
    switch text[digits.endIndex...] {
    case "ms": duration = .milliseconds(count)
    case "s": duration = .seconds(count)
    case "m": duration = .seconds(count * 60)
    case "h": duration = .seconds(count * 3_600)
    case "": throw Objection("has no unit (ms, s, m, h)")
    default: throw Objection("has an unknown unit (use ms, s, m or h)")
    }
    guard range.contains(duration) else {
      throw Objection("is outside \(show(range.lowerBound)) … \(show(range.upperBound))")
    }
    return duration
  }

  /// Bytes, with or without a unit: `65536`, `512KiB`, `8MiB`, `1GiB`.
  static func bytes(_ text: String, in range: ClosedRange<Int>) throws(Objection) -> Int {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int(digits), count < 1 << 30 else {
      throw Objection("is not a whole number of bytes, KiB, MiB or GiB")
    }
    let shift: Int
    switch text[digits.endIndex...].lowercased() {
    case "", "b": shift = 0
    case "k", "kib": shift = 10
    case "m", "mib": shift = 20
    case "g", "gib": shift = 30
    default: throw Objection("has an unknown unit (use KiB, MiB or GiB)")
    }
    let bytes = count << shift
    guard range.contains(bytes) else {
      throw Objection(
        "is outside \(show(bytes: range.lowerBound)) …"
          + " \(show(bytes: range.upperBound))")
    }
    return bytes
  }

  static func truth(_ text: String) throws(Objection) -> Bool {
    switch text.lowercased() {
    case "1", "true", "yes", "on": return true
    case "0", "false", "no", "off": return false
    default: throw Objection("is neither true nor false")
    }
  }

  /// One of a list of words.
  static func word<Word: RawRepresentable & CaseIterable>(
    _ text: String, of type: Word.Type
  ) throws(Objection) -> Word where Word.RawValue == String {
    guard let word = Word(rawValue: text.lowercased()) else {
      throw Objection("is none of the words it can be")
    }
    return word
  }

  /// A path: not empty, without a NUL.
  static func path(_ text: String) throws(Objection) -> String {
    guard !text.isEmpty, !text.utf8.contains(0), text.utf8.count < 4_096 else {
      throw Objection("is not a path")
    }
    return text
  }

  /// `500ms`, `15s`, `2m`: as ``duration(_:in:)`` reads it.
  static func show(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    if attoseconds != 0 || seconds == 0 {
      return "\(seconds * 1_000 + attoseconds / 1_000_000_000_000_000)ms"
    }
    if seconds % 3_600 == 0 { return "\(seconds / 3_600)h" }
    return seconds % 60 == 0 ? "\(seconds / 60)m" : "\(seconds)s"
  }

  /// `512KiB`, `8MiB`: as ``bytes(_:in:)`` reads it.
  static func show(bytes: Int) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")]
    where bytes >= 1 << shift && bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(unit)"
    }
    return "\(bytes)"
  }
}

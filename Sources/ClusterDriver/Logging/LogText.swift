internal import Glibc

/// Lays a record out as one line of text: the message, then `key=value` pairs.
enum LogText {
  enum Style: Sendable, Equatable {
    /// Begins with the time and the level.
    case plain
    /// Begins with `<3>`: the journal reads the level from it and knows the time itself.
    case journalPrefix
  }

  /// The line with its newline. Control characters are escaped: a line stays a line, and nothing in
  /// it moves a terminal's cursor.
  static func line(_ record: LogRecord, style: Style) -> [UInt8] {
    var line: String
    switch style {
    case .plain: line = "\(time(ms: record.atMs)) \(record.level) "
    case .journalPrefix: line = "<\(record.level.syslogPriority)>"
    }
    line += record.label + ": "
    appendEscaped(record.message, to: &line)
    for field in record.fields {
      line += " "
      appendEscaped(field.key, to: &line)
      line += "="
      if isPlain(field.value) {
        line += field.value
      } else {
        line += "\""
        appendEscaped(field.value, quoted: true, to: &line)
        line += "\""
      }
    }
    line += "\n"
    return Array(line.utf8)
  }

  /// `2026-11-24T02:46:33.524Z`.
  static func time(ms: UInt64) -> String {
    var seconds = time_t(ms / 1_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ number: Int, _ count: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let date =
      "\(digits(Int(parts.tm_year) + 1900, 4))-\(digits(Int(parts.tm_mon) + 1, 2))"
      + "-\(digits(Int(parts.tm_mday), 2))"
    let time =
      "\(digits(Int(parts.tm_hour), 2)):\(digits(Int(parts.tm_min), 2))"
      + ":\(digits(Int(parts.tm_sec), 2)).\(digits(Int(ms % 1_000), 3))"
    return "\(date)T\(time)Z"
  }

  private static func isPlain(_ value: String) -> Bool {
    !value.isEmpty
      && value.utf8.allSatisfy {
        $0 > 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=")
          && $0 != UInt8(ascii: "\\") && $0 != 0x7F && $0 < 0x80
      }
  }

  private static func appendEscaped(_ text: String, quoted: Bool = false, to line: inout String) {
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": line += "\\n"
      case "\"" where quoted, "\\" where quoted: line += "\\" + String(scalar)
      case _ where isControl(scalar):
        let digits = String(scalar.value, radix: 16)
        line += "\\x" + (digits.count < 2 ? "0" : "") + digits
      default: line.unicodeScalars.append(scalar)
      }
    }
  }

  /// C0, DEL, C1, and what breaks lines or turns the direction of text.
  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7F..<0xA0, 0x2028...0x202E, 0x2066...0x2069: return true
    default: return false
    }
  }
}

/// Reads a `.env` file: `KEY=value` a line, `#` comments, an optional `export` before the key, and
/// single quotes (taken as they are) or double quotes (with \n, \t, \", \\ and \$).
enum DotEnv {
  struct Entry: Sendable, Equatable {
    let key: String
    let value: String
    /// From 1.
    let line: Int
  }

  /// Largest file that is read, in bytes.
  static let sizeMax = 64 << 10

  /// The entries in the file's order, and what is wrong with the other lines.
  static func parse(_ text: String, path: String) -> (entries: [Entry], problems: [String]) {
    var entries: [Entry] = []
    var problems: [String] = []
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, line) in lines.enumerated() {
      do throws(Objection) {
        if let (key, value) = try parse(line: trimmed(line)) {
          entries.append(Entry(key: key, value: value, line: index + 1))
        }
      } catch {
        problems.append("\(path) line \(index + 1): \(error.why)")
      }
    }
    return (entries, problems)
  }

  /// `nil` for an empty line or a comment.
  private static func parse(line: Substring) throws(Objection) -> (String, String)? {
    if line.isEmpty || line.first == "#" { return nil }
    var line = line
    if line.hasPrefix("export ") { line = trimmed(line.dropFirst("export ".count)) }
    guard let equals = line.firstIndex(of: "=") else {
      throw Objection("no \"=\"; write KEY=value, or # before a comment")
    }
    let key = trimmed(line[..<equals])
    guard let first = key.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first),
      key.utf8.allSatisfy(isKeyByte)
    else {
      throw Objection("the key before \"=\" is not made of letters, digits and _")
    }
    return (String(key), try value(trimmed(line[equals...].dropFirst())))
  }

  private static func value(_ text: Substring) throws(Objection) -> String {
    guard let quote = text.first, quote == "\"" || quote == "'" else {
      // A # begins a comment only after white space: it may be part of a password.
      var end = text.startIndex
      var previous: Character = " "
      while end < text.endIndex, !(text[end] == "#" && previous.isWhitespace) {
        previous = text[end]
        end = text.index(after: end)
      }
      return String(trimmed(text[..<end]))
    }
    var value = ""
    var rest = text.dropFirst()
    while let character = rest.popFirst() {
      if character == quote {
        let after = trimmed(rest)
        guard after.isEmpty || after.first == "#" else {
          throw Objection("something follows the closing quote")
        }
        return value
      }
      guard character == "\\", quote == "\"", let escaped = rest.popFirst() else {
        value.append(character)
        continue
      }
      switch escaped {
      case "n": value.append("\n")
      case "t": value.append("\t")
      case "\"", "\\", "$": value.append(escaped)
      default: throw Objection("unknown escape \\\(escaped) (use \\n, \\t, \\\", \\\\ or \\$)")
      }
    }
    throw Objection("the closing quote is missing")
  }

  private static func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      return true
    default:
      return false
    }
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}

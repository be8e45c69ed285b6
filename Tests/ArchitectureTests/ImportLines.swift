/// What a source file imports or includes, as written, with the line it stands in (from 1).
struct ImportLine: Equatable {
  var line: Int
  var name: String
  /// C: `#include "…"`, which looks beside the file first.
  var isQuoted = false
}

enum ImportLines {
  /// The modules a Swift file imports, whatever attributes, access level or kind stand with them.
  static func swift(_ text: String) -> [ImportLine] {
    let pattern =
      /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+(?:(?:typealias|struct|class|enum|actor|protocol|let|var|func)\s+)?`?(\w+)/
    return Self.lines(Self.blanked(text, strings: true)).flatMap { number, line in
      line.split(separator: ";").compactMap { statement in
        statement.prefixMatch(of: pattern).map { ImportLine(line: number, name: String($0.1)) }
      }
    }
  }

  /// The headers a C file includes. One that is not written out (`#include MACRO`) is named as it is.
  static func c(_ text: String) -> [ImportLine] {
    let pattern = /^\s*#\s*(?:include_next|include|import)\s*(["<]?)([^">\s]+)/
    return Self.lines(Self.blanked(text, strings: false)).compactMap { number, line in
      line.prefixMatch(of: pattern).map {
        ImportLine(line: number, name: String($0.2), isQuoted: $0.1 == "\"")
      }
    }
  }

  private static func lines(_ text: String) -> [(Int, Substring)] {
    text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
      .map { ($0.offset + 1, $0.element) }
  }

  /// The text with its comments, and with Swift's strings if asked, made blank; lines stay lines.
  /// Within a Swift string an interpolation is text too: nobody imports from there.
  private static func blanked(_ text: String, strings: Bool) -> String {
    var rest = Substring(text)
    var result = ""
    while let character = rest.first {
      if rest.hasPrefix("//") {
        rest = rest.drop { $0 != "\n" }
      } else if rest.hasPrefix("/*") {
        Self.blankComment(&rest, &result, nested: strings)
      } else if strings, rest.hasPrefix("\"\"\"") {
        Self.blankString(&rest, &result, quote: "\"\"\"")
      } else if strings, character == "\"" {
        Self.blankString(&rest, &result, quote: "\"")
      } else {
        result.append(character)
        rest.removeFirst()
      }
    }
    return result
  }

  private static func blankComment(_ rest: inout Substring, _ result: inout String, nested: Bool) {
    var depth = 0
    while let character = rest.first {
      if rest.hasPrefix("/*"), nested || depth == 0 {
        depth += 1
        rest.removeFirst(2)
      } else if rest.hasPrefix("*/") {
        depth -= 1
        rest.removeFirst(2)
        if depth == 0 { return }
      } else {
        if character == "\n" { result.append("\n") }
        rest.removeFirst()
      }
    }
  }

  private static func blankString(_ rest: inout Substring, _ result: inout String, quote: String) {
    rest.removeFirst(quote.count)
    while let character = rest.first {
      if rest.hasPrefix(quote) {
        rest.removeFirst(quote.count)
        return
      }
      // A string of one line that is not closed there is none (an apostrophe's cousin in a regex).
      if character == "\n", quote == "\"" { return }
      if character == "\n" { result.append("\n") }
      rest.removeFirst(character == "\\" && rest.count > 1 ? 2 : 1)
    }
  }
}

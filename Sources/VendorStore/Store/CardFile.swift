/// Reads a table of cards from text: a line each, `card[,serial[,door[,allowed]]]`.
///
/// `card` and the others are decimal or, after 0x, hexadecimal; serial and door default to 0, any;
/// `allowed` is yes (the default) or no. Empty lines and what follows a # are passed over.
public enum CardFile {
  public struct Malformed: Error, CustomStringConvertible {
    /// From 1.
    public var line: Int
    public var what: String
    public var description: String { "line \(line): \(what)" }
  }

  public static func parse(_ text: String) throws(Malformed) -> [CardRule] {
    var rules: [CardRule] = []
    let lines = text.split(omittingEmptySubsequences: false) { $0.isNewline }
    for (index, line) in lines.enumerated() {
      let content = line.prefix { $0 != "#" }
      if content.allSatisfy(\.isWhitespace) { continue }
      do {
        rules.append(try rule(content))
      } catch {
        throw Malformed(line: index + 1, what: error.what)
      }
    }
    return rules
  }

  private struct Reason: Error {
    var what: String
  }

  private static func rule(_ line: Substring) throws(Reason) -> CardRule {
    let fields = line.split(separator: ",", omittingEmptySubsequences: false).map {
      String($0.filter { !$0.isWhitespace })
    }
    guard fields.count <= 4 else { throw Reason(what: "more than card,serial,door,allowed") }
    guard let card = number(fields[0]) else {
      throw Reason(what: "\"\(fields[0])\" is not a card's number")
    }
    var rule = CardRule(card: card)
    if fields.count > 1 {
      guard let serial = number(fields[1]), serial != .max else {
        throw Reason(what: "\"\(fields[1])\" is not a serial number, or 0 for any")
      }
      rule.serial = serial
    }
    if fields.count > 2 {
      guard let door = number(fields[2]).flatMap(UInt16.init(exactly:)) else {
        throw Reason(what: "\"\(fields[2])\" is not a door's number, or 0 for any")
      }
      rule.door = door
    }
    if fields.count > 3 {
      switch fields[3] {
      case "yes": rule.allowed = true
      case "no": rule.allowed = false
      default: throw Reason(what: "\"\(fields[3])\" is neither yes nor no")
      }
    }
    return rule
  }

  /// A number of 64 bits, decimal or, after 0x, hexadecimal.
  public static func number(_ text: String) -> UInt64? {
    let isHexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
    let digits = isHexadecimal ? text.dropFirst(2) : text[...]
    // Swift's own reading would take a sign.
    guard digits.first?.isHexDigit == true else { return nil }
    return UInt64(digits, radix: isHexadecimal ? 16 : 10)
  }
}

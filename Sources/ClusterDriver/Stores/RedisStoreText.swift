import Election

/// How names and numbers are written in Redis. Numbers are decimal without leading zeros, because a
/// number of Lua's is exact to 2⁵³ only and the scripts treat them as text. Names are written so that
/// they hold none of the characters that part them; those the configuration allows stay readable.
enum StoreText {
  /// No name is written like this.
  static let none = "~"

  static func token(_ name: String) -> String {
    if name.isEmpty { return "%" }
    if name.utf8.allSatisfy(isPlain) { return name }
    var text = ""
    for byte in name.utf8 {
      if isPlain(byte) {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16)
        text += digits.utf8.count == 1 ? "%0\(digits)" : "%\(digits)"
      }
    }
    return text
  }

  /// nil when `text` is none that `token` makes.
  static func name(_ text: Substring) -> String? {
    if text == "%" { return "" }
    if text.isEmpty { return nil }
    if text.utf8.allSatisfy(isPlain) { return String(text) }
    var bytes: [UInt8] = []
    var rest = text.utf8
    while let byte = rest.popFirst() {
      if isPlain(byte) {
        bytes.append(byte)
      } else if byte == UInt8(ascii: "%"), rest.count >= 2,
        let value = UInt8(String(Substring(rest.prefix(2))), radix: 16)
      {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else {
        return nil
      }
    }
    return String(validating: bytes, as: UTF8.self)
  }

  static func token(_ identity: StoreIdentity?) -> String {
    identity.map { self.token($0.text) } ?? self.none
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "."), UInt8(ascii: "-"),
      UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"):
      true
    default:
      false
    }
  }
}

/// The words of one line, taken one by one. Every `take…` throws `.damaged` when the word is missing
/// or is not what was asked for.
struct StoreWords {
  private var rest: Substring
  private let line: Substring

  init(_ line: Substring) {
    self.rest = line
    self.line = line
  }

  init(_ line: String) {
    self.init(Substring(line))
  }

  var isEmpty: Bool { self.rest.isEmpty }

  mutating func word() throws(StoreFailure) -> Substring {
    let word: Substring
    // By bytes: characters are what costs in a view of 10,000 lines.
    if let blank = self.rest.utf8.firstIndex(of: UInt8(ascii: " ")) {
      word = self.rest[..<blank]
      self.rest = self.rest[self.rest.utf8.index(after: blank)...]
    } else {
      word = self.rest
      self.rest = ""
    }
    if word.isEmpty { throw self.bad("a word is missing") }
    return word
  }

  mutating func number() throws(StoreFailure) -> UInt64 {
    let word = try self.word()
    guard let number = UInt64(word), word.utf8.first != UInt8(ascii: "+") else {
      throw self.bad("\"\(word.prefix(40))\" is no number")
    }
    return number
  }

  mutating func flag() throws(StoreFailure) -> Bool {
    switch try self.number() {
    case 0: return false
    case 1: return true
    default: throw self.bad("neither 0 nor 1")
    }
  }

  mutating func name() throws(StoreFailure) -> String {
    let word = try self.word()
    guard let name = StoreText.name(word) else {
      throw self.bad("\"\(word.prefix(40))\" is no name")
    }
    return name
  }

  mutating func node() throws(StoreFailure) -> NodeID { NodeID(try self.name()) }

  mutating func owner() throws(StoreFailure) -> Owner {
    Owner(try self.node(), Incarnation(try self.number()))
  }

  /// Whether the next word stands for nothing, which is then taken.
  mutating func takeNone() throws(StoreFailure) -> Bool {
    let before = self.rest
    if try self.word() == StoreText.none { return true }
    self.rest = before
    return false
  }

  mutating func end() throws(StoreFailure) {
    if !self.rest.isEmpty { throw self.bad("more words than there should be") }
  }

  func bad(_ what: String) -> StoreFailure {
    .damaged("\(what) in \"\(self.line.prefix(160))\"")
  }
}

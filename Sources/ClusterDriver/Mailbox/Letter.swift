/// A command in the mailbox: whose it is, and its place among the others of that controller.
///
/// In the index it is written so that the order of texts is that of serials, and within one that of
/// posting: 20 digits of the serial, 16 of the number, 32 of the id.
struct Letter: Sendable, Hashable {
  var serial: UInt64
  /// Grows with each letter of a controller: µs since 1970 by Redis' clock, or one more than the last.
  var number: UInt64
  var id: CommandID

  static let textBytes = 70

  /// ms UTC by Redis' clock.
  var postedAtMs: UInt64 { self.number / 1000 }

  var text: String {
    Letter.digits(self.serial, 20) + " " + Letter.digits(self.number, 16) + " "
      + self.id.hexadecimal
  }

  init(serial: UInt64, number: UInt64, id: CommandID) {
    self.serial = serial
    self.number = number
    self.id = id
  }

  /// Nil for what no script of ours has written.
  init?(text: [UInt8]) {
    guard text.count == Letter.textBytes, text[20] == UInt8(ascii: " "),
      text[37] == UInt8(ascii: " "), let serial = Letter.number(text[..<20]),
      serial >= 1, serial < UInt64.max, let number = Letter.number(text[21..<37]),
      let id = CommandID(hexadecimal: text[38...])
    else { return nil }
    self.init(serial: serial, number: number, id: id)
  }

  /// Before every letter of these serials and after the last, in the index.
  static func firstBound(of serial: UInt64) -> String { "[" + self.digits(serial, 20) + " " }
  static func bound(after serial: UInt64) -> String { "(" + self.digits(serial, 20) + "!" }

  /// Before the letters of this serial that come after that number; 0 = all.
  static func bound(in serial: UInt64, after number: UInt64) -> String {
    number == 0
      ? self.firstBound(of: serial)
      : "(" + self.digits(serial, 20) + " " + self.digits(number, 16) + "!"
  }

  private static func digits(_ value: UInt64, _ width: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
  }

  private static func number(_ text: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for byte in text {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
      let (product, overflows) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflowsToo) = product.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
      guard !overflows, !overflowsToo else { return nil }
      value = sum
    }
    return value
  }
}

extension CommandID {
  /// 32 digits in lower case, as the mailbox names commands.
  var hexadecimal: String {
    String(
      decoding: self.bytes.flatMap { [CommandID.digit($0 >> 4), CommandID.digit($0 & 15)] },
      as: UTF8.self)
  }

  init?(hexadecimal text: some Collection<UInt8>) {
    guard text.count == 32 else { return nil }
    var bytes: [UInt8] = []
    var high: UInt8?
    for character in text {
      guard let value = CommandID.value(character) else { return nil }
      if let half = high {
        bytes.append(half << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    self.init(bytes)
  }

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }

  private static func value(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    default: nil
    }
  }
}

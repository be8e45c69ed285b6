/// Base64 as gRPC metadata carries it: the standard alphabet, written without padding, read with or
/// without.
enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  private static let values: [UInt8] = {
    var table = [UInt8](repeating: 0xFF, count: 256)
    for (value, character) in alphabet.enumerated() {
      table[Int(character)] = UInt8(value)
    }
    return table
  }()

  static func encode(_ bytes: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity((bytes.count * 4 + 2) / 3)
    var bits: UInt32 = 0
    var n = 0
    for byte in bytes {
      bits = bits << 8 | UInt32(byte)
      n += 8
      while n >= 6 {
        n -= 6
        out.append(self.alphabet[Int(bits >> UInt32(n)) & 0x3F])
      }
    }
    if n > 0 {
      out.append(self.alphabet[Int(bits << UInt32(6 - n)) & 0x3F])
    }
    return out
  }

  /// - Returns: `nil` when the text is not base64.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var out: [UInt8] = []
    out.reserveCapacity(text.count * 3 / 4)
    var bits: UInt32 = 0
    var n = 0
    var digits = 0
    var padding = 0
    for character in text {
      if character == UInt8(ascii: "=") {
        padding += 1
        continue
      }
      let value = self.values[Int(character)]
      guard value != 0xFF, padding == 0 else { return nil }
      bits = (bits << 6 | UInt32(value)) & 0xFFFFFF
      n += 6
      digits += 1
      if n >= 8 {
        n -= 8
        out.append(UInt8(truncatingIfNeeded: bits >> UInt32(n)))
      }
    }
    // One digit alone is less than a byte; padding, if any, completes the last group.
    guard digits % 4 != 1, padding == 0 || (digits + padding) % 4 == 0, padding <= 2 else {
      return nil
    }
    return out
  }
}

/// The encoding of `grpc-message`: bytes outside printable ASCII, and `%`, as `%XX`.
enum PercentEncoding {
  private static let digits = Array("0123456789ABCDEF".utf8)

  static func encode(_ text: String) -> [UInt8] {
    var out: [UInt8] = []
    for byte in text.utf8 {
      if (0x20...0x7E).contains(byte) && byte != UInt8(ascii: "%") {
        out.append(byte)
      } else {
        out.append(UInt8(ascii: "%"))
        out.append(self.digits[Int(byte >> 4)])
        out.append(self.digits[Int(byte & 0x0F)])
      }
    }
    return out
  }

  /// Never fails: what is not an escape stays as it is, what is not UTF-8 is repaired.
  static func decode(_ bytes: some Collection<UInt8>) -> String {
    let bytes = Array(bytes)
    guard bytes.contains(UInt8(ascii: "%")) else { return String(decoding: bytes, as: UTF8.self) }
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
      if bytes[at] == UInt8(ascii: "%"), at + 2 < bytes.count,
        let high = self.value(bytes[at + 1]), let low = self.value(bytes[at + 2])
      {
        out.append(high << 4 | low)
        at += 3
      } else {
        out.append(bytes[at])
        at += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  private static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): return digit - UInt8(ascii: "0")
    case UInt8(ascii: "A")...UInt8(ascii: "F"): return digit - UInt8(ascii: "A") + 10
    case UInt8(ascii: "a")...UInt8(ascii: "f"): return digit - UInt8(ascii: "a") + 10
    default: return nil
    }
  }
}

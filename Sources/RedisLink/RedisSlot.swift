/// One of the 16,384 parts into which a Redis Cluster divides its keys.
public struct RedisSlot: Sendable, Hashable, CustomStringConvertible {
  /// 0…16,383.
  public let number: UInt16

  public static let count: UInt16 = 16_384

  /// The slot of a key: CRC16 (XMODEM) of what stands between its first `{` and the next `}`, or of
  /// the whole key if nothing does.
  public init(ofKey key: some Sequence<UInt8>) {
    let key = Array(key)
    var hashed = key[...]
    if let open = key.firstIndex(of: UInt8(ascii: "{")) {
      let inner = key[(open + 1)...].prefix { $0 != UInt8(ascii: "}") }
      if !inner.isEmpty, inner.endIndex < key.endIndex { hashed = inner }
    }
    var sum: UInt16 = 0
    for byte in hashed {
      sum ^= UInt16(byte) << 8
      for _ in 0..<8 { sum = sum & 0x8000 == 0 ? sum << 1 : sum << 1 ^ 0x1021 }
    }
    number = sum % Self.count
  }

  public init(ofKey key: String) {
    self.init(ofKey: key.utf8)
  }

  public var description: String { "slot \(number)" }
}

/// Writes the protobuf wire format at a pointer. The caller has made room: nothing is checked here,
/// because this runs several times for each event.
struct WireWriter {
  /// Where the next byte goes.
  var at: UnsafeMutablePointer<UInt8>

  @inline(__always)
  init(at: UnsafeMutablePointer<UInt8>) {
    self.at = at
  }

  @inline(__always)
  mutating func byte(_ value: UInt8) {
    self.at.pointee = value
    self.at += 1
  }

  /// At most 10 bytes.
  @inline(__always)
  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      self.byte(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    self.byte(UInt8(truncatingIfNeeded: rest))
  }

  /// A field numbered 1 ... 15 of an integral type, left out when it is 0 as proto3 has it.
  @inline(__always)
  mutating func field(_ number: UInt8, _ value: UInt64) {
    guard value != 0 else { return }
    self.byte(number << 3)
    self.varint(value)
  }

  /// The same for a field numbered 16 ... 31: its tag takes two bytes.
  @inline(__always)
  mutating func longField(_ number: UInt8, _ value: UInt64) {
    guard value != 0 else { return }
    self.byte((number << 3) | 0x80)
    self.byte(1)
    self.varint(value)
  }

  /// `value` in exactly `width` bytes. A varint may be longer than it needs to be; so a length can be
  /// written before it is known how many digits it has, and what follows never has to be moved.
  @inline(__always)
  static func padded(_ value: Int, width: Int, at: UnsafeMutablePointer<UInt8>) {
    var rest = value
    for index in 0..<(width - 1) {
      at[index] = UInt8(truncatingIfNeeded: rest) | 0x80
      rest >>= 7
    }
    at[width - 1] = UInt8(truncatingIfNeeded: rest) & 0x7F
  }
}

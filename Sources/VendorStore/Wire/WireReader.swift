/// Why bytes are not what they should be, in words for the peer that sent them.
struct WireError: Error {
  var what: String

  static let truncated = WireError(what: "the message ends in the middle of a field")
  static let overlongVarint = WireError(what: "a number takes more than 10 bytes")
}

/// A cursor over bytes in the protobuf wire format. Reads nothing past the end; allocates nothing.
struct WireReader {
  private var position: UnsafeRawPointer
  private let end: UnsafeRawPointer

  /// `bytes` must outlive the reader.
  init(_ bytes: UnsafeRawBufferPointer) {
    // An empty buffer may have no address; any will do for a cursor that is at its end.
    let base = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1).unsafelyUnwrapped
    position = base
    end = base + bytes.count
  }

  var isAtEnd: Bool { position == end }

  enum WireType: UInt8 {
    case varint = 0
    case fixed64 = 1
    case bytes = 2
    case fixed32 = 5
  }

  @inline(__always)
  mutating func varint() throws(WireError) -> UInt64 {
    guard position < end else { throw .truncated }
    let first = position.load(as: UInt8.self)
    if first < 0x80 {
      position += 1
      return UInt64(first)
    }
    return try longVarint()
  }

  private mutating func longVarint() throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while position < end {
      let byte = position.load(as: UInt8.self)
      position += 1
      value |= UInt64(byte & 0x7F) &<< shift
      if byte < 0x80 { return value }
      shift += 7
      guard shift < 70 else { throw .overlongVarint }
    }
    throw .truncated
  }

  /// The next field's number and type.
  @inline(__always)
  mutating func tag() throws(WireError) -> (field: UInt64, type: WireType) {
    let tag = try varint()
    guard tag >> 3 > 0, tag <= UInt64(UInt32.max), let type = WireType(rawValue: UInt8(tag & 7))
    else { throw WireError(what: "\(tag) is not a field's tag") }
    return (tag >> 3, type)
  }

  /// The bytes of a length-delimited field.
  @inline(__always)
  mutating func bytes() throws(WireError) -> UnsafeRawBufferPointer {
    let count = try varint()
    guard count <= UInt64(end - position) else { throw .truncated }
    defer { position += Int(count) }
    return UnsafeRawBufferPointer(start: position, count: Int(count))
  }

  mutating func skip(_ type: WireType) throws(WireError) {
    switch type {
    case .varint: _ = try varint()
    case .bytes: _ = try bytes()
    case .fixed64: try skip(count: 8)
    case .fixed32: try skip(count: 4)
    }
  }

  private mutating func skip(count: Int) throws(WireError) {
    guard count <= end - position else { throw .truncated }
    position += count
  }
}

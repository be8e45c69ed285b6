internal import GRPCCore

/// A header block as the C side takes and gives it: { u32 name length, u32 value length, name,
/// value } in native byte order, one after the other.
struct HeaderBlock {
  private(set) var bytes: [UInt8] = []
  /// As SETTINGS_MAX_HEADER_LIST_SIZE counts.
  private(set) var listSize = 0

  init() {
    self.bytes.reserveCapacity(512)
  }

  mutating func add(_ name: String, _ value: String) {
    var name = name
    var value = value
    name.withUTF8 { name in
      value.withUTF8 { value in
        self.add(UnsafeRawBufferPointer(name), UnsafeRawBufferPointer(value))
      }
    }
  }

  mutating func add(_ name: String, _ value: [UInt8]) {
    var name = name
    name.withUTF8 { name in
      value.withUnsafeBytes { value in self.add(UnsafeRawBufferPointer(name), value) }
    }
  }

  private mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    let lengths = (UInt32(name.count), UInt32(value.count))
    withUnsafeBytes(of: lengths) { self.bytes.append(contentsOf: $0) }
    self.bytes.append(contentsOf: name)
    self.bytes.append(contentsOf: value)
    self.listSize += name.count + value.count + 32
  }

  /// Adds an RPC's metadata, leaving out what belongs to the transport.
  ///
  /// - Throws: `invalidArgument` when a name or value cannot be carried in a header.
  mutating func add(_ metadata: Metadata) throws(RPCError) {
    for (key, value) in metadata {
      let name = key.lowercased()
      if ReservedHeader.isReserved(name) { continue }
      guard Self.isName(name) else {
        throw RPCError(
          code: .invalidArgument,
          message: "The metadata key \"\(key)\" is not a header name: use a-z, 0-9, '_', '-', '.'.")
      }
      switch value {
      case .binary(let bytes):
        self.add(name, Base64.encode(bytes))
      case .string(let text):
        guard text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
          throw RPCError(
            code: .invalidArgument,
            message: """
              The metadata value for "\(key)" is not printable ASCII: send it as binary, under a \
              key that ends in "-bin".
              """)
        }
        self.add(name, text)
      }
    }
  }

  private static func isName(_ name: String) -> Bool {
    !name.isEmpty
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
          return true
        default:
          return false
        }
      }
  }
}

/// Headers that are the transport's or the connection's, never an RPC's metadata.
enum ReservedHeader {
  static func isReserved(_ name: String) -> Bool {
    switch name {
    case "te", "content-type", "content-length", "grpc-status", "grpc-message", "grpc-encoding",
      "grpc-accept-encoding", "connection", "keep-alive", "proxy-connection", "transfer-encoding",
      "upgrade", "host":
      return true
    default:
      return name.utf8.first == UInt8(ascii: ":")
    }
  }
}

/// Reads a received block, pair by pair.
struct HeaderBlockReader {
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
  }

  mutating func next() -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
    guard self.offset + 8 <= self.bytes.count else { return nil }
    let name = Int(self.bytes.loadUnaligned(fromByteOffset: self.offset, as: UInt32.self))
    let value = Int(self.bytes.loadUnaligned(fromByteOffset: self.offset + 4, as: UInt32.self))
    let begin = self.offset + 8
    self.offset = begin + name + value
    return (
      UnsafeRawBufferPointer(rebasing: self.bytes[begin..<begin + name]),
      UnsafeRawBufferPointer(rebasing: self.bytes[begin + name..<begin + name + value])
    )
  }
}

/// A received block, taken apart.
struct ReceivedHeaders {
  /// Pseudo-headers and those of gRPC itself that the transport acts on.
  var method: String?
  var path: String?
  var status: Int?
  var contentType: String?
  var te: String?
  var encoding: String?
  var grpcStatus: Int?
  var grpcMessage: String?
  /// Everything else.
  var metadata = Metadata()

  init(_ bytes: UnsafeRawBufferPointer) {
    var reader = HeaderBlockReader(bytes)
    while let (name, value) = reader.next() {
      self.take(String(decoding: name, as: UTF8.self), value)
    }
  }

  private mutating func take(_ name: String, _ value: UnsafeRawBufferPointer) {
    switch name {
    case ":method": self.method = String(decoding: value, as: UTF8.self)
    case ":path": self.path = String(decoding: value, as: UTF8.self)
    case ":status": self.status = Int(String(decoding: value, as: UTF8.self))
    case "content-type": self.contentType = String(decoding: value, as: UTF8.self)
    case "te": self.te = String(decoding: value, as: UTF8.self)
    case "grpc-encoding": self.encoding = String(decoding: value, as: UTF8.self)
    case "grpc-status": self.grpcStatus = Int(String(decoding: value, as: UTF8.self))
    case "grpc-message": self.grpcMessage = PercentEncoding.decode(value)
    default:
      if ReservedHeader.isReserved(name) { return }
      if name.hasSuffix("-bin") {
        self.addBinary(value, name)
      } else {
        self.metadata.addString(String(decoding: value, as: UTF8.self), forKey: name)
      }
    }
  }

  /// Several values may have been joined by commas on the way. What is not base64 is kept as the
  /// text it is: the application sees that something came.
  private mutating func addBinary(_ value: UnsafeRawBufferPointer, _ name: String) {
    for part in value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
      let trimmed = part.drop { $0 == 0x20 }
      if let bytes = Base64.decode(trimmed) {
        self.metadata.addBinary(bytes, forKey: name)
      } else {
        self.metadata.addString(String(decoding: trimmed, as: UTF8.self), forKey: name)
      }
    }
  }

  /// True for `application/grpc`, `application/grpc+proto`, `application/grpc;charset=…`.
  var isGRPC: Bool {
    guard let type = self.contentType?.lowercased(), type.hasPrefix("application/grpc") else {
      return false
    }
    let rest = type.utf8.dropFirst("application/grpc".utf8.count).first
    return rest == nil || rest == UInt8(ascii: "+") || rest == UInt8(ascii: ";")
  }

  var isCompressed: Bool {
    self.encoding != nil && self.encoding != "identity"
  }
}

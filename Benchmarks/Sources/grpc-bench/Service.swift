import GRPCCore

/// Bytes as they are: what is measured is the transport and GRPCCore, not an encoding.
struct RawSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes {
    if let bytes = message as? Bytes { return bytes }
    return Bytes(message)
  }
}

struct RawDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
    if let message = bytes as? [UInt8] { return message }
    return bytes.withUnsafeBytes { Array($0) }
  }
}

enum Method {
  static func make(_ name: String, _ type: MethodDescriptor.RPCType) -> MethodDescriptor {
    MethodDescriptor(fullyQualifiedService: "bench.Bench", method: name, type: type)
  }
  static let echo = Self.make("Echo", .unary)
  static let count = Self.make("Count", .clientStreaming)
  static let mirror = Self.make("Mirror", .bidirectionalStreaming)
}

func makeRouter<Transport: ServerTransport>(for transport: Transport) -> RPCRouter<Transport> {
  var router = RPCRouter<Transport>()
  router.registerHandler(
    forMethod: Method.echo, deserializer: RawDeserializer(), serializer: RawSerializer()
  ) { request, _ in
    var message: [UInt8] = []
    for try await one in request.messages { message = one }
    let answer = message
    return StreamingServerResponse { writer in
      try await writer.write(answer)
      return [:]
    }
  }
  router.registerHandler(
    forMethod: Method.count, deserializer: RawDeserializer(), serializer: RawSerializer()
  ) { request, _ in
    var n: UInt64 = 0
    for try await message in request.messages { n &+= UInt64(message.count) }
    let count = "\(n)"
    return StreamingServerResponse { writer in
      try await writer.write(Array(count.utf8))
      return [:]
    }
  }
  router.registerHandler(
    forMethod: Method.mirror, deserializer: RawDeserializer(), serializer: RawSerializer()
  ) { request, _ in
    StreamingServerResponse { writer in
      for try await message in request.messages { try await writer.write(message) }
      return [:]
    }
  }
  return router
}

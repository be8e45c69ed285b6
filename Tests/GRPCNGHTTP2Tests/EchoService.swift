import GRPCCore
import GRPCNGHTTP2

/// Bytes as they are: the transport is what is tested, not an encoding.
struct RawSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes {
    Bytes(message)
  }
}

struct RawDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
    bytes.withUnsafeBytes { Array($0) }
  }
}

enum Method {
  static func make(_ name: String, _ type: MethodDescriptor.RPCType?) -> MethodDescriptor {
    MethodDescriptor(fullyQualifiedService: "test.Echo", method: name, type: type)
  }

  /// One in, the same out. Initial metadata comes back, as trailing metadata too.
  static let get = Self.make("Get", .unary)
  /// Many in, one out: their concatenation.
  static let collect = Self.make("Collect", .clientStreaming)
  /// One in, its bytes out one by one.
  static let expand = Self.make("Expand", .serverStreaming)
  /// Each in, each out.
  static let update = Self.make("Update", .bidirectionalStreaming)
  /// Fails with notFound, a message with odd characters, and metadata.
  static let fail = Self.make("Fail", .unary)
  /// Sends two messages, then fails with dataLoss.
  static let failLate = Self.make("FailLate", .serverStreaming)
  /// Ends when it is cancelled.
  static let hang = Self.make("Hang", .bidirectionalStreaming)
  /// Sends messages of the size in its request (decimal) without end.
  static let flood = Self.make("Flood", .serverStreaming)
  /// Reads nothing until it is cancelled.
  static let ignore = Self.make("Ignore", .bidirectionalStreaming)
}

/// What happened in handlers, for tests that look at the server's side.
final class EchoRecord: Sendable {
  let hung = Signal()
  let cancelled = Signal()
  let floodedMessages = Counter()
}

func makeEchoRouter<Transport: ServerTransport>(
  _ record: EchoRecord = EchoRecord(), for transport: Transport
) -> RPCRouter<Transport> {
  var router = RPCRouter<Transport>()
  func register(
    _ method: MethodDescriptor,
    _ handler:
      @escaping @Sendable (StreamingServerRequest<[UInt8]>, ServerContext) async throws
      -> StreamingServerResponse<[UInt8]>
  ) {
    router.registerHandler(
      forMethod: method, deserializer: RawDeserializer(), serializer: RawSerializer(),
      handler: handler)
  }

  register(Method.get) { request, _ in
    var one: [UInt8] = []
    for try await message in request.messages { one = message }
    let message = one
    let metadata = request.metadata
    return StreamingServerResponse(metadata: metadata) { writer in
      try await writer.write(message)
      return metadata
    }
  }
  register(Method.collect) { request, _ in
    var all: [UInt8] = []
    for try await message in request.messages { all += message }
    let message = all
    return StreamingServerResponse { writer in
      try await writer.write(message)
      return [:]
    }
  }
  register(Method.expand) { request, _ in
    StreamingServerResponse { writer in
      for try await message in request.messages {
        try await writer.write(contentsOf: message.map { [$0] })
      }
      return [:]
    }
  }
  register(Method.update) { request, _ in
    StreamingServerResponse { writer in
      for try await message in request.messages { try await writer.write(message) }
      return ["update": "done"]
    }
  }
  register(Method.fail) { _, _ in
    throw RPCError(
      code: .notFound, message: "niçht da: 100 % weg\n",
      metadata: ["reason": "gone", "more-bin": .binary([0, 255])])
  }
  register(Method.failLate) { _, _ in
    StreamingServerResponse { writer in
      try await writer.write([1])
      try await writer.write([2])
      throw RPCError(code: .dataLoss, message: "late")
    }
  }
  register(Method.hang) { _, context in
    StreamingServerResponse { writer in
      record.hung.fire()
      try await writer.write([])
      try await context.cancellation.cancelled
      record.cancelled.fire()
      // The server's deadline may pass a moment before the client's: both say the same.
      throw RPCError(code: .deadlineExceeded, message: "hung until the end")
    }
  }
  register(Method.ignore) { _, context in
    StreamingServerResponse { writer in
      try await context.cancellation.cancelled
      record.cancelled.fire()
      return [:]
    }
  }
  register(Method.flood) { request, _ in
    StreamingServerResponse { writer in
      var size = 0
      for try await message in request.messages {
        size = Int(String(decoding: message, as: UTF8.self)) ?? 0
      }
      let message = [UInt8](repeating: 7, count: size)
      do {
        while true {
          try await writer.write(message)
          record.floodedMessages.add()
        }
      } catch {
        record.cancelled.fire()
        throw error
      }
    }
  }
  return router
}

import GRPCCore
import GRPCNGHTTP2
import Testing

@Suite("RPCs of the four kinds")
struct CallTests {
  @Test("a unary call returns what the server sends, with its metadata")
  func unary() async throws {
    try await withPair { pair in
      let metadata: Metadata = [
        "key": "value", "key": "again", "some-bin": .binary([0, 1, 2, 255]),
      ]
      let request = ClientRequest(message: [1, 2, 3] as [UInt8], metadata: metadata)
      try await pair.client.unary(
        request: request, descriptor: Method.get, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { response in
        let answer = try response.message
        #expect(answer == [1, 2, 3])
        #expect(Array(response.metadata[stringValues: "key"]) == ["value", "again"])
        #expect(Array(response.metadata[binaryValues: "some-bin"]) == [[0, 1, 2, 255]])
        #expect(Array(response.trailingMetadata[stringValues: "key"]) == ["value", "again"])
        #expect(Array(response.trailingMetadata[binaryValues: "some-bin"]) == [[0, 1, 2, 255]])
      }
    }
  }

  @Test("a UNIX socket works like TCP, and its file is gone afterwards")
  func unixSocket() async throws {
    let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
    try await withPair(address: .unix(path)) { pair in
      #expect(pair.address == .unix(path))
      let answer = try await pair.client.get([9])
      #expect(answer == [9])
    }
    #expect(fileExists(path) == false)
  }

  @Test("IPv6 and names are reached like IPv4 literals", arguments: ["::1", "localhost"])
  func hosts(host: String) async throws {
    try await withPair(address: .tcp(host: host, port: 0)) { pair in
      let answer = try await pair.client.get([9])
      #expect(answer == [9])
    }
  }

  @Test("empty messages and messages larger than any window arrive whole")
  func sizes() async throws {
    try await withPair { pair in
      for size in [0, 1, 4, 5, 1000, 16_379, 16_384, 65_535, 1_048_576, 3_900_000] {
        let message = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
          for i in 0..<size { buffer[i] = UInt8(truncatingIfNeeded: i &* 31 &+ i >> 8) }
          count = size
        }
        let answer = try await pair.client.get(message)
        #expect(answer == message, "\(size) bytes")
      }
    }
  }

  @Test("client streaming: all messages arrive, in order")
  func clientStreaming() async throws {
    try await withPair { pair in
      let result = try await pair.client.clientStreaming(
        request: StreamingClientRequest<[UInt8]> { writer in
          for i in 0..<100 { try await writer.write([UInt8(i)]) }
          try await writer.write(contentsOf: (100..<200).map { [UInt8($0)] })
        }, descriptor: Method.collect, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { try $0.message }
      #expect(result == (0..<200).map { UInt8($0) })
    }
  }

  @Test("server streaming: all messages arrive, in order")
  func serverStreaming() async throws {
    try await withPair { pair in
      let sent = (0..<250).map { UInt8($0) }
      let result = try await pair.client.serverStreaming(
        request: ClientRequest(message: sent), descriptor: Method.expand,
        serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
      ) { response in
        var received: [UInt8] = []
        for try await message in response.messages { received += message }
        return received
      }
      #expect(result == sent)
    }
  }

  @Test("bidirectional streaming: an answer comes while the request is still open")
  func bidirectional() async throws {
    try await withPair { pair in
      let answered = Signal()
      let trailer = try await pair.client.bidirectional(Method.update) { writer in
        try await writer.write([1])
        await answered.wait()
        try await writer.write(contentsOf: [[2], [3]])
      } read: { response in
        var received: [[UInt8]] = []
        var trailer: String?
        for try await part in try response.accepted.get().bodyParts {
          switch part {
          case .message(let message):
            received.append(message)
            answered.fire()
          case .trailingMetadata(let metadata):
            trailer = metadata[stringValues: "update"].first { _ in true }
          }
        }
        #expect(received == [[1], [2], [3]])
        return trailer
      }
      #expect(trailer == "done")
    }
  }

  @Test("many RPCs share a connection; those beyond its limit wait for their turn")
  func concurrency() async throws {
    try await withPair(server: serverConfig { $0.maxConcurrentStreams = 8 }) { pair in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for i in 0..<200 {
          group.addTask {
            let message = [UInt8(i)]
            let answer = try await pair.client.get(message)
            #expect(answer == message)
          }
        }
        try await group.waitForAll()
      }
      #expect(pair.serverEvents.connected == 1)
    }
  }
}

@Suite("RPCs that fail")
struct FailureTests {
  private func error(_ body: () async throws -> Void) async -> RPCError? {
    do {
      try await body()
      return nil
    } catch {
      return error as? RPCError
    }
  }

  @Test("a handler's error arrives with code, message and metadata")
  func status() async throws {
    try await withPair { pair in
      let error = await self.error { _ = try await pair.client.get([], method: Method.fail) }
      #expect(error?.code == .notFound)
      #expect(error?.message == "niçht da: 100 % weg\n")
      #expect(error.map { Array($0.metadata[stringValues: "reason"]) } == ["gone"])
      #expect(error.map { Array($0.metadata[binaryValues: "more-bin"]) } == [[0, 255]])
    }
  }

  @Test("an error after messages arrives after the messages")
  func lateStatus() async throws {
    try await withPair { pair in
      let received = Counter()
      let error = await self.error {
        try await pair.client.serverStreaming(
          request: ClientRequest(message: [] as [UInt8]), descriptor: Method.failLate,
          serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
        ) { response in
          for try await _ in response.messages { received.add() }
        }
      }
      #expect(error?.code == .dataLoss)
      #expect(received.count == 2)
    }
  }

  @Test("an unknown method is unimplemented")
  func unknownMethod() async throws {
    try await withPair { pair in
      let error = await self.error {
        _ = try await pair.client.get([], method: Method.make("Nothing", .unary))
      }
      #expect(error?.code == .unimplemented)
    }
  }

  @Test("a deadline ends the RPC on both sides")
  func deadline() async throws {
    try await withPair { pair in
      // Long enough, in the end, for the handler to begin before the deadline.
      var timeout = Duration.milliseconds(50)
      while !pair.record.hung.hasFired {
        var options = CallOptions.defaults
        options.timeout = timeout
        timeout *= 2
        let limited = options
        let error = await self.error {
          try await pair.client.bidirectional(Method.hang, options: limited) { _ in
          } read: { response in
            for try await _ in response.messages {}
          }
        }
        #expect(error?.code == .deadlineExceeded)
      }
      await pair.record.cancelled.wait()
    }
  }

  @Test("a cancelled task resets its stream, and the handler learns of it")
  func cancellation() async throws {
    try await withPair { pair in
      let began = Signal()
      let task = Task {
        try await pair.client.bidirectional(Method.hang) { _ in
        } read: { response in
          for try await _ in response.messages { began.fire() }
        }
      }
      await began.wait()
      task.cancel()
      _ = await task.result
      await pair.record.cancelled.wait()
      let answer = try await pair.client.get([1])
      #expect(answer == [1])
    }
  }

  @Test("a message above the receiver's limit ends its RPC, and only that")
  func messageLimit() async throws {
    try await withPair(server: serverConfig { $0.connection.maxInboundMessageBytes = 1000 }) {
      pair in
      let error = await self.error {
        _ = try await pair.client.get([UInt8](repeating: 0, count: 1001))
      }
      #expect(error?.code == .resourceExhausted)
      let size = try await pair.client.get([UInt8](repeating: 0, count: 1000)).count
      #expect(size == 1000)
    }
  }

  @Test("a response above the caller's limit ends its RPC, and only that")
  func responseLimit() async throws {
    try await withPair { pair in
      var options = CallOptions.defaults
      options.maxResponseMessageBytes = 10
      let limited = options
      let error = await self.error {
        _ = try await pair.client.get([UInt8](repeating: 0, count: 11), options: limited)
      }
      #expect(error?.code == .resourceExhausted)
      let answer = try await pair.client.get([1])
      #expect(answer == [1])
    }
  }

  @Test("metadata above the server's limit ends its RPC, and only that")
  func metadataLimit() async throws {
    try await withPair { pair in
      let large = String(repeating: "x", count: 20_000)
      let error = await self.error {
        _ = try await pair.client.get([], metadata: ["large": .string(large)])
      }
      #expect(error?.code == .resourceExhausted)
      let answer = try await pair.client.get([1])
      #expect(answer == [1])
    }
  }

  @Test("metadata that a header cannot carry is refused before it is sent")
  func badMetadata() async throws {
    try await withPair { pair in
      let error = await self.error {
        _ = try await pair.client.get([], metadata: ["key": "line\r\nbreak"])
      }
      #expect(error?.code == .invalidArgument)
      let answer = try await pair.client.get([1])
      #expect(answer == [1])
    }
  }

  @Test("without a server RPCs fail at once with unavailable, and wait when asked to")
  func noServer() async throws {
    let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
    try await within {
      try await withClient(.unix(path)) { client in
        let error = await self.error { _ = try await client.get([1]) }
        #expect(error?.code == .unavailable)
        var options = CallOptions.defaults
        options.waitForReady = true
        let patient = options
        let answer = Task { try await client.get([5], options: patient) }
        try await withServer(.unix(path)) { _, _, _, _ in
          let answer = try await answer.value
          #expect(answer == [5])
        }
      }
    }
  }

  @Test("after a shutdown began RPCs fail with failedPrecondition")
  func shutDown() async throws {
    let transport = try NGHTTP2ClientTransport(target: .unix("/nowhere"))
    transport.beginGracefulShutdown()
    await #expect(throws: RPCError.self) {
      try await transport.withStream(descriptor: Method.get, options: .defaults) { _, _ in }
    }
    await #expect(throws: RPCError.self) { try await transport.connect() }
  }
}

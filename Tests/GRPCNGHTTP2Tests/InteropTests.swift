import GRPCCore
import GRPCNGHTTP2
import Testing

@Suite("grpcio as the peer")
struct InteropTests {
  /// A grpcio server for our client.
  private func withPythonServer(
    _ options: [String] = [], _ config: NGHTTP2ClientConfig = clientConfig { _ in },
    _ body:
      @escaping @Sendable (GRPCClient<NGHTTP2ClientTransport>, EventLog) async throws -> Void
  ) async throws {
    let server = try await Peers.start("grpc_server.py", options)
    defer { server.stop() }
    let line = try await within(.seconds(30), "grpcio server") { try await server.readLine() }
    let port = try #require(Int(line), "the server printed no port but \"\(line)\"")
    let events = EventLog()
    try await within(.seconds(60), "client of grpcio server") {
      try await withClient(.tcp(host: "127.0.0.1", port: port), events: events, config) { client in
        try await body(client, events)
      }
    }
  }

  @Test("a grpcio client is served in everything it asks")
  func server() async throws {
    try await withServer { _, address, _, _ in
      let client = try await Peers.start("grpc_client.py", ["\(address)"])
      defer { client.stop() }
      let (output, status) = try await within(.seconds(120), "grpcio client") {
        try await client.finish()
      }
      #expect(status == 0, "\(output)")
      #expect(output.contains("ok concurrency"), "\(output)")
    }
  }

  @Test("a grpcio client is served on a UNIX socket")
  func unixServer() async throws {
    let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
    try await withServer(.unix(path)) { _, address, _, _ in
      let client = try await Peers.start("grpc_client.py", ["\(address)"])
      defer { client.stop() }
      let (output, status) = try await within(.seconds(120), "grpcio client") {
        try await client.finish()
      }
      #expect(status == 0, "\(output)")
    }
  }

  @Test("a grpcio server serves unary calls of all sizes, with metadata both ways")
  func unary() async throws {
    try await self.withPythonServer { client, _ in
      for size in [0, 1, 5, 1000, 16_379, 65_535, 1_048_576, 3_900_000] {
        let message = [UInt8](repeating: UInt8(size % 251), count: size)
        let answer = try await client.get(message)
        #expect(answer == message, "\(size) bytes")
      }
      let metadata: Metadata = ["key": "value", "key": "again", "some-bin": .binary([0, 1, 255])]
      let request = ClientRequest(message: [1] as [UInt8], metadata: metadata)
      try await client.unary(
        request: request, descriptor: Method.get, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { response in
        for received in [response.metadata, response.trailingMetadata] {
          #expect(Array(received[stringValues: "key"]) == ["value", "again"])
          #expect(Array(received[binaryValues: "some-bin"]) == [[0, 1, 255]])
        }
      }
    }
  }

  @Test("a grpcio server serves streams in all directions")
  func streams() async throws {
    try await self.withPythonServer { client, _ in
      let collected = try await client.clientStreaming(
        request: StreamingClientRequest<[UInt8]> { writer in
          try await writer.write(contentsOf: (0..<200).map { [UInt8($0)] })
        }, descriptor: Method.collect, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { try $0.message }
      #expect(collected == (0..<200).map { UInt8($0) })

      let expanded = try await client.serverStreaming(
        request: ClientRequest(message: collected), descriptor: Method.expand,
        serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
      ) { response in
        var all: [UInt8] = []
        for try await message in response.messages { all += message }
        return all
      }
      #expect(expanded == collected)

      let message = [UInt8](repeating: 5, count: 100_000)
      let echoed = try await client.bidirectional(Method.update) { writer in
        for _ in 0..<200 { try await writer.write(message) }
      } read: { response in
        var n = 0
        for try await answer in response.messages where answer == message { n += 1 }
        return n
      }
      #expect(echoed == 200)
    }
  }

  @Test("a grpcio server's errors arrive as they are")
  func errors() async throws {
    try await self.withPythonServer { client, _ in
      do {
        _ = try await client.get([], method: Method.fail)
        Issue.record("no error")
      } catch let error as RPCError {
        #expect(error.code == .notFound)
        #expect(error.message == "niçht da: 100 % weg\n")
        #expect(Array(error.metadata[stringValues: "reason"]) == ["gone"])
        #expect(Array(error.metadata[binaryValues: "more-bin"]) == [[0, 255]])
      }
      do {
        _ = try await client.get([], method: Method.make("Nothing", .unary))
        Issue.record("no error")
      } catch let error as RPCError {
        #expect(error.code == .unimplemented)
      }
      do {
        var options = CallOptions.defaults
        options.timeout = .milliseconds(100)
        try await client.bidirectional(Method.hang, options: options) { _ in
        } read: { response in
          for try await _ in response.messages {}
        }
        Issue.record("no error")
      } catch let error as RPCError {
        #expect(error.code == .deadlineExceeded)
      }
    }
  }

  @Test("a grpcio server that compresses unasked fails the RPC, and the error says why")
  func compression() async throws {
    try await self.withPythonServer(["compress"]) { client, _ in
      do {
        _ = try await client.get([UInt8](repeating: 1, count: 5000))
        Issue.record("no error")
      } catch let error as RPCError {
        #expect(error.code == .internalError)
        #expect(error.message.contains("compressed"))
      }
    }
  }

  @Test("a grpcio server that ends connections by age loses no call")
  func connectionAge() async throws {
    let options = ["grpc.max_connection_age_ms=200", "grpc.max_connection_age_grace_ms=5000"]
    try await self.withPythonServer(options) { client, events in
      let end = ContinuousClock.now + .seconds(3)
      var n = 0
      while ContinuousClock.now < end {
        let answer = try await client.get([UInt8(n % 256)])
        #expect(answer == [UInt8(n % 256)])
        n += 1
      }
      #expect(events.connected >= 3)
    }
  }

  @Test("a grpcio server that calls our PINGs too many is pinged less, and served again")
  func tooManyPings() async throws {
    let config = clientConfig {
      $0.keepalive = NGHTTP2Keepalive(
        interval: .milliseconds(30), timeout: .seconds(5), withoutCalls: true)
    }
    try await self.withPythonServer([], config) { client, events in
      _ = try await client.get([1])
      let wasCalmed = try await eventually(.seconds(20)) {
        events.disconnectReasons.count >= 1
      }
      #expect(wasCalmed)
      var options = CallOptions.defaults
      options.waitForReady = true
      let answer = try await client.get([2], options: options)
      #expect(answer == [2])
    }
  }
}

import GRPCCore
import GRPCNGHTTP2
import Testing

@Suite("Flow control")
struct FlowControlTests {
  @Test("a client that does not read stops the server's handler, and memory stays bounded")
  func slowClient() async throws {
    try await withPair { pair in
      let size = 10_000
      try await pair.client.serverStreaming(
        request: ClientRequest(message: Array("\(size)".utf8)), descriptor: Method.flood,
        serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
      ) { response in
        var iterator = response.messages.makeAsyncIterator()
        _ = try await iterator.next()
        // It has stopped when nothing is written for a while.
        var before = -1
        while before != pair.record.floodedMessages.count {
          before = pair.record.floodedMessages.count
          try await Task.sleep(for: .milliseconds(100))
        }
        // The reader's window twice over (its own batch and the next), the writer's buffer, sockets.
        #expect(before * size < 12_000_000, "\(before) messages were written")
        #expect(before * size > 500_000, "\(before) messages were written")
        for _ in 0..<(before * 2) { #expect(try await iterator.next()?.count == size) }
        #expect(pair.record.floodedMessages.count > before)
      }
      await pair.record.cancelled.wait()
    }
  }

  @Test("a server that does not read stops the client's writer")
  func slowServer() async throws {
    try await withPair { pair in
      let written = Counter()
      let task = Task {
        try await pair.client.bidirectional(Method.ignore) { writer in
          let message = [UInt8](repeating: 1, count: 10_000)
          while true {
            try await writer.write(contentsOf: Array(repeating: message, count: 10))
            written.add(10)
          }
        } read: { response in
          for try await _ in response.messages {}
        }
      }
      var before = -1
      while before != written.count || before == 0 {
        before = written.count
        try await Task.sleep(for: .milliseconds(100))
      }
      #expect(before * 10_000 < 12_000_000, "\(before) messages were written")
      task.cancel()
      _ = await task.result
      await pair.record.cancelled.wait()
    }
  }

  @Test("a stream that nobody reads does not stop the others")
  func noHeadOfLineBlocking() async throws {
    let config = clientConfig { $0.connection.connectionWindowBytes = 65_535 }
    try await withPair(client: config) { pair in
      try await pair.client.serverStreaming(
        request: ClientRequest(message: Array("50000".utf8)), descriptor: Method.flood,
        serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
      ) { response in
        var iterator = response.messages.makeAsyncIterator()
        _ = try await iterator.next()
        for _ in 0..<20 {
          let answer = try await pair.client.get([UInt8](repeating: 3, count: 200_000))
          #expect(answer.count == 200_000)
        }
      }
    }
  }

  @Test(
    "every pattern of message sizes arrives whole, whatever the window",
    arguments: [65_535, 100_000, 1_048_576])
  func patterns(window: Int) async throws {
    let server = serverConfig { $0.connection.streamWindowBytes = window }
    let client = clientConfig { $0.connection.streamWindowBytes = window }
    try await withPair(server: server, client: client) { pair in
      // Sizes around frame, buffer and window borders, in an order that shifts their phases.
      let sizes = (0..<600).map { i in
        [0, 1, 7, 100, 4091, 4096, 16_379, 16_384, 65_530, 65_535, 120_000][(i * 7 + i / 11) % 11]
      }
      let received = try await pair.client.bidirectional(Method.update) { writer in
        for (i, size) in sizes.enumerated() {
          try await writer.write([UInt8](repeating: UInt8(i % 256), count: size))
        }
      } read: { response in
        var i = 0
        for try await message in response.messages {
          let fits = message.count == sizes[i] && message.allSatisfy { $0 == UInt8(i % 256) }
          if !fits { Issue.record("message \(i) is not what was sent") }
          i += 1
        }
        return i
      }
      #expect(received == sizes.count)
    }
  }
}

@Suite("Connections that come and go")
struct LifecycleTests {
  @Test("a graceful shutdown lets open RPCs end, and refuses new ones")
  func gracefulServer() async throws {
    try await withPair { pair in
      let began = Signal()
      let mayEnd = Signal()
      let task = Task {
        try await pair.client.bidirectional(Method.update) { writer in
          try await writer.write([1])
          await mayEnd.wait()
          try await writer.write([2])
        } read: { response in
          var all: [[UInt8]] = []
          for try await message in response.messages {
            all.append(message)
            began.fire()
          }
          return all
        }
      }
      await began.wait()
      pair.server.beginGracefulShutdown()
      let refuses = try await eventually {
        (try? await pair.client.get([1])) == nil
      }
      #expect(refuses)
      mayEnd.fire()
      let received = try await task.value
      #expect(received == [[1], [2]])
    }
  }

  @Test("what is left after the grace period is cut off")
  func grace() async throws {
    try await within {
      let transport = try NGHTTP2ServerTransport(
        address: anyPort, config: serverConfig { $0.shutdownGrace = .milliseconds(100) })
      let record = EchoRecord()
      let server = GRPCServer(transport: transport, router: makeEchoRouter(record, for: transport))
      async let serving: Void = server.serve()
      let address = try await transport.listeningAddress
      try await withClient(address) { client in
        do {
          try await client.bidirectional(Method.ignore) { writer in
            try await writer.write([1])
            server.beginGracefulShutdown()
            // A writer that never ends by itself.
            while true { try await writer.write([UInt8](repeating: 0, count: 100_000)) }
          } read: { response in
            for try await _ in response.messages {}
          }
        } catch {}
      }
      try await serving
    }
  }

  @Test("a client's shutdown waits for its open RPCs")
  func gracefulClient() async throws {
    try await withServer { _, address, _, _ in
      let transport = try NGHTTP2ClientTransport(target: address)
      let client = GRPCClient(transport: transport)
      async let connections: Void = client.runConnections()
      let received = try await client.bidirectional(Method.update) { writer in
        try await writer.write([1])
        client.beginGracefulShutdown()
        try await writer.write([2])
      } read: { response in
        var all: [[UInt8]] = []
        for try await message in response.messages { all.append(message) }
        return all
      }
      #expect(received == [[1], [2]])
      try await connections
    }
  }

  @Test("cancelling connect() ends open RPCs with unavailable")
  func abort() async throws {
    try await withServer { _, address, record, _ in
      let client = GRPCClient(transport: try NGHTTP2ClientTransport(target: address))
      let connections = Task { try await client.runConnections() }
      do {
        try await client.bidirectional(Method.hang) { _ in
        } read: { response in
          for try await _ in response.messages { connections.cancel() }
        }
        Issue.record("no error")
      } catch let error as RPCError {
        #expect(error.code == .unavailable)
      }
      _ = await connections.result
      await record.cancelled.wait()
    }
  }

  @Test("a server that is gone fails open RPCs at once; one that comes back is found again")
  func reconnect() async throws {
    let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
    let events = EventLog()
    try await within {
      try await withClient(.unix(path), events: events) { client in
        for _ in 0..<5 {
          try await withServer(.unix(path)) { _, _, _, _ in
            var options = CallOptions.defaults
            options.waitForReady = true
            let answer = try await client.get([1], options: options)
            #expect(answer == [1])
          }
        }
      }
    }
    #expect(events.connected == 5)
  }

  @Test("a dead server is found out by an unanswered PING")
  func keepalive() async throws {
    try await within {
      let silent = try RawPeer.listen()
      let config = clientConfig {
        $0.keepalive = NGHTTP2Keepalive(
          interval: .milliseconds(50), timeout: .milliseconds(100), withoutCalls: true)
      }
      let events = EventLog()
      try await withClient(
        .tcp(host: "127.0.0.1", port: silent.port), events: events, config
      ) { client in
        // It greets, and then says nothing any more.
        let connection = try await silent.accept()
        connection.send(Frame.settings())
        let isFoundOut = try await eventually { !events.disconnectReasons.isEmpty }
        #expect(isFoundOut)
        #expect(events.disconnectReasons.first?.contains("PING") == true)
      }
    }
  }

  @Test("for how long nothing was heard is known, and answers to PINGs are heard")
  func silence() async throws {
    let config = clientConfig {
      $0.keepalive = NGHTTP2Keepalive(
        interval: .milliseconds(50), timeout: .seconds(20), withoutCalls: true)
    }
    try await within {
      let server = serverConfig { $0.minPingInterval = .milliseconds(10) }
      try await withServer(anyPort, server) { _, address, _, _ in
        let transport = try NGHTTP2ClientTransport(target: address, config: config)
        try await withGRPCClient(transport: transport) { _ in
          try await Task.sleep(for: .milliseconds(600))
          #expect(try #require(transport.silence) < .milliseconds(500))
        }
      }
      let silent = try RawPeer.listen()
      let transport = try NGHTTP2ClientTransport(
        target: .tcp(host: "127.0.0.1", port: silent.port), config: config)
      try await withGRPCClient(transport: transport) { _ in
        let connection = try await silent.accept()
        connection.send(Frame.settings())
        let isKnown = try await eventually {
          transport.silence.map { $0 > .milliseconds(500) } ?? false
        }
        #expect(isKnown)
      }
    }
  }

  @Test("a server that wants fewer PINGs gets fewer, and nothing is said of its silence")
  func calm() async throws {
    let config = clientConfig {
      $0.keepalive = NGHTTP2Keepalive(
        interval: .milliseconds(50), timeout: .seconds(20), withoutCalls: true)
    }
    try await within {
      try await withServer { _, address, _, _ in
        let transport = try NGHTTP2ClientTransport(target: address, config: config)
        try await withGRPCClient(transport: transport) { _ in
          let isCalm = try await eventually { transport.silence == nil }
          #expect(isCalm)
        }
      }
    }
  }

  @Test("a second listener at the same UNIX path is refused; a dead one's file is replaced")
  func unixPath() async throws {
    let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
    try await withServer(.unix(path)) { _, _, _, _ in
      let second = try NGHTTP2ServerTransport(address: .unix(path))
      await #expect(throws: RPCError.self) {
        try await second.listen { _, _ in }
      }
      await #expect(throws: RPCError.self) { try await second.listeningAddress }
    }
    try RawPeer.leaveDeadSocket(path)
    #expect(fileExists(path))
    try await withServer(.unix(path)) { _, address, _, _ in
      try await withClient(address) { client in
        let answer = try await client.get([1])
        #expect(answer == [1])
      }
    }
  }
}

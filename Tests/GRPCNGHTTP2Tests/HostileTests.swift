import GRPCCore
import GRPCNGHTTP2
import Testing

/// Each hostile client loses its connection (or its RPC), for the reason expected; everybody else
/// goes on being served.
@Suite("Hostile peers")
struct HostileTests {
  private func withHostile(
    _ config: NGHTTP2ServerConfig = serverConfig { _ in },
    _ body: @escaping @Sendable (RawPeer, EventLog) async throws -> Void
  ) async throws {
    try await within {
      try await withServer(anyPort, config) { _, address, _, events in
        guard case .tcp(_, let port) = address else { return }
        try await body(try RawPeer.connect(port), events)
        try await withClient(address) { client in
          let answer = try await client.get([1])
          #expect(answer == [1])
        }
      }
    }
  }

  private func greet(_ peer: RawPeer) async throws {
    peer.send(Frame.preface + Frame.settings())
    _ = try await peer.read(until: .settings)
    peer.send(Frame.make(.settings, flags: 1))
  }

  @Test("a client that does not speak HTTP/2 is disconnected")
  func badPreface() async throws {
    try await self.withHostile { peer, events in
      peer.send(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
      _ = try await peer.readToEnd()
      let isLogged = try await eventually {
        events.disconnectReasons.contains { $0.contains("HTTP/2 protocol") }
      }
      #expect(isLogged)
    }
  }

  @Test("a client that says nothing is disconnected in time")
  func silence() async throws {
    let config = serverConfig { $0.handshakeTimeout = .milliseconds(100) }
    try await self.withHostile(config) { peer, events in
      _ = try await peer.readToEnd()
      #expect(events.disconnectReasons.contains { $0.contains("preface") })
    }
  }

  @Test("a header block that is never finished is not waited for")
  func unfinishedHeaders() async throws {
    let config = serverConfig { $0.connection.stallTimeout = .milliseconds(200) }
    try await self.withHostile(config) { peer, events in
      try await self.greet(peer)
      peer.send(Frame.headers(1, flags: 0))  // no END_HEADERS
      _ = try await peer.readToEnd()
      #expect(events.disconnectReasons.contains { $0.contains("header block") })
    }
  }

  @Test("a frame above the announced size ends the connection with FRAME_SIZE_ERROR")
  func oversizeFrame() async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      peer.send(Frame.make(.data, stream: 1, length: 1_000_000))
      let goaway = try await peer.readToEnd()
      #expect(goaway?.goawayCode == 6)
    }
  }

  @Test("streams opened and reset in quick succession end the connection")
  func rapidReset() async throws {
    let config = serverConfig {
      $0.maxResetBurst = 100
      $0.maxResetsPerSecond = 1
    }
    try await self.withHostile(config) { peer, _ in
      try await self.greet(peer)
      for i in 0..<500 {
        let stream = UInt32(2 * i + 1)
        if !peer.send(Frame.headers(stream) + Frame.reset(stream)) { break }
      }
      let goaway = try await peer.readToEnd()
      #expect(goaway != nil)
    }
  }

  @Test("a flood of PINGs ends the connection with ENHANCE_YOUR_CALM")
  func pingFlood() async throws {
    try await self.withHostile { peer, events in
      try await self.greet(peer)
      for _ in 0..<1000 where peer.send(Frame.ping()) {}
      let goaway = try await peer.readToEnd()
      #expect(goaway == nil || goaway?.goawayCode == 11)
      #expect(events.disconnectReasons.contains { $0.contains("ping") })
    }
  }

  @Test("a flood of SETTINGS that is not read ends the connection")
  func settingsFlood() async throws {
    let config = serverConfig { $0.connection.maxOutboundAcknowledgements = 50 }
    try await self.withHostile(config) { peer, events in
      try await self.greet(peer)
      let flood = (0..<10_000).flatMap { _ in Frame.settings() }
      for _ in 0..<200 where peer.send(flood) {}
      _ = try await peer.readToEnd()
      #expect(!events.disconnectReasons.isEmpty)
    }
  }

  @Test("a flood of CONTINUATION frames ends the connection")
  func continuationFlood() async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      peer.send(Frame.headers(1, flags: 0))
      for _ in 0..<1000 {
        let more = Frame.make(.continuation, stream: 1, Frame.block([("a", "b")]))
        if !peer.send(more) { break }
      }
      _ = try await peer.readToEnd()
    }
  }

  @Test("headers above the limit are answered with resourceExhausted, without ending others")
  func headerFlood() async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      let many = Frame.request + (0..<400).map { ("name-\($0)", String(repeating: "v", count: 30)) }
      peer.send(Frame.headers(1, many, flags: 5))
      let answer = try await peer.read(until: .headers)
      #expect(answer?.stream == 1)
      // The same connection still serves.
      peer.send(Frame.headers(3) + Frame.data(3, [0, 0, 0, 0, 1, 9], end: true))
      let data = try await peer.read(until: .data)
      #expect(data?.stream == 3)
      #expect(data?.payload == [0, 0, 0, 0, 1, 9])
    }
  }

  @Test("streams above the limit are refused while the client may not know it")
  func tooManyStreams() async throws {
    let config = serverConfig { $0.maxConcurrentStreams = 10 }
    try await self.withHostile(config) { peer, _ in
      peer.send(Frame.preface + Frame.settings())
      for i in 0..<11 { peer.send(Frame.headers(UInt32(2 * i + 1))) }
      let reset = try await peer.read(until: .reset)
      #expect(reset?.stream == 21)
      #expect(reset?.payload == Frame.bytes(7))
    }
  }

  @Test("streams above the limit end the connection once the client knows it")
  func knowinglyTooManyStreams() async throws {
    let config = serverConfig { $0.maxConcurrentStreams = 10 }
    try await self.withHostile(config) { peer, _ in
      try await self.greet(peer)
      for i in 0..<11 { peer.send(Frame.headers(UInt32(2 * i + 1))) }
      let goaway = try await peer.readToEnd()
      #expect(goaway?.goawayCode == 1)
    }
  }

  @Test("connections above the limit are closed as they are accepted")
  func tooManyConnections() async throws {
    let config = serverConfig { $0.maxConnections = 3 }
    try await within {
      try await withServer(anyPort, config) { _, address, _, events in
        guard case .tcp(_, let port) = address else { return }
        let peers = try (0..<3).map { _ in try RawPeer.connect(port) }
        for peer in peers { try await self.greet(peer) }
        let extra = try RawPeer.connect(port)
        let frame = try await extra.read()
        #expect(frame == nil)
        let isLogged = events.all.contains { if case .refused = $0 { true } else { false } }
        #expect(isLogged)
      }
    }
  }

  @Test("a client that takes no bytes is disconnected in time")
  func stalledReader() async throws {
    let config = serverConfig { $0.connection.stallTimeout = .milliseconds(300) }
    try await self.withHostile(config) { peer, events in
      peer.send(Frame.preface + Frame.settings([(4, 0x7fff_ffff)]))
      peer.send(Frame.make(.windowUpdate, Frame.bytes(0x7fff_0000)))
      var request = Frame.request
      request[2].1 = "/test.Echo/Flood"
      let size = Array("100000".utf8)
      peer.send(Frame.headers(1, request))
      peer.send(Frame.data(1, [0, 0, 0, 0, UInt8(size.count)] + size, end: true))
      let isFoundOut = try await eventually {
        events.disconnectReasons.contains { $0.contains("takes no more bytes") }
      }
      #expect(isFoundOut)
    }
  }

  @Test(
    "a request that is not gRPC is answered as HTTP says",
    arguments: [
      (":method", "GET", "405"), ("content-type", "text/plain", "415"),
      ("content-type", "application/grpcx", "415"),
    ])
  func notGRPC(name: String, value: String, status: String) async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      let fields = Frame.request.map { $0.0 == name ? (name, value) : $0 }
      peer.send(Frame.headers(1, fields, flags: 5))
      let answer = try await peer.read(until: .headers)
      #expect(answer?.flags == 5)  // END_HEADERS, END_STREAM: no body
      // Three digits are not shorter in Huffman code: the status is there as text.
      let text = String(decoding: answer?.payload ?? [], as: UTF8.self)
      #expect(text.contains(status))
    }
  }

  @Test(
    "a message whose compression flag lies ends its RPC with internalError",
    arguments: [UInt8(1), 2, 255])
  func badFlag(flag: UInt8) async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      peer.send(Frame.headers(1) + Frame.data(1, [flag, 0, 0, 0, 1, 9], end: true))
      let answer = try await peer.read(until: .headers)
      #expect((answer?.flags ?? 0) & 1 == 1)
    }
  }

  @Test("a message cut off by the end of its stream ends its RPC")
  func cutOff() async throws {
    try await self.withHostile { peer, _ in
      try await self.greet(peer)
      peer.send(Frame.headers(1) + Frame.data(1, [0, 0, 0, 0, 9, 1, 2], end: true))
      let answer = try await peer.read(until: .headers)
      #expect((answer?.flags ?? 0) & 1 == 1)
    }
  }
}

/// A server that plays tricks on our client.
@Suite("Hostile servers")
struct HostileServerTests {
  private func call(
    answering answer: @escaping @Sendable (RawPeer, UInt32) async throws -> Void
  ) async throws -> RPCError? {
    try await within {
      let listener = try RawPeer.listen()
      return try await withClient(.tcp(host: "127.0.0.1", port: listener.port)) { client in
        let call = Task { try await client.get([1]) }
        let peer = try await listener.accept()
        try await peer.skip(Frame.preface.count)
        peer.send(Frame.settings() + Frame.make(.settings, flags: 1))
        let request = try await peer.read(until: .headers)
        try await answer(peer, request?.stream ?? 0)
        switch await call.result {
        case .success: return nil
        case .failure(let error): return error as? RPCError
        }
      }
    }
  }

  private static let ok: [(String, String)] = [
    (":status", "200"), ("content-type", "application/grpc"),
  ]

  @Test(
    "an HTTP status without a gRPC status becomes the status it means",
    arguments: [
      ("400", RPCError.Code.internalError), ("401", .unauthenticated), ("403", .permissionDenied),
      ("404", .unimplemented), ("429", .unavailable), ("502", .unavailable),
      ("503", .unavailable), ("504", .unavailable), ("500", .unknown), ("418", .unknown),
    ])
  func httpStatus(status: String, code: RPCError.Code) async throws {
    let error = try await self.call { peer, stream in
      peer.send(Frame.headers(stream, [(":status", status), ("content-type", "text/html")]))
      peer.send(Frame.data(stream, Array("<html>".utf8), end: true))
    }
    #expect(error?.code == code)
    let text = error?.message ?? ""
    #expect(text.contains(status))
  }

  @Test("an answer that is not gRPC is unknown, and the error says what it was")
  func notGRPC() async throws {
    let error = try await self.call { peer, stream in
      peer.send(
        Frame.headers(stream, [(":status", "200"), ("content-type", "text/html")], flags: 5))
    }
    #expect(error?.code == .unknown)
    let text = error?.message ?? ""
    #expect(text.contains("text/html"))
  }

  @Test("trailers alone carry a status")
  func trailersOnly() async throws {
    let error = try await self.call { peer, stream in
      let fields = Self.ok + [("grpc-status", "5"), ("grpc-message", "no%20such%20%zz%C3%A4")]
      peer.send(Frame.headers(stream, fields, flags: 5))
    }
    #expect(error?.code == .notFound)
    #expect(error?.message == "no such %zzä")
  }

  @Test(
    "a reset stream fails with the code its reason means",
    arguments: [
      (UInt32(0), RPCError.Code.internalError), (1, .internalError), (2, .internalError),
      (7, .unavailable), (8, .cancelled), (11, .resourceExhausted), (12, .permissionDenied),
    ])
  func reset(http2: UInt32, code: RPCError.Code) async throws {
    let error = try await self.call { peer, stream in peer.send(Frame.reset(stream, http2)) }
    #expect(error?.code == code)
  }

  @Test("a response without a status is an error, not a success")
  func noStatus() async throws {
    let error = try await self.call { peer, stream in
      peer.send(Frame.headers(stream, Self.ok))
      peer.send(Frame.data(stream, [0, 0, 0, 0, 1, 7], end: true))
    }
    #expect(error?.code == .internalError)
  }

  @Test("a status unknown to gRPC is unknown")
  func oddStatus() async throws {
    let error = try await self.call { peer, stream in
      peer.send(Frame.headers(stream, Self.ok + [("grpc-status", "99")], flags: 5))
    }
    #expect(error?.code == .unknown)
  }

  @Test("an RPC the server says it will not process fails as unavailable")
  func goaway() async throws {
    let error = try await self.call { peer, _ in peer.send(Frame.goaway(last: 0)) }
    #expect(error?.code == .unavailable)
  }

  @Test("a connection lost in the middle of an answer fails its RPC as unavailable")
  func lost() async throws {
    let error = try await self.call { peer, stream in
      peer.send(Frame.headers(stream, Self.ok))
      peer.send(Frame.make(.data, stream: stream, length: 100, [0, 0]))
      shutdownSocket(peer.fd)
    }
    #expect(error?.code == .unavailable)
  }

  @Test("metadata above the client's limit ends the RPC with resourceExhausted")
  func largeMetadata() async throws {
    let error = try await self.call { peer, stream in
      let large = (0..<20).map { ("name-\($0)", String(repeating: "v", count: 1000)) }
      peer.send(Frame.headers(stream, Self.ok + large))
    }
    #expect(error?.code == .resourceExhausted)
  }

  @Test("an informational response is not the response")
  func informational() async throws {
    let error = try await self.call { peer, stream in
      peer.send(Frame.headers(stream, [(":status", "103")]))
      peer.send(Frame.headers(stream, Self.ok + [("grpc-status", "6")], flags: 5))
    }
    #expect(error?.code == .alreadyExists)
  }
}

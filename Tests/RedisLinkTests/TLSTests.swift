import CSystem
import Testing

@testable import RedisLink

private let ping = RedisCommand("PING")

extension RealRedis {
  @Suite struct TLS {
    private let certificates: TestCertificates

    init() throws {
      certificates = try TestCertificates()
    }

    private func server(_ certificate: String = "server", clients: String = "no") throws
      -> TestRedis
    {
      try TestRedis { port in
        certificates.arguments(certificate, port: port, clients: clients)
      }
    }

    private func url(_ redis: TestRedis, _ tls: RedisTLS?, host: String = "127.0.0.1") -> RedisURL {
      RedisURL(host: host, port: redis.port, tls: tls)
    }

    /// Why the link is down after its first attempt.
    private func refusal(_ url: RedisURL) async throws -> String {
      let states = Recorder<RedisLinkState>()
      var options = quickOptions()
      options.connection.connectTimeout = .seconds(1)
      let link = try RedisLink(url, options: options) { states.add($0) }
      defer { link.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      guard case .down(let why, _, 1) = states.values[0] else { return "\(states.values)" }
      return "\(why)"
    }

    @Test("with the right CA a server is spoken to by address and by name, in large and in small")
    func spoken() async throws {
      let redis = try server()
      for host in ["127.0.0.1", "localhost"] {
        let link = try RedisLink(url(redis, certificates.tls, host: host))
        defer { link.close() }
        #expect(try await link.send(ping, timeout: .seconds(10)) == .status("PONG"))
        let large = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let results = try await link.send(
          [RedisCommand("SET", "large", .bytes(large)), RedisCommand("GET", "large")],
          timeout: .seconds(20))
        #expect(results == [.success(.status("OK")), .success(.bytes(large))])
        try await withThrowingTaskGroup(of: Bool.self) { group in
          for task in 0..<500 {
            group.addTask {
              try await link.send(RedisCommand("ECHO", .integer(Int64(task)))).int64 == Int64(task)
            }
          }
          for try await isRight in group { #expect(isRight) }
        }
      }
    }

    @Test("a server that dies is found again, and messages come through as well")
    func subscriberAndReturn() async throws {
      let redis = try server()
      let messages = Recorder<RedisMessage>()
      let statuses = Recorder<RedisSubscriberStatus>()
      var options = RedisSubscriberOptions()
      options.connection = quickConnection()
      let subscriber = try RedisSubscriber(
        url(redis, certificates.tls), options: options, onMessages: { messages.add($0) },
        onStatus: { statuses.add($0) })
      let link = try RedisLink(url(redis, certificates.tls), options: quickOptions())
      defer {
        subscriber.close()
        link.close()
      }
      try subscriber.subscribe([Array("news".utf8)])
      for generation in 1...2 as ClosedRange<UInt64> {
        try await statuses.wait("subscribed") {
          $0.last?.isComplete == true && $0.last?.generation == generation
            && $0.last?.subscribed == 1
        }
        #expect(try await link.send(RedisCommand("PUBLISH", "news", "x")) == .integer(1))
        try await messages.wait("the message") { $0.count == Int(generation) }
        if generation == 1 {
          redis.stop()
          try redis.start()
        }
      }
    }

    @Test("a CA that did not sign the server's certificate, and the system's, do not let it in")
    func wrongCA() async throws {
      let redis = try server()
      defer { redis.stop() }
      for tls in [RedisTLS(ca: certificates.path("stranger.pem")), RedisTLS()] {
        #expect(try await refusal(url(redis, tls)).contains("not trusted"))
      }
    }

    @Test("a certificate for another host is refused, and what it is for is said")
    func wrongHost() async throws {
      let redis = try server("elsewhere")
      defer { redis.stop() }
      let why = try await refusal(url(redis, certificates.tls))
      #expect(why.contains("not for 127.0.0.1 (it is for redis.example)"), "\(why)")
    }

    @Test("a certificate that has expired is refused")
    func expired() async throws {
      let redis = try server("expired")
      defer { redis.stop() }
      let why = try await refusal(url(redis, certificates.tls))
      #expect(why.contains("expired"), "\(why)")
    }

    @Test("a server that wants a client certificate gets it; without one the reason is told")
    func client() async throws {
      let redis = try server(clients: "yes")
      defer { redis.stop() }
      let link = try RedisLink(url(redis, certificates.tlsWithClient))
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))
      let why = try await refusal(url(redis, certificates.tls))
      #expect(why.contains("client certificate"), "\(why)")
    }

    @Test("TLS to a server without it, and none to a server with it, are told apart from silence")
    func mismatch() async throws {
      let plain = try TestRedis()
      defer { plain.stop() }
      let why = try await refusal(url(plain, certificates.tls))
      #expect(why.contains("TLS") && why.contains("redis://"), "\(why)")
      let wanting = try server()
      defer { wanting.stop() }
      let wanted = try await refusal(url(wanting, nil))
      #expect(wanted.contains("rediss://"), "\(wanted)")
    }

    @Test("a server that stalls in the handshake costs an attempt no more than its time")
    func stall() async throws {
      let stalling = try FakeServer { $0.hold() }
      let before = csys_clock_boottime()
      let why = try await refusal(
        RedisURL(host: "127.0.0.1", port: stalling.port, tls: certificates.tls))
      #expect(csys_clock_boottime() - before < 1_400_000_000)
      #expect(why.contains("handshake"), "\(why)")
    }

    @Test("files that cannot be used are told when the link is made, with their name")
    func files() throws {
      let bad = [
        RedisTLS(ca: "/nonexistent.pem"), RedisTLS(ca: certificates.path("ca.key")),
        RedisTLS(ca: certificates.path("ca.pem"), certificate: certificates.path("ca.key")),
        RedisTLS(
          ca: certificates.path("ca.pem"), certificate: certificates.path("client.pem"),
          key: certificates.path("server.key")),
      ]
      let named = ["/nonexistent.pem", "ca.key", "ca.key", "server.key"]
      for (tls, name) in zip(bad, named) {
        do {
          _ = try RedisLink(RedisURL(host: "127.0.0.1", tls: tls))
          Issue.record("taken: \(tls)")
        } catch {
          #expect("\(error)".contains(name), "\(error)")
        }
      }
    }

    @Test("a CA file that is put right while the link tries is read anew")
    func renewed() async throws {
      let redis = try server()
      defer { redis.stop() }
      let path = certificates.path("changing.pem")
      try copy(certificates.path("stranger.pem"), path)
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url(redis, RedisTLS(ca: path)), options: quickOptions()) {
        states.add($0)
      }
      defer { link.close() }
      try await states.wait("refused") { !$0.isEmpty }
      try copy(certificates.path("ca.pem"), path)
      try await states.wait("up") { $0.last?.isUp == true }
    }
  }
}

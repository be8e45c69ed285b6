import RedisLink
import Testing

private let ping = RedisCommand("PING")

extension RealRedis {
  @Suite struct Access {
    /// Why the link is down after its first attempt.
    private func refusal(_ url: RedisURL) async throws -> String {
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      guard case .down(let why, _, 1) = states.values[0] else { return "\(states.values)" }
      return "\(why)"
    }

    @Test("the right password lets us in; a wrong, a missing and a needless one say so")
    func password() async throws {
      let redis = try TestRedis("--requirepass", "se cret")
      let address = (host: "127.0.0.1", port: redis.port)
      let link = try RedisLink(
        RedisURL(host: address.host, port: address.port, password: "se cret"))
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))

      let wrong = try await refusal(
        RedisURL(host: address.host, port: address.port, password: "wrong"))
      #expect(wrong.contains("WRONGPASS"))
      #expect(try await refusal(redis.url).contains("NOAUTH"))

      let open = try TestRedis()
      let needless = try await refusal(
        RedisURL(host: "127.0.0.1", port: open.port, password: "any"))
      #expect(needless.contains("without any password configured"))
    }

    @Test("a user of the access control list gets in with the rights it has")
    func user() async throws {
      let redis = try TestRedis()
      let admin = try RedisLink(redis.url)
      defer { admin.close() }
      let rights = ["on", ">pass", "~ours:*", "+get", "+set", "+ping"]
      #expect(
        try await admin.send(
          RedisCommand("ACL", [.string("SETUSER"), .string("ann")] + rights.map { .string($0) })
        ).isOK)
      var options = quickOptions()
      // Refused by the list, and no reason to stay out.
      options.connection.clientName = "node-1"
      let link = try RedisLink(
        RedisURL(host: "127.0.0.1", port: redis.port, user: "ann", password: "pass"),
        options: options)
      defer { link.close() }
      #expect(try await link.send(RedisCommand("SET", "ours:1", "x")).isOK)
      do {
        _ = try await link.send(RedisCommand("SET", "theirs", "x"))
        Issue.record("not refused")
      } catch {
        guard case .server(let answer) = error else {
          Issue.record("\(error)")
          return
        }
        #expect(answer.code == "NOPERM")
      }
    }

    @Test("the database of the URL is selected and the client named, on every connection")
    func databaseAndName() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      options.connection.clientName = "node-1"
      let link = try RedisLink(
        RedisURL(host: "127.0.0.1", port: redis.port, database: 3), options: options)
      defer { link.close() }
      for _ in 0..<2 {
        #expect(
          try await link.send(RedisCommand("CLIENT", "GETNAME")) == .bytes(Array("node-1".utf8)))
        let info = try #require(try await link.send(RedisCommand("CLIENT", "INFO")).string)
        #expect(info.contains(" db=3 "))
        redis.stop()
        try redis.start()
      }
      #expect(
        try await refusal(RedisURL(host: "127.0.0.1", port: redis.port, database: 99))
          .contains("out of range"))
    }

    @Test("a host is found by name; one that is not known is said to be so")
    func names() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(RedisURL(host: "localhost", port: redis.port))
      defer { link.close() }
      #expect(try await link.send(ping, timeout: .seconds(10)) == .status("PONG"))
      let unknown = try await refusal(RedisURL(host: "no-such-host.invalid"))
      #expect(unknown.contains("no-such-host.invalid"))
    }

    @Test("options that break a law are refused with the law", arguments: 0..<6)
    func laws(which: Int) {
      var options = RedisLinkOptions()
      switch which {
      case 0: options.connection.clientName = "two words"
      case 1: options.connection.backOffFirst = .seconds(3)
      case 2: options.connection.pingTimeout = .zero
      case 3: options.connection.replyBytesMax = 10
      case 4: options.commandTimeout = .zero
      default: options.commandsMax = 0
      }
      #expect(throws: RedisOptionsError.self) {
        try RedisLink(RedisURL(host: "127.0.0.1"), options: options)
      }
    }

    @Test("many tasks at once get each its own reply, and large values pass whole")
    func concurrency() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for task in 0..<50 {
          group.addTask {
            for turn in 0..<100 {
              let text = "\(task):\(turn)"
              let reply = try await link.send(RedisCommand("ECHO", .string(text)))
              if reply.string != text { return false }
            }
            return true
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
      let large = (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      let results = try await link.send(
        [
          RedisCommand("SET", "large", .bytes(large)), RedisCommand("GET", "large"),
        ], timeout: .seconds(20))
      #expect(results == [.success(.status("OK")), .success(.bytes(large))])
    }
  }
}

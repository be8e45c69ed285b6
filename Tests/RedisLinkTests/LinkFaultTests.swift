import CSystem
import Glibc
import Testing

@testable import RedisLink

/// Short times, so that faults are found within a test's patience.
func quickOptions() -> RedisLinkOptions {
  var options = RedisLinkOptions()
  options.connection = quickConnection()
  options.commandTimeout = .seconds(10)
  return options
}

func quickConnection() -> RedisConnectionOptions {
  var options = RedisConnectionOptions()
  options.connectTimeout = .milliseconds(300)
  options.backOffFirst = .milliseconds(10)
  options.backOffMost = .milliseconds(50)
  options.pingAfter = .milliseconds(200)
  options.pingTimeout = .milliseconds(200)
  return options
}

private let echo = RedisCommand("ECHO", "x")
private let echoed = RedisValue.bytes([UInt8(ascii: "x")])

/// Waits until the server holds a client back in BLPOP: its command has arrived.
private func blocked(at redis: TestRedis) async throws {
  let link = try RedisLink(redis.url)
  defer { link.close() }
  let until = csys_clock_boottime() + 10_000_000_000
  while csys_clock_boottime() < until {
    let info = try await link.send(RedisCommand("INFO", "clients"))
    if info.string?.contains("blocked_clients:1") == true { return }
  }
  Issue.record("no client is blocked")
}

extension RealRedis {
  @Suite struct LinkFaults {
    @Test("a command that is not answered in time costs the connection and those behind it")
    func timeout() async throws {
      let redis = try TestRedis()
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      #expect(try await link.send(echo) == echoed)
      let results = Recorder<Result<RedisValue, RedisError>>()
      let before = csys_clock_boottime()
      try link.submit(RedisCommand("DEBUG", "SLEEP", "1"), timeout: .milliseconds(100)) {
        results.add($0)
      }
      try link.submit(echo) { results.add($0) }
      try await results.wait("both ends") { $0.count == 2 }
      #expect(csys_clock_boottime() - before < 900_000_000)
      #expect(
        results.values == [.failure(.unknown(.timeout)), .failure(.unknown(.abandoned))])
      #expect(try await link.send(echo) == echoed)
      try await states.wait("up again") { $0.last?.isUp == true && $0.count >= 3 }
      guard case .down(.timeout, _, 0) = states.values[1] else {
        Issue.record("\(states.values)")
        return
      }
    }

    @Test("a server that pauses its clients longer than a command waits is a timeout")
    func clientPause() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url, options: quickOptions())
      defer { link.close() }
      #expect(try await link.send(RedisCommand("CLIENT", "PAUSE", 600)).isOK)
      await #expect(throws: RedisError.unknown(.timeout)) {
        try await link.send(echo, timeout: .milliseconds(150))
      }
      #expect(try await link.send(echo) == echoed)
    }

    @Test("while the server is absent commands wait, and those whose time is up were not sent")
    func absentAtStart() async throws {
      let redis = try TestRedis(isStarted: false)
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      let late = Recorder<Result<RedisValue, RedisError>>()
      try link.submit(RedisCommand("INCR", "n")) { late.add($0) }
      do {
        _ = try await link.send(echo, timeout: .milliseconds(100))
        Issue.record("answered by nobody")
      } catch {
        guard case .notSent(.system(let doing, ECONNREFUSED)) = error else {
          Issue.record("\(error)")
          return
        }
        #expect(doing.contains("127.0.0.1:\(redis.port)"))
        #expect("\(error)".contains("Connection refused"))
      }
      try await states.wait("several attempts") { $0.count >= 3 }
      guard case .down(_, let since, let attempts) = states.values[2] else {
        Issue.record("\(states.values)")
        return
      }
      #expect(attempts == 3 && since > 0)
      try redis.start()
      try await late.wait("the one that waited") { !$0.isEmpty }
      #expect(late.values == [.success(.integer(1))])
      #expect(link.state.isUp)
    }

    @Test("a link told to fail when down fails at once, and not when up")
    func failWhenDown() async throws {
      let redis = try TestRedis(isStarted: false)
      var options = quickOptions()
      options.whenDown = .fail
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: options) { states.add($0) }
      defer { link.close() }
      let before = csys_clock_boottime()
      do {
        _ = try await link.send(echo)
        Issue.record("answered by nobody")
      } catch {
        #expect(error.isSafeToRepeat)
      }
      #expect(csys_clock_boottime() - before < 1_000_000_000)
      try redis.start()
      try await states.wait("up") { $0.last?.isUp == true }
      #expect(try await link.send(echo) == echoed)
    }

    @Test(
      "a server that is killed leaves what was sent in doubt, and is found again once it is back")
    func killed() async throws {
      let redis = try TestRedis()
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      #expect(try await link.send(echo) == echoed)
      let results = Recorder<Result<RedisValue, RedisError>>()
      try link.submit(RedisCommand("BLPOP", "list", 0)) { results.add($0) }
      try await blocked(at: redis)
      redis.stop()
      try await results.wait("the end") { !$0.isEmpty }
      guard case .failure(.unknown(let why)) = results.values[0] else {
        Issue.record("\(results.values)")
        return
      }
      #expect(why == .closedByPeer || why == .system(doing: "receiving", errno: ECONNRESET))
      #expect(!RedisError.unknown(why).isSafeToRepeat)
      try redis.start()
      #expect(try await link.send(echo) == echoed)
      guard case .up(_, let generation) = link.state else {
        Issue.record("\(link.state)")
        return
      }
      #expect(generation == 2)
    }

    @Test("an idle link to a server that hangs is found half-open within the stated time")
    func frozen() async throws {
      let redis = try TestRedis()
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      #expect(try await link.send(echo) == echoed)
      let before = csys_clock_boottime()
      redis.freeze()
      try await states.wait("down") { $0.count >= 2 }
      // pingAfter + pingTimeout, and some for a busy machine.
      #expect(csys_clock_boottime() - before < 1_400_000_000)
      guard case .down(.timeout, _, 0) = states.values[1] else {
        Issue.record("\(states.values)")
        return
      }
      // The kernel still accepts for it; nobody lets us in.
      try await states.wait("an attempt that timed out") { $0.count >= 3 }
      guard case .down(.timeout, _, 1) = states.values[2] else {
        Issue.record("\(states.values)")
        return
      }
      redis.thaw()
      try await states.wait("up again") { $0.last?.isUp == true }
      #expect(try await link.send(echo) == echoed)
    }

    @Test("a server that accepts and never answers is given up at the connect timeout")
    func blackHole() async throws {
      let hole = try FakeServer { $0.hold() }
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(hole.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      let before = csys_clock_boottime()
      await #expect(throws: RedisError.notSent(.timeout)) {
        try await link.send(echo, timeout: .milliseconds(600))
      }
      #expect(csys_clock_boottime() - before < 2_000_000_000)
      try await states.wait("a second attempt") { $0.count >= 2 }
      #expect(!states.values.contains { $0.isUp })
    }

    @Test("a command that does not fit through a stalled connection was not sent")
    func stalled() async throws {
      let hole = try FakeServer { connection in
        // Lets us in and reads no more.
        if connection.welcome() { _ = FakeConnection.wait(for: connection.stopped, or: -1) }
      }
      let link = try RedisLink(hole.url, options: quickOptions())
      defer { link.close() }
      let large = RedisCommand("SET", "k", .bytes([UInt8](repeating: 1, count: 32 << 20)))
      await #expect(throws: RedisError.notSent(.timeout)) {
        try await link.send(large, timeout: .milliseconds(500))
      }
    }

    @Test(
      "junk from the server is the end of that connection, with a word of why",
      arguments: [
        "HTTP/1.1 400 Bad Request\r\n\r\n", "+PONG\r\n+PONG\r\n", "\u{0}\u{1}\u{2}\r\n", ":1\r\n",
      ])
    func junk(text: String) async throws {
      let server = try FakeServer { connection in
        guard connection.receive() != nil else { return }
        connection.send(text)
        connection.hold()
      }
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(server.url, options: quickOptions()) { states.add($0) }
      defer { link.close() }
      try await states.wait("refused for what it said") { states in
        states.contains { state in
          if case .down(.protocolViolation(let why), _, _) = state { return !why.isEmpty }
          return false
        }
      }
    }

    @Test("junk in the place of a reply leaves the command in doubt, and the link tries again")
    func junkReply() async throws {
      let server = try FakeServer { connection in
        guard connection.welcome(), connection.receive() != nil else { return }
        connection.send("?\r\n")
        connection.hold()
      }
      let link = try RedisLink(server.url, options: quickOptions())
      defer { link.close() }
      for _ in 0..<2 {
        do {
          _ = try await link.send(echo)
          Issue.record("taken for a reply")
        } catch {
          guard case .unknown(.protocolViolation) = error else {
            Issue.record("\(error)")
            return
          }
        }
      }
    }

    @Test("a connection cut within a reply leaves the command in doubt")
    func cutReply() async throws {
      let server = try FakeServer { connection in
        guard connection.welcome(), connection.receive() != nil else { return }
        connection.send("$5\r\nhel")
      }
      let link = try RedisLink(server.url, options: quickOptions())
      defer { link.close() }
      await #expect(throws: RedisError.unknown(.closedByPeer)) { try await link.send(echo) }
    }

    @Test("a reply beyond the limit is refused, and the link goes on afterwards")
    func oversizeReply() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      options.connection.replyBytesMax = 64 << 10
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      let large = [UInt8](repeating: 7, count: 200_000)
      #expect(try await link.send(RedisCommand("SET", "large", .bytes(large))).isOK)
      await #expect(throws: RedisError.unknown(.replyTooLarge)) {
        try await link.send(RedisCommand("GET", "large"))
      }
      #expect(try await link.send(RedisCommand("STRLEN", "large")) == .integer(200_000))
    }

    @Test("commands beyond the limits are refused at once, and taken again when others have ended")
    func limits() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      options.commandsMax = 3
      options.commandBytesMax = 1000
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      #expect(try await link.send(echo) == echoed)
      redis.freeze()
      let ended = Recorder<Int>()
      try link.submit([echo, echo]) { _ in ended.add(2) }
      try link.submit(echo) { _ in ended.add(1) }
      #expect(throws: RedisError.notSent(.full)) { try link.submit(echo) { _ in ended.add(9) } }
      redis.thaw()
      try await ended.wait("those taken") { $0 == [2, 1] }
      #expect(try await link.send(echo) == echoed)
      await #expect(throws: RedisError.notSent(.full)) {
        try await link.send(RedisCommand("SET", "k", .bytes([UInt8](repeating: 0, count: 1000))))
      }
      // From within a reply, too: its own place is free by then.
      let inner = Recorder<Bool>()
      try link.submit([echo, echo, echo]) { _ in
        inner.add((try? link.submit([echo, echo, echo]) { _ in inner.add(true) }) != nil)
      }
      try await inner.wait("the inner ones") { $0 == [true, true] }
    }

    @Test("a closed link ends every command once, and takes no more")
    func close() async throws {
      let redis = try TestRedis()
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(redis.url, options: quickOptions()) { states.add($0) }
      #expect(try await link.send(echo) == echoed)
      let results = Recorder<Result<RedisValue, RedisError>>()
      try link.submit(RedisCommand("BLPOP", "list", 0)) { results.add($0) }
      try await blocked(at: redis)
      link.close()
      try await results.wait("its end") { !$0.isEmpty }
      #expect(results.values == [.failure(.unknown(.closed))])
      try await states.wait("closed") { $0.last == .closed }
      await #expect(throws: RedisError.notSent(.closed)) { try await link.send(echo) }
      #expect(link.state == .closed)
      link.close()

      let absent = try RedisLink(RedisURL(host: "127.0.0.1", port: try freePort()))
      try absent.submit(echo) { results.add($0) }
      absent.close()
      try await results.wait("its end, too") { $0.count == 2 }
      #expect(results.values[1] == .failure(.notSent(.closed)))
    }

    @Test("a link that nobody holds any more closes itself")
    func released() async throws {
      let redis = try TestRedis()
      let states = Recorder<RedisLinkState>()
      var link: RedisLink? = try RedisLink(redis.url) { states.add($0) }
      #expect(try await link?.send(echo) == echoed)
      link = nil
      try await states.wait("closed") { $0.last == .closed }
    }

    @Test("a task that is cancelled already sends nothing")
    func cancelled() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      let task = Task {
        while !Task.isCancelled { await Task.yield() }
        return try await link.send(RedisCommand("SET", "k", "v"))
      }
      task.cancel()
      await #expect(throws: RedisError.notSent(.cancelled)) { try await task.value }
      #expect(try await link.send(RedisCommand("EXISTS", "k")) == .integer(0))
    }
  }
}

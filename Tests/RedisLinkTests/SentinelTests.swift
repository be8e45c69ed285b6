import CSystem
import Testing

@testable import RedisLink

private let ping = RedisCommand("PING")
private let role = RedisCommand("ROLE")

/// The options of `quickOptions`, with time for a search.
private func options() -> RedisLinkOptions {
  var options = quickOptions()
  options.connection.connectTimeout = .seconds(1)
  options.connection.sentinelTimeout = .milliseconds(300)
  return options
}

private func url(_ sentinels: [RedisAddress], master: String = "ours") -> RedisURL {
  RedisURL(.sentinels(RedisSentinels(sentinels, master: master)))
}

extension RealRedis {
  @Suite struct Sentinel {
    @Test(
      "failovers, ordered or because the master died, are followed; without sentinels a link goes on"
    )
    func failover() async throws {
      let rig = try await SentinelRig()
      defer { rig.stop() }
      // The first of those named is dead.
      let dead = RedisAddress(host: "127.0.0.1", port: try freePort())
      let url = url([dead] + rig.sentinels.map(\.address))
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url, options: options()) { states.add($0) }
      let messages = Recorder<RedisMessage>()
      let statuses = Recorder<RedisSubscriberStatus>()
      var subscriberOptions = RedisSubscriberOptions()
      subscriberOptions.connection = options().connection
      let subscriber = try RedisSubscriber(
        url, options: subscriberOptions, onMessages: { messages.add($0) },
        onStatus: { statuses.add($0) })
      let switches = Recorder<UInt64>()
      let listener = try RedisSubscriber(
        RedisURL(.server(rig.sentinels[1].address)),
        onMessages: { for _ in $0 { switches.add(csys_clock_boottime()) } })
      try listener.subscribe([Array("+switch-master".utf8)])
      defer {
        link.close()
        subscriber.close()
        listener.close()
      }
      try subscriber.subscribe([Array("news".utf8)])
      #expect(try await link.send(RedisCommand("SET", "key", 1)).isOK)
      try await statuses.wait("subscribed") { $0.last?.subscribed == 1 }

      /// Waits until link and subscriber are at `server`, for the `nth` time somewhere.
      func followed(to server: TestRedis, _ nth: UInt64) async throws {
        try await states.wait("followed") {
          if case .up(_, nth) = $0.last { true } else { false }
        }
        try await statuses.wait("subscribed again") {
          $0.last?.generation == nth && $0.last?.subscribed == 1
        }
        #expect(try await link.send(role).array?.first?.string == "master")
        let config = try await link.send(RedisCommand("CONFIG", "GET", "port"))
        #expect(config.array?.last?.int64 == Int64(server.port))
        #expect(try await link.send(RedisCommand("PUBLISH", "news", "x")) == .integer(1))
        try await messages.wait("the message") { $0.count == Int(nth) - 1 }
        // Each sentinel says so in its own time; this is one of three.
        try await switches.wait("the switch") { $0.count >= Int(nth) - 1 }
        guard case .up(let since, _) = link.state else { return }
        let at = switches.values[Int(nth) - 2]
        #expect(since < at + 1_000_000_000, "\(since) is too long after \(at)")
      }

      let ordered = try RedisLink(RedisURL(.server(rig.sentinels[0].address)))
      defer { ordered.close() }
      #expect(try await ordered.send(RedisCommand("SENTINEL", "FAILOVER", "ours")).isOK)
      try await followed(to: rig.replica, 2)

      // The old master is to be a replica before it can be one to fall back to.
      try await SentinelRig.wait("demotion", at: rig.master.address, RedisCommand("INFO")) {
        $0.string?.contains("master_link_status:up") == true
      }
      try await SentinelRig.wait(
        "known again", at: rig.sentinels[0].address, RedisCommand("SENTINEL", "REPLICAS", "ours")
      ) {
        let words = $0.array?.first?.array?.compactMap(\.string) ?? []
        return words.contains("\(rig.master.port)") && words.contains("ok")
      }
      rig.replica.stop()
      try await followed(to: rig.master, 3)

      for sentinel in rig.sentinels { sentinel.stop() }
      #expect(try await link.send(ping) == .status("PONG"))
      guard case .up(_, 3) = link.state else {
        Issue.record("\(link.state)")
        return
      }
      rig.master.stop()
      try await states.wait("nobody knows") {
        if case .down(.noMaster(let why), _, _) = $0.last {
          why.contains("sentinels answers")
        } else {
          false
        }
      }
    }

    @Test("a master's name that no sentinel knows is said to be the reason")
    func unknownName() async throws {
      let master = try TestRedis()
      let sentinel = try TestSentinel(master: master, quorum: 1)
      defer {
        master.stop()
        sentinel.stop()
      }
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url([sentinel.address], master: "theirs"), options: options()) {
        states.add($0)
      }
      defer { link.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      guard case .down(let why, _, 1) = states.values[0] else {
        Issue.record("\(states.values)")
        return
      }
      #expect("\(why)".contains("no master by the name \"theirs\""), "\(why)")
    }

    @Test("what sentinels call the master is left if it is a replica, and another answer is taken")
    func demoted() async throws {
      let master = try TestRedis()
      let replica = try TestRedis("--replicaof", "127.0.0.1 \(master.port)")
      defer {
        master.stop()
        replica.stop()
      }
      let stale = try FakeSentinel(replica.address)
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url([stale.address]), options: options()) { states.add($0) }
      defer { link.close() }
      try await states.wait("refusals") { $0.count >= 2 }
      guard case .down(.notMaster(let what), _, 2) = states.values[1] else {
        Issue.record("\(states.values)")
        return
      }
      #expect(what.contains("slave"))
      stale.answer(master.address)
      #expect(try await link.send(RedisCommand("SET", "key", 1)).isOK)

      // With two answers, the one that was not just found wanting is taken.
      let states2 = Recorder<RedisLinkState>()
      let first = try FakeSentinel(replica.address)
      let second = try FakeSentinel(master.address)
      let link2 = try RedisLink(url([first.address, second.address]), options: options()) {
        states2.add($0)
      }
      defer { link2.close() }
      try await states2.wait("up") { $0.last?.isUp == true }
      #expect(states2.values.count <= 2)
    }

    @Test("a master that becomes read-only is left at its first refusal, and others' answers taken")
    func readOnly() async throws {
      let old = try TestRedis()
      let new = try TestRedis()
      defer {
        old.stop()
        new.stop()
      }
      let sentinel = try FakeSentinel(old.address)
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url([sentinel.address]), options: options()) { states.add($0) }
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))
      sentinel.answer(new.address)
      #expect(try await link.send(RedisCommand("REPLICAOF", "127.0.0.1", "1")).isOK)
      do {
        _ = try await link.send(RedisCommand("SET", "key", 1))
        Issue.record("taken")
      } catch {
        guard case .server(let answer) = error, answer.code == "READONLY" else {
          Issue.record("\(error)")
          return
        }
      }
      #expect(try await link.send(RedisCommand("SET", "key", 1)).isOK)
      try await states.wait("followed") { $0.last?.isUp == true && $0.count >= 3 }
    }

    @Test("a switch is followed from rest as well, and what waited is carried out there")
    func fromRest() async throws {
      let old = try TestRedis()
      let new = try TestRedis()
      defer {
        old.stop()
        new.stop()
      }
      let sentinel = try FakeSentinel(old.address)
      var slow = options()
      slow.connection.backOffFirst = .seconds(8)
      slow.connection.backOffMost = .seconds(8)
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(url([sentinel.address]), options: slow) { states.add($0) }
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))
      old.stop()
      try await states.wait("down") { $0.last?.isUp == false }
      let waiting = Recorder<Result<RedisValue, RedisError>>()
      try link.submit(RedisCommand("INCR", "n")) { waiting.add($0) }
      let before = csys_clock_boottime()
      sentinel.announce(new.address)
      try await waiting.wait("the one that waited") { !$0.isEmpty }
      #expect(waiting.values == [.success(.integer(1))])
      #expect(csys_clock_boottime() - before < 2_000_000_000)
    }

    @Test("sentinels that answer garbage, nothing, or too late cost no more than their time")
    func broken() async throws {
      let master = try TestRedis()
      defer { master.stop() }
      let garbage = try FakeServer { connection in
        while connection.receive() != nil { connection.send("HTTP/1.1 400 Bad Request\r\n\r\n") }
      }
      let nonsense = try FakeServer { connection in
        while connection.receive() != nil {
          connection.send("*2\r\n$1\r\nx\r\n$5\r\n99999\r\n")
        }
      }
      let silent = try FakeServer { $0.hold() }
      let bad = [garbage, nonsense, silent].map { RedisAddress(host: "127.0.0.1", port: $0.port) }
      let states = Recorder<RedisLinkState>()
      let before = csys_clock_boottime()
      let lost = try RedisLink(url(bad), options: options()) { states.add($0) }
      defer { lost.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      guard case .down(.noMaster(let why), _, 1) = states.values[0] else {
        Issue.record("\(states.values)")
        return
      }
      #expect(why.contains("none of the 3 sentinels answers"))
      #expect(csys_clock_boottime() - before < 900_000_000)

      let good = try FakeSentinel(master.address)
      let link = try RedisLink(url(bad + [good.address]), options: options())
      defer { link.close() }
      #expect(try await link.send(ping, timeout: .milliseconds(1500)) == .status("PONG"))
    }

    @Test("a sentinel that falls silent while it is listened to is asked, given up and tried again")
    func silence() async throws {
      let master = try TestRedis()
      defer { master.stop() }
      let connections = Recorder<Int>()
      let sentinel = try FakeServer { connection in
        guard connection.receive() != nil else { return }
        connections.add(1)
        connection.send(
          "*2\r\n$9\r\n127.0.0.1\r\n$\("\(master.port)".count)\r\n\(master.port)\r\n"
            + "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n")
        connection.hold()
      }
      let link = try RedisLink(
        url([RedisAddress(host: "127.0.0.1", port: sentinel.port)]), options: options())
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))
      try await connections.wait("a second connection") { $0.count >= 2 }
      guard case .up(_, 1) = link.state else {
        Issue.record("\(link.state)")
        return
      }
    }

    @Test("users with no more than the rights that are documented get in, at sentinel and server")
    func rights() async throws {
      let master = try TestRedis()
      let sentinel = try TestSentinel(
        master: master, quorum: 1,
        extra: [
          "user default off",
          "user watcher on >wa:tch resetchannels &+switch-master -@all +auth +ping +subscribe"
            + " +unsubscribe +sentinel|get-master-addr-by-name",
        ])
      defer {
        master.stop()
        sentinel.stop()
      }
      let admin = try RedisLink(master.url)
      defer { admin.close() }
      let rights = ["on", ">pass", "~ours:*", "-@all", "+ping", "+role", "+set"]
      #expect(
        try await admin.send(
          RedisCommand("ACL", [.string("SETUSER"), .string("ann")] + rights.map { .string($0) })
        ).isOK)
      let text =
        "redis+sentinel://ann:pass@127.0.0.1:\(sentinel.port)/ours"
        + "?sentinel-user=watcher&sentinel-password=wa%3Atch"
      let link = try RedisLink(RedisURL(parsing: text), options: options())
      defer { link.close() }
      #expect(try await link.send(RedisCommand("SET", "ours:1", "x")).isOK)

      let states = Recorder<RedisLinkState>()
      let wrong = try RedisLink(
        RedisURL(parsing: "redis+sentinel://127.0.0.1:\(sentinel.port)/ours"), options: options()
      ) { states.add($0) }
      defer { wrong.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      #expect("\(states.values[0])".contains("NOAUTH"), "\(states.values[0])")
    }

    @Test("sentinel and server are both spoken to by TLS")
    func tls() async throws {
      let certificates = try TestCertificates()
      let master = try TestRedis { certificates.arguments(port: $0) }
      let port = try freePort()
      let sentinel = try TestSentinel(
        master: master, quorum: 1,
        extra: ["tls-replication yes"]
          + certificates.pairs(certificates.arguments(port: port).dropFirst(2)))
      defer {
        master.stop()
        sentinel.stop()
      }
      let text =
        "rediss+sentinel://localhost:\(port)/ours?ca=\(certificates.path("ca.pem"))"
      let link = try RedisLink(RedisURL(parsing: text), options: options())
      defer { link.close() }
      #expect(try await link.send(ping) == .status("PONG"))
      #expect(
        try await link.send(RedisCommand("CONFIG", "GET", "tls-port")).array?.last?.int64
          == Int64(master.port))
    }
  }
}

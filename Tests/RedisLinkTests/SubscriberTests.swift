import CSystem
import Glibc
import Synchronization
import Testing

@testable import RedisLink

private func quickSubscriber() -> RedisSubscriberOptions {
  var options = RedisSubscriberOptions()
  let limits = options.connection.replyBytesMax
  options.connection = quickConnection()
  options.connection.replyBytesMax = limits
  options.confirmTimeout = .seconds(2)
  return options
}

private func names(_ numbers: some Sequence<Int>) -> [[UInt8]] {
  numbers.map { Array("\($0)".utf8) }
}

extension RedisMessage {
  fileprivate var text: String {
    String(decoding: channel, as: UTF8.self) + "=" + String(decoding: payload, as: UTF8.self)
  }
}

extension RealRedis {
  @Suite struct Subscriber {
    private let messages = Recorder<RedisMessage>()
    private let statuses = Recorder<RedisSubscriberStatus>()

    private func subscriber(
      _ url: RedisURL, options: RedisSubscriberOptions = quickSubscriber()
    ) throws -> RedisSubscriber {
      try RedisSubscriber(
        url, options: options, onMessages: { [messages] in messages.add($0) },
        onStatus: { [statuses] in statuses.add($0) })
    }

    @Test(
      "what is published before a channel is confirmed is not heard, what comes after is, in order")
    func publish() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      let subscriber = try subscriber(redis.url)
      defer {
        link.close()
        subscriber.close()
      }
      #expect(try await link.send(RedisCommand("PUBLISH", "12345", "early")) == .integer(0))
      let revision = try subscriber.subscribe(names([12345, 67890]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      let status = subscriber.currentStatus
      #expect(status.isComplete && status.subscribed == 2 && status.desired == 2)
      #expect(status.generation == 1)
      for number in 0..<1000 {
        try link.submit(RedisCommand("PUBLISH", "12345", .integer(Int64(number)))) { _ in }
      }
      #expect(try await link.send(RedisCommand("PUBLISH", "67890", "last")) == .integer(1))
      try await messages.wait("all of them") { $0.count == 1001 }
      #expect(messages.values.map(\.text) == (0..<1000).map { "12345=\($0)" } + ["67890=last"])
    }

    @Test("a channel that is not wanted any more is left, and the others stay")
    func unsubscribe() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      let subscriber = try subscriber(redis.url)
      defer {
        link.close()
        subscriber.close()
      }
      try subscriber.subscribe(names(0..<1000))
      let revision = try subscriber.unsubscribe(names((0..<1000).filter { $0 % 10 != 0 }))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      #expect(subscriber.currentStatus.subscribed == 100)
      let channels = try await link.send(RedisCommand("PUBSUB", "CHANNELS"))
      #expect(
        Set(try #require(channels.array).compactMap(\.string))
          == Set((0..<100).map { "\($0 * 10)" }))
      // None left: the connection is no longer in the mode of subscribers, and still is watched.
      let last = try subscriber.unsubscribe(names(0..<1000))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == last }
      try await Task.sleep(for: .milliseconds(700))
      let again = try subscriber.subscribe(names([5]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == again }
      #expect(subscriber.currentStatus.generation == 1)
    }

    @Test("20,000 channels are all subscribed to again after the server was killed and restarted")
    func restart() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url, options: quickOptions())
      let subscriber = try subscriber(redis.url)
      defer {
        link.close()
        subscriber.close()
      }
      try subscriber.subscribe(names(0..<20_000))
      try await statuses.wait("complete") {
        $0.last?.isComplete == true && $0.last?.subscribed == 20_000
      }
      for generation in 2...3 as ClosedRange<UInt64> {
        redis.stop()
        try await statuses.wait("loss") { $0.last?.isComplete == false }
        // What changes meanwhile is part of it.
        try subscriber.subscribe(names([19_999 + Int(generation)]))
        try subscriber.unsubscribe(names([Int(generation)]))
        let started = csys_clock_boottime()
        try redis.start()
        try await statuses.wait("complete again") {
          $0.last?.isComplete == true && $0.last?.generation == generation
        }
        print(
          "re-subscribed 20,000 channels in", (csys_clock_boottime() - started) / 1_000_000, "ms")
        #expect(subscriber.currentStatus.subscribed == 20_000)
        #expect(
          try await link.send(RedisCommand("PUBSUB", "CHANNELS")).array?.count == 20_000)
        for channel in ["0", "9999", "\(19_999 + generation)"] {
          #expect(
            try await link.send(RedisCommand("PUBLISH", .string(channel), "x")) == .integer(1))
        }
        #expect(
          try await link.send(RedisCommand("PUBLISH", .string("\(generation)"), "x")) == .integer(0)
        )
        try await messages.wait("messages") { $0.count == 3 * Int(generation - 1) }
      }
    }

    @Test("a half-open subscription is found within the stated time, and made anew")
    func frozen() async throws {
      let redis = try TestRedis()
      let subscriber = try subscriber(redis.url)
      defer { subscriber.close() }
      let revision = try subscriber.subscribe(names([1]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      let before = csys_clock_boottime()
      redis.freeze()
      try await statuses.wait("loss") { $0.last?.link.isUp == false }
      #expect(csys_clock_boottime() - before < 1_400_000_000)
      redis.thaw()
      try await statuses.wait("complete again") {
        $0.last?.isComplete == true && $0.last?.subscribed == 1
      }
      #expect(subscriber.currentStatus.generation >= 2)
    }

    @Test("a connection whose end the server has not heard of is ended by the next one")
    func formerConnection() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      let (cut, never) = (csys_bell_new(), csys_bell_new())
      let connections = Mutex(0)
      let network = try FakeServer { connection in
        let count = connections.withLock { count in
          count += 1
          return count
        }
        connection.relay(to: redis.port, cut: count == 1 ? cut : never)
      }
      let subscriber = try subscriber(network.url)
      defer {
        link.close()
        subscriber.close()
        csys_fd_close(cut)
        csys_fd_close(never)
      }
      let revision = try subscriber.subscribe(names([1, 2]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      let last = try subscriber.unsubscribe(names([2]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == last }
      csys_bell_ring(cut)
      try await statuses.wait("complete again") {
        $0.last?.isComplete == true && $0.last?.generation == 2
      }
      #expect(try await link.send(RedisCommand("PUBLISH", "1", "x")) == .integer(1))
      #expect(
        try await link.send(RedisCommand("CLIENT", "LIST", "TYPE", "pubsub")).string?.split(
          separator: "\n"
        ).count == 1)
      try await messages.wait("the message") { $0.map(\.text) == ["1=x"] }
    }

    @Test("an idle subscription to a live server stays")
    func idle() async throws {
      let redis = try TestRedis()
      let subscriber = try subscriber(redis.url)
      defer { subscriber.close() }
      let revision = try subscriber.subscribe(names([1]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      // Some rounds of PING: that nothing happens cannot be waited for.
      try await Task.sleep(for: .milliseconds(900))
      #expect(subscriber.currentStatus.generation == 1 && subscriber.currentStatus.isComplete)
    }

    @Test("an oversize message is told without its payload, and nobody else suffers")
    func oversize() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      var options = quickSubscriber()
      options.payloadBytesMax = 100
      let subscriber = try subscriber(redis.url, options: options)
      defer {
        link.close()
        subscriber.close()
      }
      let revision = try subscriber.subscribe(names([1, 2]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      for (channel, count) in [("1", 100), ("1", 101), ("2", 5_000_000), ("2", 0)] {
        let payload = [UInt8](repeating: 88, count: count)
        #expect(
          try await link.send(
            RedisCommand("PUBLISH", .string(channel), .bytes(payload))) == .integer(1))
      }
      try await messages.wait("all four") { $0.count == 4 }
      #expect(messages.values.map(\.payloadByteCount) == [100, 101, 5_000_000, 0])
      #expect(messages.values.map(\.payload.count) == [100, 0, 0, 0])
      #expect(messages.values.map(\.isOversize) == [false, true, true, false])
      #expect(subscriber.currentStatus.generation == 1)
      #expect(subscriber.currentStatus.oversizeMessages == 2)
    }

    @Test("a server that confirms nothing in time is left, and one that talks nonsense is")
    func faults() async throws {
      var options = quickSubscriber()
      options.confirmTimeout = .milliseconds(150)
      options.connection.pingAfter = .seconds(60)
      let silent = try FakeServer { connection in
        if connection.welcome() { connection.hold() }
      }
      let waiting = try subscriber(silent.url, options: options)
      defer { waiting.close() }
      try waiting.subscribe(names([1]))
      try await statuses.wait("given up") { statuses in
        statuses.contains { if case .down(.timeout, _, 0) = $0.link { true } else { false } }
      }
      let mad = try FakeServer { connection in
        guard connection.welcome() else { return }
        connection.send("*3\r\n$9\r\nsubscribe\r\n$1\r\n9\r\n:1\r\n")
        connection.hold()
      }
      let told = Recorder<RedisSubscriberStatus>()
      let other = try RedisSubscriber(
        mad.url, options: options, onMessages: { _ in }, onStatus: { told.add($0) })
      defer { other.close() }
      try other.subscribe(names([1]))
      try await told.wait("given up") { statuses in
        statuses.contains {
          if case .down(.protocolViolation, _, 0) = $0.link { true } else { false }
        }
      }
    }

    @Test("a channel the server forbids is told as the reason")
    func forbidden() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      #expect(
        try await link.send(
          RedisCommand("ACL", "SETUSER", "ann", "on", ">pass", "resetchannels", "&ours:*", "+@all")
        ).isOK)
      let subscriber = try subscriber(
        RedisURL(host: "127.0.0.1", port: redis.port, user: "ann", password: "pass"))
      defer { subscriber.close() }
      try subscriber.subscribe([Array("theirs".utf8)])
      try await statuses.wait("refused") { statuses in
        statuses.contains {
          if case .down(.refused(let error), _, _) = $0.link {
            error.code == "NOPERM"
          } else {
            false
          }
        }
      }
    }

    @Test("more channels than the limit are refused, and a closed subscriber takes none")
    func limits() async throws {
      let redis = try TestRedis()
      var options = quickSubscriber()
      options.channelsMax = 10
      let subscriber = try subscriber(redis.url, options: options)
      #expect(throws: RedisFailure.full) { try subscriber.subscribe(names(0..<11)) }
      let revision = try subscriber.subscribe(names(0..<10))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == revision }
      #expect(subscriber.currentStatus.subscribed == 10)
      subscriber.close()
      try await statuses.wait("closed") { $0.last?.link == .closed }
      #expect(throws: RedisFailure.closed) { try subscriber.subscribe(names([99])) }
    }

    @Test("changes from many tasks at once end in what is wanted")
    func concurrency() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      let subscriber = try subscriber(redis.url)
      defer {
        link.close()
        subscriber.close()
      }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for task in 0..<20 {
          group.addTask {
            for turn in 0..<50 {
              try subscriber.subscribe(names([task * 1000 + turn]))
              if turn % 2 == 1 { try subscriber.unsubscribe(names([task * 1000 + turn - 1])) }
            }
          }
        }
        try await group.waitForAll()
      }
      let last = try subscriber.subscribe(names([99_999]))
      try await statuses.wait("confirmation") { $0.last?.confirmedRevision == last }
      #expect(subscriber.currentStatus.subscribed == 501)
      let channels = try await link.send(RedisCommand("PUBSUB", "CHANNELS"))
      let expected = (0..<20).flatMap { task in
        (0..<50).filter { $0 % 2 == 1 }.map { "\(task * 1000 + $0)" }
      }
      #expect(Set(try #require(channels.array).compactMap(\.string)) == Set(expected + ["99999"]))
    }
  }
}

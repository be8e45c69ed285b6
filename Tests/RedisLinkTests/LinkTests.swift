import Glibc
import RedisLink
import Synchronization
import Testing

/// One after the other: they measure time and share two cores.
@Suite(.serialized) enum RealRedis {}

extension RealRedis {
  @Suite struct Link {
    @Test("a value that was set is read back, whatever bytes it holds")
    func roundTrip() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      let value = (0...255).map { UInt8($0) }
      #expect(try await link.send(RedisCommand("SET", "key", .bytes(value))).isOK)
      #expect(try await link.send(RedisCommand("GET", "key")) == .bytes(value))
      #expect(try await link.send(RedisCommand("GET", "none")) == .null)
      #expect(try await link.send(RedisCommand("INCRBY", "n", -7)) == .integer(-7))
      #expect(try await link.send(RedisCommand("LRANGE", "l", 0, -1)) == .array([]))
    }

    @Test("100,000 pairs of SET and GET in flight are answered each with its own value")
    func pipelining() async throws {
      let redis = try TestRedis()
      var options = RedisLinkOptions()
      options.commandsMax = 250_000
      options.commandTimeout = .seconds(60)
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      let wrong = Recorder<Int>()
      let done = Recorder<Int>()
      for index in 0..<100_000 {
        let text = "value-\(index)"
        try link.submit(RedisCommand("SET", .string("key-\(index)"), .string(text))) { result in
          if result != .success(.status("OK")) { wrong.add(index) }
        }
        try link.submit(RedisCommand("GET", .string("key-\(index)"))) { result in
          if result != .success(.bytes(Array(text.utf8))) { wrong.add(index) }
          if index % 1000 == 999 { done.add(index) }
        }
      }
      try await done.wait("all replies", within: .seconds(60)) { $0.count == 100 }
      #expect(done.values == (1...100).map { $0 * 1000 - 1 })
      #expect(wrong.values.isEmpty)
    }

    @Test("a batch brings one result for each command, errors among them")
    func batch() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      let results = try await link.send([
        RedisCommand("SET", "a", "1"), RedisCommand("LPUSH", "a", "x"), RedisCommand("GET", "a"),
      ])
      #expect(results.count == 3)
      #expect(results[0] == .success(.status("OK")))
      #expect(results[2] == .success(.bytes([49])))
      guard case .failure(.server(let error)) = results[1] else {
        Issue.record("\(results[1])")
        return
      }
      #expect(error.code == "WRONGTYPE")
      #expect(try await link.send([]).isEmpty)
    }
  }
}

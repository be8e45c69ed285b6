import RedisLink
import Testing

extension RealRedis {
  @Suite struct Scripts {
    private let adding = RedisScript(
      "return redis.call('INCRBY', KEYS[1], ARGV[1]) * tonumber(ARGV[2])")

    /// How often the server was asked to run by digest and by source.
    private func calls(_ link: RedisLink) async throws -> (evalsha: String?, eval: String?) {
      let text = try #require(try await link.send(RedisCommand("INFO", "commandstats")).string)
      func count(_ name: String) -> String? {
        text.split(separator: "\r\n").first { $0.hasPrefix("cmdstat_\(name):calls=") }
          .flatMap { $0.split(separator: "=")[1].split(separator: ",").first.map(String.init) }
      }
      return (count("evalsha"), count("eval"))
    }

    @Test("a script of the link's is known to the server from the start, and run by digest alone")
    func loaded() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      options.scripts = [adding]
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      #expect(try await link.send(RedisCommand("PING")) == .status("PONG"))
      #expect(adding.sha1?.count == 40)
      for turn in 1...3 as ClosedRange<Int64> {
        #expect(
          try await link.run(adding, keys: ["n"], arguments: [5, 2]) == .integer(10 * turn))
      }
      #expect(try await calls(link) == ("3", nil))

      // A new server learns it with the connection.
      redis.stop()
      try redis.start()
      #expect(try await link.run(adding, keys: ["n"], arguments: [1, 1]) == .integer(1))
      #expect(try await calls(link) == ("1", nil))
    }

    @Test("a script the server has forgotten is given to it again, and has run once")
    func flushed() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      options.scripts = [adding]
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      #expect(try await link.send(RedisCommand("SCRIPT", "FLUSH")).isOK)
      #expect(try await link.run(adding, keys: ["n"], arguments: [5, 1]) == .integer(5))
      #expect(try await link.run(adding, keys: ["n"], arguments: [5, 1]) == .integer(10))
      #expect(try await calls(link) == ("2", "1"))
    }

    @Test("a script nobody announced runs by source once, then by digest")
    func unannounced() async throws {
      let redis = try TestRedis()
      let link = try RedisLink(redis.url)
      defer { link.close() }
      #expect(try await link.run(adding, keys: ["n"], arguments: [5, 1]) == .integer(5))
      #expect(try await link.run(adding, keys: ["n"], arguments: [5, 1]) == .integer(10))
      #expect(try await calls(link) == ("1", "1"))
    }

    @Test(
      "a script that fails says so, and one that cannot be compiled does not keep the link down")
    func failing() async throws {
      let redis = try TestRedis()
      var options = quickOptions()
      let broken = RedisScript("this is not Lua")
      options.scripts = [broken]
      let link = try RedisLink(redis.url, options: options)
      defer { link.close() }
      for (script, word) in [(broken, "compiling"), (RedisScript("error('no door')"), "no door")] {
        do {
          _ = try await link.run(script)
          Issue.record("ran")
        } catch {
          guard case .server(let answer) = error else {
            Issue.record("\(error)")
            return
          }
          #expect(answer.message.contains(word))
        }
      }
    }
  }
}

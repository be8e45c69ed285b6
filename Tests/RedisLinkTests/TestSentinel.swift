import CSystem
import Glibc
import Synchronization
import Testing

@testable import RedisLink

/// A real sentinel of the test's own: redis-server in its other role. Its configuration, which it
/// rewrites, goes with this object.
final class TestSentinel: Sendable {
  let port: UInt16
  private let folder: String
  private let running = Mutex<LeashedProcess?>(nil)

  /// Watches over the master under the name `ours`.
  init(master: TestRedis, quorum: Int, extra: [String] = []) throws {
    port = try freePort()
    folder = try temporaryFolder()
    let lines =
      [
        "port \(port)", "bind 127.0.0.1", "dir \(folder)",
        "sentinel monitor ours 127.0.0.1 \(master.port) \(quorum)",
        "sentinel down-after-milliseconds ours 300", "sentinel failover-timeout ours 2000",
      ] + extra
    let stream = try #require(fopen("\(folder)/sentinel.conf", "w"))
    fputs(lines.joined(separator: "\n") + "\n", stream)
    fclose(stream)
    try start()
  }

  deinit {
    stop()
    removeFolder(folder)
  }

  var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: port) }

  func start() throws {
    let process = try LeashedProcess(["redis-server", "\(folder)/sentinel.conf", "--sentinel"])
    running.withLock { $0 = process }
    try waitUntilListening(port)
  }

  func stop() {
    let old = running.withLock { running in
      defer { running = nil }
      return running
    }
    old?.stop()
  }
}

/// A master with a replica, and three sentinels that know both and each other.
struct SentinelRig {
  let master: TestRedis
  let replica: TestRedis
  let sentinels: [TestSentinel]

  init() async throws {
    master = try TestRedis("--repl-diskless-sync-delay", "0")
    replica = try TestRedis(
      "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1 \(master.port)")
    try await Self.wait("replica", at: replica.address, RedisCommand("INFO", "replication")) {
      $0.string?.contains("master_link_status:up") == true
    }
    sentinels = try (0..<3).map { [master] _ in try TestSentinel(master: master, quorum: 2) }
    for sentinel in sentinels {
      try await Self.wait("peers", at: sentinel.address, RedisCommand("SENTINEL", "MASTER", "ours"))
      {
        let words = $0.array?.compactMap(\.string) ?? []
        return words.pair("num-slaves") == "1" && words.pair("num-other-sentinels") == "2"
      }
    }
  }

  /// Asks again and again until the reply is as wanted.
  static func wait(
    _ what: String, at address: RedisAddress, _ command: RedisCommand,
    until isMet: (RedisValue) -> Bool
  ) async throws {
    let link = try RedisLink(RedisURL(.server(address)))
    defer { link.close() }
    let until = csys_clock_boottime() + 20_000_000_000
    while csys_clock_boottime() < until {
      if let reply = try? await link.send(command), isMet(reply) { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    try #require(Bool(false), "never: \(what)")
  }

  var place: RedisSentinels { RedisSentinels(sentinels.map(\.address), master: "ours") }
  var url: RedisURL { RedisURL(.sentinels(place)) }

  func stop() {
    for sentinel in sentinels { sentinel.stop() }
    master.stop()
    replica.stop()
  }
}

extension [String] {
  fileprivate func pair(_ key: String) -> String? {
    firstIndex(of: key).flatMap { $0 + 1 < count ? self[$0 + 1] : nil }
  }
}

/// A sentinel that says what a test tells it to.
final class FakeSentinel: Sendable {
  private struct State {
    var answer: String
    var listeners: [FakeConnection] = []
  }

  private let shared: Shared<State>
  private let server: FakeServer
  /// Questions for the master so far.
  let questions = Recorder<String>()

  /// `master` nil: it knows none of that name.
  init(_ master: RedisAddress?) throws {
    let state = Shared(State(answer: Self.reply(master)))
    shared = state
    let questions = questions
    server = try FakeServer { connection in
      while let text = connection.receive() {
        if text.contains("get-master-addr-by-name") {
          questions.add(text)
          let again = text.contains("UNSUBSCRIBE") ? Self.confirmation("unsubscribe", 0) : ""
          let answer = state.value.withLock { state in
            state.listeners.append(connection)
            return state.answer
          }
          connection.send(again + answer + Self.confirmation("subscribe", 1))
        } else if text.contains("PING") {
          connection.send("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        }
      }
    }
  }

  var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: server.port) }

  func answer(_ master: RedisAddress?) {
    shared.value.withLock { $0.answer = Self.reply(master) }
  }

  func announce(_ master: RedisAddress) {
    let payload = "ours 127.0.0.1 1 \(master.host) \(master.port)"
    let text =
      "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$\(payload.utf8.count)\r\n\(payload)\r\n"
    for listener in shared.value.withLock({ $0.listeners }) { listener.send(text) }
  }

  private static func reply(_ master: RedisAddress?) -> String {
    guard let master else { return "*-1\r\n" }
    let port = "\(master.port)"
    return
      "*2\r\n$\(master.host.utf8.count)\r\n\(master.host)\r\n$\(port.utf8.count)\r\n\(port)\r\n"
  }

  private static func confirmation(_ kind: String, _ count: Int) -> String {
    "*3\r\n$\(kind.utf8.count)\r\n\(kind)\r\n$14\r\n+switch-master\r\n:\(count)\r\n"
  }
}

private final class Shared<Value: Sendable>: Sendable {
  let value: Mutex<Value>
  init(_ value: Value) { self.value = Mutex(value) }
}

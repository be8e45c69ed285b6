import CSystem
import Synchronization
import Testing

@testable import RedisLink

/// A Redis Cluster of real servers: three masters, and behind them replicas of one of them.
final class ClusterRig: Sendable {
  /// The first slot of each of the three masters, and the end.
  private static let bounds = [0, 5461, 10_923, 16_384]

  /// The three masters, then the replicas.
  let nodes: [TestRedis]
  /// To each of them, past the code under test.
  let links: [RedisLink]
  private let folder: String
  private let certificates: TestCertificates?

  /// Who serves a slot at first.
  static func owner(of slot: RedisSlot) -> Int {
    bounds.lastIndex { $0 <= Int(slot.number) }!
  }

  /// `replicas` are those of the master of `slot`.
  init(
    replicas: Int = 0, of slot: RedisSlot = RedisSlot(ofKey: ""),
    nodeTimeoutMilliseconds: Int = 1000,
    certificates: TestCertificates? = nil
  ) async throws {
    let folder = try temporaryFolder()
    self.folder = folder
    self.certificates = certificates
    nodes = try (0..<(3 + replicas)).map { _ in
      try TestRedis { port in
        var words = [
          "--dir", folder, "--cluster-enabled", "yes", "--cluster-port", "\(try freePort())",
          "--cluster-config-file", "nodes-\(port).conf", "--cluster-node-timeout",
          "\(nodeTimeoutMilliseconds)", "--repl-diskless-sync-delay", "0",
        ]
        if let certificates {
          words += certificates.arguments(port: port)
          words += ["--tls-cluster", "yes", "--tls-replication", "yes"]
        }
        return words
      }
    }
    links = try nodes.map { [certificates] in
      try RedisLink(RedisURL(.server($0.address), tls: certificates?.tls))
    }
    try await join(replicas: replicas, of: Self.owner(of: slot))
  }

  deinit {
    stop()
    removeFolder(folder)
  }

  private func join(replicas: Int, of master: Int) async throws {
    for index in 0..<3 {
      let (first, end) = (Self.bounds[index], Self.bounds[index + 1])
      try await tell(index, "ADDSLOTSRANGE", .integer(Int64(first)), .integer(Int64(end - 1)))
      try await tell(index, "SET-CONFIG-EPOCH", .integer(Int64(index + 1)))
    }
    for index in 1..<nodes.count {
      let bus = try await links[index].send(RedisCommand("CONFIG", "GET", "cluster-port"))
      try await tell(
        0, "MEET", "127.0.0.1", .integer(Int64(nodes[index].port)),
        .integer(try #require(bus.array?.last?.int64)))
    }
    for index in nodes.indices {
      try await wait("node \(index) is in", at: index, RedisCommand("CLUSTER", "INFO")) {
        [nodes] in
        $0.string?.contains("cluster_state:ok") == true
          && $0.string?.contains("cluster_known_nodes:\(nodes.count)") == true
      }
    }
    for index in 3..<(3 + replicas) {
      try await tell(index, "REPLICATE", .string(try await id(master)))
      try await waitForReplica(index)
    }
  }

  /// Waits until a node is a replica that has its master's data, and all that run know it as one.
  func waitForReplica(_ replica: Int, besides dead: Set<Int> = []) async throws {
    try await wait("replication", at: replica, RedisCommand("INFO", "replication")) {
      $0.string?.contains("role:slave") == true
        && $0.string?.contains("master_link_status:up") == true
    }
    let port = Int64(nodes[replica].port)
    for index in nodes.indices where !dead.contains(index) {
      try await wait("a known replica", at: index, RedisCommand("CLUSTER", "SLOTS")) { value in
        value.array?.contains { range in
          range.array?.dropFirst(3).contains { $0.array?[1].int64 == port } == true
        } == true
      }
    }
  }

  func tell(_ node: Int, _ words: RedisArgument...) async throws {
    let reply = try await links[node].send(RedisCommand("CLUSTER", words))
    try #require(reply.isOK, "\(words): \(reply)")
  }

  func id(_ node: Int) async throws -> String {
    try #require(try await links[node].send(RedisCommand("CLUSTER", "MYID")).string)
  }

  /// Asks again and again until the reply is as wanted.
  func wait(
    _ what: String, at node: Int, _ command: RedisCommand, until isMet: (RedisValue) -> Bool
  ) async throws {
    let until = csys_clock_boottime() + 20_000_000_000
    while csys_clock_boottime() < until {
      if let reply = try? await links[node].send(command), isMet(reply) { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    try #require(Bool(false), "never: \(what)")
  }

  // MARK: A slot on its way

  func beginMove(_ slot: RedisSlot, from source: Int, to target: Int) async throws {
    let number = RedisArgument.integer(Int64(slot.number))
    try await tell(target, "SETSLOT", number, "IMPORTING", .string(try await id(source)))
    try await tell(source, "SETSLOT", number, "MIGRATING", .string(try await id(target)))
  }

  func moveKeys(_ slot: RedisSlot, from source: Int, to target: Int) async throws {
    while true {
      let number = RedisArgument.integer(Int64(slot.number))
      let keys = try await links[source].send(
        RedisCommand("CLUSTER", "GETKEYSINSLOT", number, 100))
      let names = keys.array?.compactMap(\.bytes) ?? []
      if names.isEmpty { return }
      let port = RedisArgument.integer(Int64(nodes[target].port))
      let reply = try await links[source].send(
        RedisCommand(
          "MIGRATE", ["127.0.0.1", port, "", 0, 5000, "KEYS"] + names.map { .bytes($0) }))
      try #require(reply.isOK)
    }
  }

  func endMove(_ slot: RedisSlot, to target: Int) async throws {
    let number = RedisArgument.integer(Int64(slot.number))
    let id = RedisArgument.string(try await id(target))
    // The new master first: the others then learn of no gap.
    for node in [target] + (0..<3).filter({ $0 != target }) {
      try await tell(node, "SETSLOT", number, "NODE", id)
    }
  }

  // MARK: For links under test

  /// Of these nodes as seeds, in this order, after `addresses`.
  func url(
    _ addresses: [RedisAddress] = [], seeds: [Int]? = nil, user: String? = nil,
    password: String? = nil
  ) -> RedisURL {
    let named = (seeds ?? Array(nodes.indices)).map { nodes[$0].address }
    return RedisURL(
      .cluster(RedisSeeds(addresses + named)), user: user, password: password,
      tls: certificates?.tls)
  }

  func stop() {
    for link in links { link.close() }
    for node in nodes { node.stop() }
  }
}

/// A node of a cluster that says what a test tells it to.
final class FakeNode: Sendable {
  private struct State {
    var master: RedisAddress?
    var replies: [String] = []
    var last = "+OK\r\n"
    var run: String?
  }

  /// Of any script.
  static let sha1 = String(repeating: "a", count: 40)

  private let shared: Shared
  private let server: FakeServer
  /// How often the link's commands were asked for, that is, all but its greetings.
  let commands = Recorder<String>()
  /// Where these came from.
  let connections = Recorder<FakeConnection>()

  private final class Shared: Sendable {
    let state = Mutex(State())
  }

  init() throws {
    let shared = Shared()
    let commands = commands
    let connections = connections
    self.shared = shared
    server = try FakeServer { connection in
      while let text = connection.receive() {
        if text.contains("SLOTS") {
          connection.send(Self.slots(shared.state.withLock { $0.master }))
        } else if text.contains("ROLE") {
          connection.send("+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        } else if let run = shared.state.withLock({ $0.run }) {
          // However the commands come, in one piece or two.
          if text.contains("LOAD") { connection.send("$40\r\n\(Self.sha1)\r\n") }
          if text.contains("EVAL") { connection.send(run) }
        } else {
          connections.add(connection)
          for command in text.split(separator: "*") {
            commands.add(String(command))
            connection.send(
              shared.state.withLock { state in
                state.replies.isEmpty ? state.last : state.replies.removeFirst()
              })
          }
        }
      }
    }
    names(address)
  }

  var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: server.port) }

  /// Names this one as the master of all slots.
  func names(_ master: RedisAddress) { shared.state.withLock { $0.master = master } }

  /// Says this to the next commands, one reply each, and then `last`.
  func replies(_ replies: String..., last: String = "+OK\r\n") {
    shared.state.withLock { state in
      state.replies = replies
      state.last = last
    }
  }

  /// Takes scripts, and answers every run with this.
  func scripts(_ run: String) { shared.state.withLock { $0.run = run } }

  private static func slots(_ master: RedisAddress?) -> String {
    guard let master else { return "*0\r\n" }
    return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$\(master.host.utf8.count)\r\n\(master.host)\r\n"
      + ":\(master.port)\r\n$1\r\nx\r\n"
  }
}

import CSystem
import Election
import Glibc
import RedisLink
import Synchronization
import Testing

@testable import ClusterDriver

/// A redis-server of the tests' own, on a free port. It dies with this object, and with the test
/// process: its parent is a shell that kills it when the pipe from here closes.
final class StoreServer: Sendable {
  /// For tests that touch only keys of a cluster of their own.
  static let shared = Result { try StoreServer() }
  /// The same, as a Redis Cluster of one node.
  static let sharedCluster = Result { try StoreServer(isCluster: true) }

  private struct Running {
    var shell: pid_t
    var server: pid_t
    var leash: Int32
  }

  let port: UInt16
  let directory: String
  private let isCluster: Bool
  private let arguments: [String]
  private let running = Mutex<Running?>(nil)

  init(_ arguments: String..., isCluster: Bool = false) throws {
    var name = Array("/tmp/store-XXXXXX".utf8CString)
    try #require(mkdtemp(&name) != nil)
    directory = String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    port = try freeStorePort()
    self.isCluster = isCluster
    var arguments = arguments
    if isCluster {
      try writeCluster(to: directory + "/nodes.conf")
      arguments += ["--cluster-enabled", "yes", "--cluster-port", "\(try freeStorePort())"]
    }
    self.arguments = arguments
    try start()
  }

  deinit {
    stop()
    for file in ["dump.rdb", "appendonlydir", "nodes.conf"] { remove(directory + "/" + file) }
    rmdir(directory)
  }

  func start() throws {
    let script =
      #"redis-server "$@" </dev/null >/dev/null 2>&1 & echo $!; cat; kill -9 $! 2>/dev/null; wait"#
    let words =
      ["sh", "-c", script, "sh", "--port", "\(port)", "--bind", "127.0.0.1", "--save", ""]
      + ["--appendonly", "no", "--dir", directory, "--repl-diskless-sync-delay", "0"] + arguments
    var input: [Int32] = [0, 0]
    var output: [Int32] = [0, 0]
    try #require(pipe(&input) == 0 && pipe(&output) == 0)
    for end in input + output { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    var argv = words.map { strdup($0) } + [nil]
    defer { for word in argv { free(word) } }
    var shell: pid_t = 0
    let result = posix_spawn(&shell, "/bin/sh", &actions, nil, &argv, environ)
    csys_fd_close(input[0])
    csys_fd_close(output[1])
    try #require(result == 0)
    var server: pid_t = 0
    var byte: UInt8 = 0
    while read(output[0], &byte, 1) == 1, byte != UInt8(ascii: "\n") {
      server = server * 10 + pid_t(byte - UInt8(ascii: "0"))
    }
    csys_fd_close(output[0])
    running.withLock { $0 = Running(shell: shell, server: server, leash: input[1]) }
  }

  /// As by kill -9. Does nothing if it does not run.
  func stop() {
    guard
      let old = running.withLock({ running in
        defer { running = nil }
        return running
      })
    else { return }
    kill(old.server, SIGKILL)
    csys_fd_close(old.leash)
    // Another process may hold the leash, too, if it was started at the wrong moment.
    kill(old.shell, SIGKILL)
    var status: Int32 = 0
    waitpid(old.shell, &status, 0)
  }

  /// SIGSTOP: it is there, and answers nothing.
  func pause() { if let server = running.withLock({ $0?.server }) { kill(server, SIGSTOP) } }

  func resume() { if let server = running.withLock({ $0?.server }) { kill(server, SIGCONT) } }

  /// Of a link that waits until the server is there.
  func patientOptions(cluster: String = "") -> RedisLinkOptions {
    var options = RedisStore.linkOptions(cluster: cluster, timeout: .seconds(20))
    options.whenDown = .wait
    options.connection.backOffFirst = .milliseconds(5)
    options.connection.backOffMost = .milliseconds(20)
    return options
  }

  /// For the store of a cluster by this name, which matters only in a Redis Cluster.
  func link(cluster: String = "") throws -> RedisLink {
    let address = RedisAddress(host: "127.0.0.1", port: port)
    let place: RedisPlace = isCluster ? .cluster(RedisSeeds([address])) : .server(address)
    return try RedisLink(RedisURL(place), options: patientOptions(cluster: cluster))
  }

  private static let clusters = Atomic<Int>(0)

  /// A store in keys that nobody else uses.
  func store() throws -> (RedisStore, RedisLink, keys: [String]) {
    let cluster = "test \(StoreServer.clusters.add(1, ordering: .relaxed).newValue)"
    let link = try link(cluster: cluster)
    let store = RedisStore(link: link, cluster: cluster, timeout: .seconds(20))
    return (store, link, RedisStore.keys(cluster: cluster))
  }
}

private func freeStorePort() throws -> UInt16 {
  var address = csys_address()
  try #require(csys_address_parse("127.0.0.1", 0, &address) == 0)
  let listener = csys_socket_listen(&address, 1, 0)
  try #require(listener >= 0)
  defer { csys_fd_close(listener) }
  return UInt16(csys_socket_port(listener))
}

/// What a node remembers of its cluster: that it is alone in it, and has all slots.
private func writeCluster(to path: String) throws {
  let file = try #require(fopen(path, "w"))
  defer { fclose(file) }
  let id = String(repeating: "c", count: 40)
  fputs("\(id) :0@0 myself,master - 0 0 1 connected 0-16383\n", file)
  fputs("vars currentEpoch 1 lastVoteEpoch 0\n", file)
}

/// Waits for a condition at a server, asked again and again.
func untilServerShows(
  _ what: String, within: Duration = .seconds(10), _ condition: () async throws -> Bool
) async throws {
  let until = ContinuousClock.now + within
  while ContinuousClock.now < until {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(5))
  }
  Issue.record("not within \(within): \(what)")
}

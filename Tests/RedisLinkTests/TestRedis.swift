import CSystem
import Glibc
import RedisLink
import Synchronization
import Testing

/// A redis-server of the test's own, on a free port, without persistence. It dies with this object,
/// and with the test process.
final class TestRedis: Sendable {
  let port: UInt16
  private let arguments: [String]
  private let running = Mutex<LeashedProcess?>(nil)

  /// Starts it at once unless `isStarted` is false.
  init(_ arguments: String..., isStarted: Bool = true) throws {
    port = try freePort()
    self.arguments = arguments
    if isStarted { try start() }
  }

  /// With arguments that depend on the port it is to have.
  init(_ arguments: (UInt16) throws -> [String]) throws {
    port = try freePort()
    self.arguments = try arguments(port)
    try start()
  }

  deinit {
    stop()
  }

  var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: port) }
  var url: RedisURL { RedisURL(.server(address)) }

  func start() throws {
    let process = try LeashedProcess(
      ["redis-server", "--port", "\(port)", "--bind", "127.0.0.1", "--save", ""]
        + ["--appendonly", "no", "--dir", "/tmp", "--enable-debug-command", "yes"]
        // What a replica is given would otherwise stay, for the next server to begin with.
        + ["--dbfilename", "redis-link-\(port).rdb", "--rdb-del-sync-files", "yes"] + arguments)
    running.withLock { $0 = process }
    try waitUntilListening(port)
  }

  /// As by kill -9. Does nothing if it does not run.
  func stop() {
    let old = running.withLock { running in
      defer { running = nil }
      return running
    }
    old?.stop()
  }

  func freeze() { running.withLock { $0?.signal(SIGSTOP) } }
  func thaw() { running.withLock { $0?.signal(SIGCONT) } }
}

func waitUntilListening(_ port: UInt16) throws {
  let until = csys_clock_boottime() + 10_000_000_000
  while csys_clock_boottime() < until {
    if let connection = try? RawConnection(port: port) {
      connection.close()
      return
    }
    usleep(2000)
  }
  Issue.record("nothing listened on port \(port) within 10 s")
}

/// A process that ends when told to, and with the test process: its parent is a shell that kills it
/// when the pipe from here closes.
struct LeashedProcess: Sendable {
  private let shell: pid_t
  private let child: pid_t
  private let leash: Int32

  init(_ words: [String]) throws {
    let script = #""$@" </dev/null >/dev/null 2>&1 & echo $!; cat; kill -9 $! 2>/dev/null; wait"#
    let leash = try Pipe()
    let answers = try Pipe()
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, leash.reading, 0)
    posix_spawn_file_actions_adddup2(&actions, answers.writing, 1)
    var argv = (["sh", "-c", script, "sh"] + words).map { strdup($0) } + [nil]
    defer { for word in argv { free(word) } }
    var shell: pid_t = 0
    let result = posix_spawn(&shell, "/bin/sh", &actions, nil, &argv, environ)
    csys_fd_close(leash.reading)
    csys_fd_close(answers.writing)
    try #require(result == 0)
    child = readNumber(answers.reading)
    csys_fd_close(answers.reading)
    self.shell = shell
    self.leash = leash.writing
  }

  /// As by kill -9. Once.
  func stop() {
    kill(child, SIGKILL)
    csys_fd_close(leash)
    var status: Int32 = 0
    waitpid(shell, &status, 0)
  }

  func signal(_ number: Int32) { _ = kill(child, number) }
}

private struct Pipe {
  let reading: Int32
  let writing: Int32

  init() throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    (reading, writing) = (ends[0], ends[1])
  }
}

private func readNumber(_ fd: Int32) -> pid_t {
  var number: pid_t = 0
  var byte: UInt8 = 0
  while read(fd, &byte, 1) == 1, byte != UInt8(ascii: "\n") {
    number = number * 10 + pid_t(byte - UInt8(ascii: "0"))
  }
  return number
}

/// A port nobody listens on now.
func freePort() throws -> UInt16 {
  var address = csys_address()
  try #require(csys_address_parse("127.0.0.1", 0, &address) == 0)
  let listener = csys_socket_listen(&address, 1, 0)
  try #require(listener >= 0)
  defer { csys_fd_close(listener) }
  return UInt16(csys_socket_port(listener))
}

/// A bare connection that blocks; to look at a server past the code under test.
struct RawConnection {
  let fd: Int32

  init(port: UInt16) throws {
    var address = csys_address()
    try #require(csys_address_parse("127.0.0.1", port, &address) == 0)
    fd = csys_socket_connect(&address)
    guard fd >= 0 else { throw RedisFailure.closedByPeer }
    var wanted = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
    guard poll(&wanted, 1, 5000) == 1, csys_socket_error(fd) == 0 else {
      csys_fd_close(fd)
      throw RedisFailure.closedByPeer
    }
  }

  func close() { csys_fd_close(fd) }
}

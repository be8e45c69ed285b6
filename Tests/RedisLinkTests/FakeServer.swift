import CSystem
import Glibc
import Synchronization
import Testing

@testable import RedisLink

/// A server that says what a test tells it to. Each connection is served on a thread of its own.
final class FakeServer: Sendable {
  let port: UInt16
  private let listener: Int32
  private let stopped: Int32
  private let threads = Mutex(1)

  init(_ serve: @escaping @Sendable (FakeConnection) -> Void) throws {
    var address = csys_address()
    try #require(csys_address_parse("127.0.0.1", 0, &address) == 0)
    let listener = csys_socket_listen(&address, 64, 0)
    try #require(listener >= 0)
    let stopped = csys_bell_new()
    self.listener = listener
    self.stopped = stopped
    port = UInt16(csys_socket_port(listener))
    try startThread("fake-redis") {
      while FakeConnection.wait(for: listener, or: stopped) {
        let fd = csys_socket_accept(listener, nil)
        guard fd >= 0 else { continue }
        let connection = FakeConnection(fd: fd, stopped: stopped)
        try? startThread("fake-connection") {
          serve(connection)
          csys_fd_close(fd)
        }
      }
      csys_fd_close(listener)
    }
  }

  /// The threads see the bell, which stays rung; its descriptor is the process's to close.
  deinit {
    csys_bell_ring(stopped)
  }

  var url: RedisURL { RedisURL(host: "127.0.0.1", port: port) }
}

struct FakeConnection: Sendable {
  let fd: Int32
  let stopped: Int32

  static func wait(for fd: Int32, or stopped: Int32) -> Bool {
    var both = [
      pollfd(fd: fd, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stopped, events: Int16(POLLIN), revents: 0),
    ]
    return poll(&both, 2, 60_000) > 0 && both[1].revents == 0
  }

  /// What the client says next, or nil when it has gone.
  func receive() -> String? {
    guard Self.wait(for: fd, or: stopped) else { return nil }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = csys_socket_receive(fd, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
  }

  func send(_ text: String) { send(Array(text.utf8)[...]) }

  func send(_ slice: ArraySlice<UInt8>) {
    let bytes = Array(slice)
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        csys_socket_send(fd, $0.baseAddress! + sent, bytes.count - sent)
      }
      if count == -Int(EAGAIN) {
        var room = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
        poll(&room, 1, 1000)
      } else if count < 0 {
        return
      } else {
        sent += count
      }
    }
  }

  /// Passes everything on to the server at that port, and back, until the client ends it or `cut` rings. The
  /// server does not hear of that: its side stays open for as long as the test.
  func relay(to port: UInt16, cut: Int32) {
    var address = csys_address()
    csys_address_parse("127.0.0.1", port, &address)
    let server = csys_socket_connect(&address)
    guard server >= 0 else { return }
    defer { csys_fd_close(server) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    var isOpen = true
    while isOpen {
      var watched = [fd, server, stopped, cut].map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      guard poll(&watched, 4, 60_000) > 0, watched[2].revents == 0 else { return }
      isOpen = watched[3].revents == 0
      for (from, to) in [(fd, server), (server, fd)] {
        let count = csys_socket_receive(from, &bytes, bytes.count)
        if count == 0 { isOpen = false }
        if count > 0 { FakeConnection(fd: to, stopped: stopped).send(bytes.prefix(count)) }
      }
    }
    shutdown(fd, Int32(SHUT_RDWR))
    var end = pollfd(fd: stopped, events: Int16(POLLIN), revents: 0)
    poll(&end, 1, 60_000)
  }

  /// Answers the greeting of a client without password, name and database.
  func welcome() -> Bool {
    guard let greeting = receive(), greeting.contains("PING") else { return false }
    // What it can do without is refused.
    let refused = ["KILL", "INFO"].count { greeting.contains("\($0)\r\n") }
    send("+PONG\r\n" + String(repeating: "-ERR no\r\n", count: refused))
    return true
  }

  /// Keeps the connection open, and says nothing, until the client or the test ends it.
  func hold() {
    while receive() != nil {}
  }
}

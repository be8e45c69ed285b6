import Glibc
import Testing

/// A TCP connection to this machine that sends what it is told to, and reads until the other side
/// closes.
final class RawPeer {
  let fd: CInt

  init(port: UInt16) {
    self.fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var patience = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(self.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) { address in
      address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(self.fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    #expect(connected == 0)
  }

  deinit { close(self.fd) }

  /// False when the connection is broken.
  @discardableResult
  func send(_ text: String) -> Bool {
    Glibc.send(self.fd, text, text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count
  }

  func readAll() -> String {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = recv(self.fd, &buffer, buffer.count, 0)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[..<count]
    }
  }

  /// Whether the other side has closed, waiting for it up to `ms`.
  func isClosed(withinMs ms: CInt) -> Bool {
    var ready = pollfd(fd: self.fd, events: Int16(POLLIN), revents: 0)
    guard poll(&ready, 1, ms) == 1 else { return false }
    var byte: UInt8 = 0
    return recv(self.fd, &byte, 1, Int32(MSG_PEEK)) <= 0
  }
}

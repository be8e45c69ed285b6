import Glibc

/// HTTP/2 frames, byte by byte: what no library lets a hostile peer send.
enum Frame {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  enum Kind: UInt8 {
    case data = 0
    case headers = 1
    case reset = 3
    case settings = 4
    case ping = 6
    case goaway = 7
    case windowUpdate = 8
    case continuation = 9
  }

  static func make(
    _ kind: Kind, flags: UInt8 = 0, stream: UInt32 = 0, length: Int? = nil, _ payload: [UInt8] = []
  ) -> [UInt8] {
    let n = length ?? payload.count
    return [UInt8(n >> 16 & 0xff), UInt8(n >> 8 & 0xff), UInt8(n & 0xff), kind.rawValue, flags]
      + self.bytes(stream) + payload
  }

  static func bytes(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 0xff), UInt8(value >> 8 & 0xff), UInt8(value & 0xff)]
  }

  static func settings(_ entries: [(UInt16, UInt32)] = []) -> [UInt8] {
    self.make(
      .settings,
      entries.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 0xff)] + self.bytes($0.1) })
  }

  static func ping(_ value: UInt8 = 0) -> [UInt8] {
    self.make(.ping, [UInt8](repeating: value, count: 8))
  }

  static func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] {
    self.make(.reset, stream: stream, self.bytes(code))
  }

  static func goaway(last: UInt32, _ code: UInt32 = 0) -> [UInt8] {
    self.make(.goaway, self.bytes(last) + self.bytes(code))
  }

  /// Literal header fields without indexing.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { name, value in [0x00] + self.literal(name) + self.literal(value) }
  }

  private static func literal(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
    var out: [UInt8] = [127]
    var rest = bytes.count - 127
    while rest >= 128 {
      out.append(UInt8(rest & 0x7f | 0x80))
      rest >>= 7
    }
    return out + [UInt8(rest)] + bytes
  }

  static let request: [(String, String)] = [
    (":method", "POST"), (":scheme", "http"), (":path", "/test.Echo/Get"), (":authority", "x"),
    ("te", "trailers"), ("content-type", "application/grpc"),
  ]

  /// END_HEADERS = 4, END_STREAM = 1.
  static func headers(
    _ stream: UInt32, _ fields: [(String, String)] = Frame.request, flags: UInt8 = 4
  ) -> [UInt8] {
    self.make(.headers, flags: flags, stream: stream, self.block(fields))
  }

  static func data(_ stream: UInt32, _ payload: [UInt8], end: Bool = false) -> [UInt8] {
    self.make(.data, flags: end ? 1 : 0, stream: stream, payload)
  }
}

/// A socket that speaks whatever a test makes it speak.
final class RawPeer: Sendable {
  struct Failure: Error {}

  struct Received: Sendable {
    var kind: UInt8
    var flags: UInt8
    var stream: UInt32
    var payload: [UInt8]
  }

  let fd: Int32

  init(fd: Int32) {
    self.fd = fd
  }

  deinit {
    close(self.fd)
  }

  private static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
  }

  static func connect(_ port: Int) throws -> RawPeer {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = self.loopback(UInt16(port))
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else {
      close(fd)
      throw Failure()
    }
    var timeout = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    return RawPeer(fd: fd)
  }

  /// A listening socket; `port` tells where.
  static func listen() throws -> RawPeer {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = self.loopback(0)
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0, Glibc.listen(fd, 16) == 0 else {
      close(fd)
      throw Failure()
    }
    return RawPeer(fd: fd)
  }

  /// A socket file whose listener is gone.
  static func leaveDeadSocket(_ path: String) throws {
    let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(fd) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw Failure() }
  }

  var port: Int {
    var address = sockaddr_in()
    var n = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(self.fd, $0, &n) }
    }
    return Int(UInt16(bigEndian: address.sin_port))
  }

  /// The next connection, without holding a thread.
  func accept() async throws -> RawPeer {
    for _ in 0..<1000 {
      var ready = pollfd(fd: self.fd, events: Int16(POLLIN), revents: 0)
      if poll(&ready, 1, 0) > 0 {
        return RawPeer(fd: Glibc.accept(self.fd, nil, nil))
      }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw Failure()
  }

  /// - Returns: false when the peer is gone.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var at = 0
    while at < bytes.count {
      let n = bytes.withUnsafeBytes {
        Glibc.send(self.fd, $0.baseAddress! + at, bytes.count - at, Int32(MSG_NOSIGNAL))
      }
      if n <= 0 { return false }
      at += n
    }
    return true
  }

  /// Drops the next bytes.
  func skip(_ n: Int) async throws {
    _ = try await self.readExactly(n)
  }

  private func readExactly(_ n: Int) async throws -> [UInt8]? {
    var out: [UInt8] = []
    var idle = 0
    while out.count < n {
      var buffer = [UInt8](repeating: 0, count: n - out.count)
      let got = recv(self.fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if got > 0 {
        out += buffer[..<got]
        idle = 0
      } else if got < 0 && errno == EAGAIN {
        idle += 1
        if idle > 2000 { throw Failure() }
        try await Task.sleep(for: .milliseconds(5))
      } else {
        return nil
      }
    }
    return out
  }

  /// The next frame; nil when the peer has closed.
  func read() async throws -> Received? {
    guard let head = try await self.readExactly(9) else { return nil }
    let n = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
    let stream = head[5...8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    guard let payload = n == 0 ? [] : try await self.readExactly(n) else { return nil }
    return Received(kind: head[3], flags: head[4], stream: stream, payload: payload)
  }

  /// Reads until a frame of this kind comes; nil when the peer closes before.
  func read(until kind: Frame.Kind) async throws -> Received? {
    while let frame = try await self.read() {
      if frame.kind == kind.rawValue { return frame }
    }
    return nil
  }

  /// Reads until the peer has closed: what it said in its last GOAWAY.
  func readToEnd() async throws -> Received? {
    var goaway: Received?
    while let frame = try await self.read() {
      if frame.kind == Frame.Kind.goaway.rawValue { goaway = frame }
    }
    return goaway
  }
}

extension RawPeer.Received {
  /// Of a GOAWAY.
  var goawayCode: UInt32 {
    self.payload.count >= 8 ? self.payload[4..<8].reduce(0) { $0 << 8 | UInt32($1) } : .max
  }
}

/// Both directions end; the descriptor stays.
func shutdownSocket(_ fd: Int32) {
  _ = shutdown(fd, Int32(SHUT_RDWR))
}

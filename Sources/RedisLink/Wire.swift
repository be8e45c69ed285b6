internal import CSystem
internal import CTLS
internal import Glibc

/// One connection on its way up and while it lasts: name, socket, and TLS if there is to be any. Its
/// owner tells it what epoll said and what a name came to, and learns of failures by what it throws,
/// after which it closes it.
///
/// Belongs to the thread of a loop. Opened and closed as often as need be; its tag stays.
final class Wire {
  private enum Phase {
    case closed
    case resolving
    case connecting
    case shaking
    case open
  }

  let tag: UInt64
  private let epoll: Int32
  private let tls: TLSSource?
  private let resolve: (RedisAddress) throws(RedisFailure) -> Void

  private var phase = Phase.closed
  /// Where it leads, or would.
  private var address: RedisAddress?
  /// What the resolver, which cannot be stopped, is at.
  private var resolving: RedisAddress?
  private var candidates: [csys_address] = []
  private var rotation = 0
  private var socket: Int32 = -1
  private var stream: OpaquePointer?
  private var interest: UInt32 = 0

  /// `resolve` has a name resolved and the outcome brought to `take`.
  init(
    tag: UInt64, epoll: Int32, tls: TLSSource?,
    resolve: @escaping (RedisAddress) throws(RedisFailure) -> Void
  ) {
    self.tag = tag
    self.epoll = epoll
    self.tls = tls
    self.resolve = resolve
  }

  deinit {
    ctls_stream_free(stream)
    csys_fd_close(socket)
  }

  var isOpen: Bool { phase == .open }
  /// Whether the peer is to answer TLS's handshake.
  var isShaking: Bool { phase == .shaking }
  /// Whether something waits to be read that the socket does not tell of.
  var hasInput: Bool { stream.map { ctls_stream_has_input($0) } ?? false }
  var isTLS: Bool { tls != nil }

  // MARK: Up and down

  /// Begins to connect. Must be closed.
  func open(_ address: RedisAddress) throws(RedisFailure) {
    if address != self.address { rotation = 0 }
    self.address = address
    phase = .resolving
    if let resolution = Resolver.numeric(address) { return try take(resolution) }
    // A resolver that outlasted the attempt it was started for serves the next one.
    if resolving == nil { try startResolving(address) }
  }

  private func startResolving(_ address: RedisAddress) throws(RedisFailure) {
    try resolve(address)
    resolving = address
  }

  /// What a name came to.
  func resolved(_ resolution: Resolution) throws(RedisFailure) {
    let asked = resolving
    resolving = nil
    guard phase == .resolving, let address else { return }
    if asked != address { return try startResolving(address) }
    try take(resolution)
  }

  private func take(_ resolution: Resolution) throws(RedisFailure) {
    switch resolution {
    case .failed(let failure): throw failure
    case .addresses(let addresses):
      // After an attempt that ran out of time another address goes first.
      let first = rotation % addresses.count
      candidates = Array(addresses[first...] + addresses[..<first])
      try connectNext(because: 0)
    }
  }

  private func connectNext(because errno: Int32) throws(RedisFailure) {
    var errno = errno
    while !candidates.isEmpty {
      var candidate = candidates.removeFirst()
      let result = csys_socket_connect(&candidate)
      if result >= 0 {
        socket = result
        interest = 0
        phase = .connecting
        return watch(CSYS_WRITABLE)
      }
      errno = -result
    }
    throw .system(doing: "connecting to \(address?.description ?? "nowhere")", errno: errno)
  }

  /// Goes on after epoll has told of it. True when the connection has just become one.
  func advance() throws(RedisFailure) -> Bool {
    switch phase {
    case .closed, .resolving, .open: return false
    case .connecting:
      let result = csys_socket_error(socket)
      if result != 0 {
        socket = csys_fd_close(socket)
        try connectNext(because: -result)
        return false
      }
      guard let tls, let address else { return opened() }
      stream = try tls.stream(over: socket, to: address.host)
      phase = .shaking
      return try shake()
    case .shaking: return try shake()
    }
  }

  private func shake() throws(RedisFailure) -> Bool {
    guard let stream else { return false }
    let result = ctls_stream_handshake(stream)
    if result == 0 { return opened() }
    if result != -EAGAIN { throw failure("the TLS handshake", Int(result), stream) }
    watch(ctls_stream_interest(stream, false))
    return false
  }

  private func opened() -> Bool {
    phase = .open
    rotation = 0
    watch(CSYS_READABLE)
    return true
  }

  /// Drops the connection or the attempt. `isLate`: because it ran out of time. What it still holds is for nobody
  /// then: the kernel would go on sending it, and seconds later it would run after all.
  func close(isLate: Bool = false) {
    if isLate, phase == .connecting { rotation += 1 }
    if isLate, socket >= 0 { csys_socket_discard(socket) }
    stream = ctls_stream_free(stream)
    socket = csys_fd_close(socket)
    candidates = []
    phase = .closed
  }

  /// The kernel's own probes, for what no PING can find out sooner; best effort.
  func keepAlive(idleSeconds: Int32) {
    csys_socket_keepalive(socket, idleSeconds, max(1, idleSeconds / 3), 3)
  }

  // MARK: Bytes

  /// How many bytes were taken; 0: none now.
  func send(_ bytes: UnsafeRawBufferPointer) throws(RedisFailure) -> Int {
    let result: Int
    if let stream {
      result = ctls_stream_send(stream, bytes.baseAddress!, bytes.count)
    } else {
      result = csys_socket_send(socket, bytes.baseAddress!, bytes.count)
    }
    if result == -Int(EAGAIN) { return 0 }
    if result < 0 { throw failure("sending", result, stream) }
    return result
  }

  /// How many bytes were read; 0: none now. Throws `.closedByPeer` at the end.
  func receive(into room: UnsafeMutableRawBufferPointer) throws(RedisFailure) -> Int {
    let result: Int
    if let stream {
      result = ctls_stream_receive(stream, room.baseAddress!, room.count)
    } else {
      result = csys_socket_receive(socket, room.baseAddress!, room.count)
    }
    if result == -Int(EAGAIN) { return 0 }
    if result < 0 { throw failure("receiving", result, stream) }
    if result == 0 { throw .closedByPeer }
    return result
  }

  /// Has epoll tell of what is to come. After sending and receiving.
  func watch(hasOutput: Bool) {
    if let stream {
      watch(ctls_stream_interest(stream, hasOutput))
    } else {
      watch(hasOutput ? CSYS_READABLE | CSYS_WRITABLE : CSYS_READABLE)
    }
  }

  private func watch(_ wanted: UInt32) {
    if wanted == interest { return }
    interest = wanted
    // Only for want of memory can this fail; the connection's timeouts then end it.
    csys_epoll_set(epoll, socket, wanted, tag)
  }

  private func failure(_ doing: String, _ result: Int, _ stream: OpaquePointer?) -> RedisFailure {
    guard result == -Int(EPROTO), let stream else {
      return .system(doing: doing, errno: Int32(-result))
    }
    // Perhaps for what the files hold, which may be put right while this goes on.
    tls?.forget()
    return .tls(String(cString: ctls_stream_text(stream)))
  }
}

/// Said when nothing answers TLS's handshake.
let stalledHandshake = RedisFailure.tls(
  "no answer to the handshake in time: is this the server's TLS port? redis:// is without TLS")
/// Said when TLS answers where it was not asked for.
let unwantedTLS = RedisFailure.tls("the server speaks TLS here: write rediss:// for redis://")

internal import CHTTP2
internal import GRPCCore
internal import Glibc
internal import Synchronization

/// Accepts connections and turns their streams into RPCs. Belongs to the loop's thread; others go
/// through ``EventLoop/post(_:)``.
final class ServerDriver: @unchecked Sendable {
  /// Starts the handler of an RPC.
  typealias Handler =
    @Sendable (StreamCore, MethodDescriptor, Connection.Peers, HandlerLoad) -> Void

  let loop: EventLoop
  private let config: NGHTTP2ServerConfig
  private let handler: Handler
  private let methods: [String: MethodDescriptor]
  private var listener: Listener?
  private var connections: [ObjectIdentifier: Connection] = [:]
  private var token: UInt64 = 0
  private var isShuttingDown = false
  private var graceEnds: UInt64?

  init(
    loop: EventLoop, config: NGHTTP2ServerConfig, methods: [String: MethodDescriptor],
    handler: @escaping Handler
  ) {
    self.loop = loop
    self.config = config
    self.methods = methods
    self.handler = handler
    let timeouts = [
      config.handshakeTimeout, config.connection.stallTimeout, config.keepalive?.interval,
      config.keepalive?.timeout, config.maxConnectionIdle, config.shutdownGrace,
    ]
    loop.checkInterval = timeouts.compactMap { $0?.nanoseconds }.min() ?? loop.checkInterval
  }

  /// The first thing done on the loop's thread. Takes the listening socket.
  func begin(_ fd: Int32, unixPath: String?) {
    self.token = self.loop.add(self)
    let listener = Listener(loop: self.loop, fd: fd, unixPath: unixPath) {
      [weak self] event in self?.take(event)
    }
    self.listener = listener
    if !listener.start() { self.abort() }
  }

  /// No new connections and streams; ends when the open ones have.
  func shutDown() {
    guard !self.isShuttingDown else { return }
    self.isShuttingDown = true
    self.listener?.close()
    self.listener = nil
    if let grace = self.config.shutdownGrace {
      let ends = self.loop.now + grace.nanoseconds
      self.graceEnds = ends
      self.loop.checkBy(ends)
    }
    for connection in self.connections.values {
      connection.drain("the server shuts down")
      connection.cancelHandlers()
    }
    self.stopIfDone()
  }

  /// Ends at once.
  func abort() {
    self.isShuttingDown = true
    self.listener?.close()
    self.listener = nil
    for connection in self.connections.values {
      connection.close(reason: "the server has stopped", failure: false)
    }
    self.stopIfDone()
  }

  private func stopIfDone() {
    guard self.isShuttingDown, self.connections.isEmpty else { return }
    self.loop.remove(self.token, fd: nil)
    self.loop.stop()
  }

  // MARK: Accepting

  private func take(_ event: Listener.Event) {
    switch event {
    case .refused(let reason):
      self.config.onEvent?(.refused(peer: "", reason: reason))
    case .accepted(let fd, let address):
      let peer = Resolver.text(address)
      guard self.connections.count < self.config.maxConnections else {
        close(fd)
        self.config.onEvent?(
          .refused(peer: peer, reason: "\(self.config.maxConnections) connections are open"))
        return
      }
      self.accept(fd, peer)
    }
  }

  private func accept(_ fd: Int32, _ peer: String) {
    let config = self.config.connection
    _ = ch2_socket_tune(fd, config.tcpKeepaliveIdle.wholeSeconds, config.tcpTimeout.wholeSeconds)
    do {
      let connection = try Connection(
        loop: self.loop, owner: self, fd: fd, isServer: true, peer: peer,
        local: Resolver.localText(fd), limits: CH2Limits(config, server: self.config),
        health: ConnectionHealth(
          handshakeTimeout: self.config.handshakeTimeout, stallTimeout: config.stallTimeout,
          keepalive: self.config.keepalive, maxIdle: self.config.maxConnectionIdle,
          minPingInterval: self.config.minPingInterval,
          maxPingStrikes: self.config.maxPingStrikes, now: self.loop.now))
      self.connections[ObjectIdentifier(connection)] = connection
      if !connection.start() {
        connection.close(reason: "the event queue refuses the socket", failure: true)
      }
    } catch {
      self.config.onEvent?(.refused(peer: peer, reason: "\(error)"))
    }
  }
}

// MARK: - What the loop asks

extension ServerDriver: LoopSource, LoopRole {
  func ready(_ events: UInt32) {}

  func check(now: UInt64) -> UInt64 {
    guard let graceEnds = self.graceEnds else { return .max }
    if now < graceEnds { return graceEnds }
    self.graceEnds = nil
    for connection in self.connections.values {
      connection.close(reason: "the shutdown's grace period is over", failure: true)
    }
    return .max
  }

  func serve(_ core: StreamCore) {
    core.connection?.serve(core)
  }
}

// MARK: - What connections report

extension ServerDriver: ConnectionOwner {
  func connectionIsReady(_ connection: Connection) {
    self.config.onEvent?(.connected(peer: connection.peer))
  }

  func accept(
    _ stream: UnsafeMutablePointer<CH2Stream>, _ headers: ReceivedHeaders, tooLarge: Bool,
    on connection: Connection
  ) -> StreamCore? {
    switch RequestCheck.judge(headers, tooLarge: tooLarge, config: self.config) {
    case .answer(let block):
      connection.answer(stream, with: block)
      return nil
    case .handle(let path):
      // Streams that were reset no longer count as open, but their handlers may still run.
      let running = connection.load.running.load(ordering: .relaxed)
      guard running < 2 * self.config.maxConcurrentStreams else {
        connection.refuse(stream)
        return nil
      }
      let descriptor = self.methods[path] ?? RequestCheck.descriptor(path)
      let isSingle = descriptor.type.map { !$0.isResponseStreaming } ?? false
      let core = StreamCore(
        loop: self.loop, config: self.config.connection, corked: isSingle, waitForReady: false)
      let peers = Connection.Peers(remote: connection.peer, local: connection.local)
      core.deliver(metadata: headers.metadata)
      if self.isShuttingDown { core.cancelHandler() }
      self.handler(core, descriptor, peers, connection.load)
      return core
    }
  }

  func connectionGotGoaway(_ connection: Connection, code: UInt32, debug: String) {
    // It opens no more streams and closes when it is done; there is nothing to answer.
  }

  func connectionClosedStream(_ connection: Connection) {}

  func connectionIsClosed(_ connection: Connection, reason: String, failure: Bool) {
    self.connections[ObjectIdentifier(connection)] = nil
    self.config.onEvent?(.disconnected(peer: connection.peer, reason: reason, failure: failure))
    self.stopIfDone()
  }
}

/// What a request's headers must say.
enum RequestCheck {
  enum Verdict {
    case handle(path: String)
    case answer(HeaderBlock)
  }

  static func judge(
    _ headers: ReceivedHeaders, tooLarge: Bool, config: NGHTTP2ServerConfig
  ) -> Verdict {
    if tooLarge {
      return self.fail(
        .resourceExhausted,
        """
        The request's metadata is above the limit of \(config.connection.maxHeaderListBytes) bytes.
        """)
    }
    guard headers.method == "POST" else { return .answer(ResponseHead.http("405")) }
    guard headers.isGRPC else { return .answer(ResponseHead.http("415")) }
    guard headers.te == "trailers" else {
      return self.fail(.invalidArgument, "The header \"te: trailers\" is missing.")
    }
    if headers.isCompressed {
      var block = ResponseHead.everything(
        Status(
          code: .unimplemented,
          message: "Message compression \"\(headers.encoding ?? "")\" is not supported."), [:])
      block.add("grpc-accept-encoding", "identity")
      return .answer(block)
    }
    guard let path = headers.path, path.utf8.first == UInt8(ascii: "/"),
      path.utf8.dropFirst().contains(UInt8(ascii: "/"))
    else {
      return self.fail(.unimplemented, "The path names no method: it is /package.Service/Method.")
    }
    return .handle(path: path)
  }

  private static func fail(_ code: Status.Code, _ message: String) -> Verdict {
    .answer(ResponseHead.everything(Status(code: code, message: message), [:]))
  }

  /// A method the server has not registered, by its path.
  static func descriptor(_ path: String) -> MethodDescriptor {
    let slash = path.lastIndex(of: "/") ?? path.startIndex
    return MethodDescriptor(
      fullyQualifiedService: String(path[..<slash].dropFirst()),
      method: String(path[path.index(after: slash)...]))
  }
}

/// A listening socket.
final class Listener: LoopSource {
  enum Event {
    case accepted(Int32, CH2Address)
    case refused(String)
  }

  private let loop: EventLoop
  private let fd: Int32
  private let unixPath: String?
  private let onEvent: (Event) -> Void
  private var token: UInt64?
  private var isOpen = true
  /// Out of descriptors: not asked again before this time.
  private var pausedUntil: UInt64?
  private static let pause: UInt64 = 100_000_000

  init(loop: EventLoop, fd: Int32, unixPath: String?, onEvent: @escaping (Event) -> Void) {
    self.loop = loop
    self.fd = fd
    self.unixPath = unixPath
    self.onEvent = onEvent
  }

  func start() -> Bool {
    self.token = self.loop.add(self, fd: self.fd, events: UInt32(CH2_READABLE))
    return self.token != nil
  }

  func ready(_ events: UInt32) {
    // A storm of connections is taken in portions: the others have work too.
    for _ in 0..<256 where self.isOpen {
      var accepted: Int32 = -1
      var peer = CH2Address()
      let result = ch2_accept(self.fd, &accepted, &peer)
      switch -result {
      case 0:
        self.onEvent(.accepted(accepted, peer))
      case EAGAIN:
        return
      case ECONNABORTED, EINTR, EPROTO:
        continue  // that one is gone already
      default:
        self.onEvent(.refused("accept: \(Errno(result))"))
        self.pausedUntil = self.loop.now + Self.pause
        if let token = self.token { self.loop.modify(token, fd: self.fd, events: 0) }
        self.loop.checkBy(self.loop.now + Self.pause)
        return
      }
    }
  }

  func check(now: UInt64) -> UInt64 {
    guard let pausedUntil = self.pausedUntil else { return .max }
    if now < pausedUntil { return pausedUntil }
    self.pausedUntil = nil
    if let token = self.token { self.loop.modify(token, fd: self.fd, events: UInt32(CH2_READABLE)) }
    return .max
  }

  func close() {
    guard self.isOpen else { return }
    self.isOpen = false
    if let token = self.token { self.loop.remove(token, fd: self.fd) }
    if let path = self.unixPath { unlink(path) }
    Glibc.close(self.fd)
  }
}

internal import CHTTP2
internal import GRPCCore
internal import Glibc

/// Keeps a client connected: resolves, connects, replaces what is lost, and gives RPCs their
/// streams. Belongs to the loop's thread; others go through ``EventLoop/post(_:)``.
final class ClientDriver: @unchecked Sendable {
  private enum Phase {
    case idle
    case resolving
    case connecting(ConnectAttempt)
    case handshaking(Connection)
    case ready(Connection)
    case waiting(until: UInt64)
    case stopped
  }

  /// Between PINGs to a server that has said that they are too many, at the least.
  private static let calmInterval: Duration = .seconds(10)

  let loop: EventLoop
  let gate: ClientGate
  private let target: NGHTTP2Address
  private var config: NGHTTP2ClientConfig
  /// As configured.
  private let keepalive: NGHTTP2Keepalive?
  private var backoff: Backoff
  private var random = SystemRandomNumberGenerator()

  private var phase = Phase.idle
  private var addresses: [CH2Address] = []
  private var lastFailure = "no address"
  /// The last attempt failed, or a connection was lost, and none is ready since.
  private var isFailing = false
  /// Connections that take no new streams but still have some.
  private var draining: [Connection] = []
  /// Streams that wait for a connection, or for room on it.
  private var pending: [StreamCore] = []
  private var token: UInt64 = 0
  private var readyAt: UInt64 = 0
  private var resolution = 0

  init(loop: EventLoop, gate: ClientGate, target: NGHTTP2Address, config: NGHTTP2ClientConfig) {
    self.loop = loop
    self.gate = gate
    self.target = target
    self.config = config
    self.keepalive = config.keepalive
    self.backoff = Backoff(config.backoff)
    let timeouts = [
      config.connectTimeout, config.connection.stallTimeout, config.keepalive?.interval,
      config.keepalive?.timeout, config.lossTimeout,
    ]
    loop.checkInterval = timeouts.compactMap { $0?.nanoseconds }.min() ?? loop.checkInterval
  }

  /// The first thing done on the loop's thread.
  func begin() {
    guard case .idle = self.phase else { return }
    self.token = self.loop.add(self)
    self.resolve()
  }

  /// No RPC is left and none will come: says goodbye and ends.
  func finish() {
    if case .stopped = self.phase { return }
    self.stop(reason: "the client has shut down", graceful: true)
  }

  /// Ends at once; open RPCs fail.
  func abort() {
    if case .stopped = self.phase { return }
    self.stop(reason: "the client's connect() was cancelled", graceful: false)
  }

  private func stop(reason: String, graceful: Bool) {
    let phase = self.phase
    self.phase = .stopped
    self.gate.isClosed()
    var connections = self.draining
    switch phase {
    case .connecting(let attempt): attempt.close()
    case .handshaking(let connection), .ready(let connection): connections.append(connection)
    case .idle, .resolving, .waiting, .stopped: break
    }
    let error = RPCError(code: .unavailable, message: "The client transport has shut down.")
    for core in self.pending where core.isPending { self.loop.resumeLater(core.fail(error)) }
    self.pending = []
    for connection in connections {
      if graceful {
        connection.terminate(HTTP2ErrorCode.noError, reason, failure: false)
        connection.flush()
      }
      connection.close(reason: reason, failure: false)
    }
    self.draining = []
    if self.token != 0 { self.loop.remove(self.token, fd: nil) }
    self.loop.stop()
  }

  // MARK: Connecting

  private func resolve() {
    self.phase = .resolving
    self.resolution += 1
    let resolution = self.resolution
    let target = self.target
    do {
      // The resolver blocks for as long as it likes: not on this thread.
      try Thread.start(name: "grpc-resolve") {
        let result = Resolver.addresses(of: target, passive: false)
        self.loop.post { self.resolved(result, resolution) }
      }
    } catch {
      self.connectingFailed("\(error)")
    }
  }

  private func resolved(_ result: Resolver.Outcome, _ resolution: Int) {
    guard case .resolving = self.phase, resolution == self.resolution else { return }
    switch result {
    case .found(let addresses):
      self.addresses = addresses.reversed()
      self.lastFailure = "no address"
      self.tryNext()
    case .failed(let reason):
      self.connectingFailed(reason)
    }
  }

  /// Tries the addresses one after the other.
  private func tryNext() {
    while var address = self.addresses.popLast() {
      var fd: Int32 = -1
      let result = ch2_connect(&address, &fd)
      if result == 0 {
        if self.connected(fd, address) { return }
      } else if result > 0 {
        let attempt = ConnectAttempt(
          loop: self.loop, fd: fd, address: address,
          deadline: self.loop.now + self.config.connectTimeout.nanoseconds
        ) { [weak self] attempt, failure in
          self?.attemptEnded(attempt, failure)
        }
        if attempt.start() {
          self.phase = .connecting(attempt)
          return
        }
        self.lastFailure = "the event queue refuses the socket"
      } else {
        self.lastFailure = "\(Resolver.text(address)): \(Errno(result))"
      }
    }
    self.connectingFailed(self.lastFailure)
  }

  private func attemptEnded(_ attempt: ConnectAttempt, _ failure: String?) {
    guard case .connecting(let current) = self.phase, current === attempt else { return }
    if let failure {
      attempt.close()
      self.lastFailure = "\(Resolver.text(attempt.address)): \(failure)"
      self.tryNext()
    } else if !self.connected(attempt.release(), attempt.address) {
      self.tryNext()
    }
  }

  private func connected(_ fd: Int32, _ address: CH2Address) -> Bool {
    let config = self.config.connection
    _ = ch2_socket_tune(fd, config.tcpKeepaliveIdle.wholeSeconds, config.tcpTimeout.wholeSeconds)
    do {
      let connection = try Connection(
        loop: self.loop, owner: self, fd: fd, isServer: false, peer: Resolver.text(address),
        local: Resolver.localText(fd), limits: CH2Limits(config, server: nil),
        health: ConnectionHealth(
          handshakeTimeout: self.config.connectTimeout, stallTimeout: config.stallTimeout,
          keepalive: self.config.keepalive, lossTimeout: self.config.lossTimeout,
          now: self.loop.now))
      guard connection.start() else {
        connection.close(reason: "the event queue refuses the socket", failure: true)
        return false
      }
      self.phase = .handshaking(connection)
      return true
    } catch {
      self.lastFailure = "\(error)"
      return false
    }
  }

  private func connectingFailed(_ reason: String) {
    let delay = self.backoff.next(using: &self.random)
    self.phase = .waiting(until: self.loop.now + delay)
    self.loop.checkBy(self.loop.now + delay)
    self.config.onEvent?(
      .connectFailed(
        target: self.target.description, reason: reason,
        retryIn: .nanoseconds(Int64(clamping: delay))))
    self.noConnection(reason)
  }

  /// Those who do not want to wait are told.
  private func noConnection(_ reason: String) {
    self.isFailing = true
    let error = RPCError(
      code: .unavailable, message: "No connection to \(self.target): \(reason).")
    self.gate.isFailing(error)
    for core in self.pending where core.isPending && !core.waitForReady {
      core.isPending = false
      self.loop.resumeLater(core.fail(error))
    }
    self.pending.removeAll { !$0.isPending }
  }
}

// MARK: - What the loop asks

extension ClientDriver: LoopSource, LoopRole {
  func ready(_ events: UInt32) {}

  func check(now: UInt64) -> UInt64 {
    guard case .waiting(let until) = self.phase else { return .max }
    if now < until { return until }
    self.resolve()
    return .max
  }

  func serve(_ core: StreamCore) {
    if let connection = core.connection {
      connection.serve(core)
      return
    }
    switch core.intent() {
    case .nothing:
      return
    case .drop:
      core.isPending = false
    case .open(let headerListSize):
      if case .ready(let connection) = self.phase, connection.hasRoom {
        self.open(core, headerListSize, on: connection)
      } else if case .stopped = self.phase {
        let error = RPCError(code: .unavailable, message: "The client transport has shut down.")
        self.loop.resumeLater(core.fail(error))
      } else if self.isFailing && !core.waitForReady {
        let error = RPCError(
          code: .unavailable, message: "The connection to \(self.target) is lost.")
        self.loop.resumeLater(core.fail(error))
      } else if !core.isPending {
        core.isPending = true
        self.pending.append(core)
      }
    }
  }

  private func open(_ core: StreamCore, _ headerListSize: Int, on connection: Connection) {
    core.isPending = false
    let limit = connection.peerMaxHeaderList
    guard headerListSize <= limit else {
      let error = RPCError(
        code: .resourceExhausted,
        message: """
          The request's metadata counts \(headerListSize) bytes; the server accepts \(limit).
          """)
      self.loop.resumeLater(core.fail(error))
      return
    }
    connection.open(core)
  }

  private func openPending() {
    guard !self.pending.isEmpty, case .ready(let connection) = self.phase else { return }
    var taken = 0
    for core in self.pending {
      guard connection.hasRoom else { break }
      taken += 1
      guard core.isPending else { continue }
      switch core.intent() {
      case .open(let headerListSize): self.open(core, headerListSize, on: connection)
      case .nothing, .drop: core.isPending = false
      }
    }
    self.pending.removeFirst(taken)
  }
}

// MARK: - What connections report

extension ClientDriver: ConnectionOwner {
  func connectionIsReady(_ connection: Connection) {
    guard case .handshaking(let current) = self.phase, current === connection else { return }
    self.phase = .ready(connection)
    self.isFailing = false
    self.readyAt = self.loop.now
    self.backoff.reset()
    self.gate.isReady(ClientGate.Peers(remote: connection.peer, local: connection.local))
    self.config.onEvent?(.connected(peer: connection.peer))
    self.openPending()
  }

  func accept(
    _ stream: UnsafeMutablePointer<CH2Stream>, _ headers: ReceivedHeaders, tooLarge: Bool,
    on connection: Connection
  ) -> StreamCore? {
    nil  // servers open no streams: push is off
  }

  func connectionClosedStream(_ connection: Connection) {
    self.openPending()
  }

  func connectionGotGoaway(_ connection: Connection, code: UInt32, debug: String) {
    if code == HTTP2ErrorCode.enhanceYourCalm { self.askLess() } else { self.askAsConfigured() }
    if self.isCurrent(connection) {
      self.draining.append(connection)
      let reason = debug.isEmpty ? "the server is going away" : "the server goes away: \(debug)"
      self.replace(reason: reason, orderly: code == HTTP2ErrorCode.noError)
    }
    connection.drain("the server is going away")
  }

  func connectionIsClosed(_ connection: Connection, reason: String, failure: Bool) {
    if case .stopped = self.phase { return }
    let wasReady = connection.isReady
    if wasReady {
      self.config.onEvent?(
        .disconnected(peer: connection.peer, reason: reason, failure: failure))
    }
    if let index = self.draining.firstIndex(where: { $0 === connection }) {
      self.draining.remove(at: index)
      return
    }
    guard self.isCurrent(connection) else { return }
    if wasReady {
      self.askAsConfigured()
      self.replace(reason: reason, orderly: false)
    } else {
      self.lastFailure = "\(connection.peer): \(reason)"
      self.tryNext()
    }
  }

  func connectionIsUnanswered(_ connection: Connection) {
    guard self.isCurrent(connection) else { return }
    self.config.onEvent?(.unanswered(peer: connection.peer))
  }

  /// It has been asked too often. When its connection has ended otherwise, another one may be there, which takes more.
  private func askLess() {
    guard var keepalive = self.config.keepalive else { return }
    keepalive.interval = max(keepalive.interval * 2, Self.calmInterval)
    self.config.keepalive = keepalive
    self.loop.asksLess(true)
  }

  private func askAsConfigured() {
    self.config.keepalive = self.keepalive
    self.loop.asksLess(false)
  }

  private func isCurrent(_ connection: Connection) -> Bool {
    switch self.phase {
    case .handshaking(let current), .ready(let current): return current === connection
    case .idle, .resolving, .connecting, .waiting, .stopped: return false
    }
  }

  /// The current connection is lost or on its way out. A server that asks in order to be left, after
  /// a while of service, is obeyed after a short random delay; else the back-off applies.
  private func replace(reason: String, orderly: Bool) {
    let served = self.loop.now - self.readyAt
    if orderly && served >= self.config.backoff.initial.nanoseconds {
      let delay = self.backoff.spread(using: &self.random)
      self.phase = .waiting(until: self.loop.now + delay)
      self.loop.checkBy(self.loop.now + delay)
      self.gate.isConnecting()
    } else {
      let delay = self.backoff.next(using: &self.random)
      self.phase = .waiting(until: self.loop.now + delay)
      self.loop.checkBy(self.loop.now + delay)
      self.noConnection(reason)
    }
  }
}

/// A TCP or UNIX connection being made.
final class ConnectAttempt: LoopSource {
  let address: CH2Address
  private let loop: EventLoop
  private let fd: Int32
  private let deadline: UInt64
  private let onEnd: (ConnectAttempt, String?) -> Void
  private var token: UInt64?
  private var isOpen = true

  init(
    loop: EventLoop, fd: Int32, address: CH2Address, deadline: UInt64,
    onEnd: @escaping (ConnectAttempt, String?) -> Void
  ) {
    self.loop = loop
    self.fd = fd
    self.address = address
    self.deadline = deadline
    self.onEnd = onEnd
  }

  /// - Returns: false when the system refuses; the socket is closed then.
  func start() -> Bool {
    self.token = self.loop.add(self, fd: self.fd, events: UInt32(CH2_WRITABLE))
    if self.token == nil { self.close() }
    return self.token != nil
  }

  func ready(_ events: UInt32) {
    let result = ch2_connect_result(self.fd)
    self.onEnd(self, result == 0 ? nil : "\(Errno(result))")
  }

  func check(now: UInt64) -> UInt64 {
    if now < self.deadline { return self.deadline }
    self.onEnd(self, "no answer in time")
    return .max
  }

  /// The connected socket, no longer ours.
  func release() -> Int32 {
    if let token = self.token { self.loop.remove(token, fd: self.fd) }
    self.isOpen = false
    return self.fd
  }

  func close() {
    guard self.isOpen else { return }
    Glibc.close(self.release())
  }
}

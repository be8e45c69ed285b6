internal import CHTTP2
public import GRPCCore
internal import Glibc
internal import Synchronization

/// A gRPC server transport on HTTP/2 (nghttp2), over TCP or UNIX sockets.
///
/// ```swift
/// let transport = try NGHTTP2ServerTransport(address: .tcp(host: "127.0.0.1", port: 0))
/// try await withGRPCServer(transport: transport, services: [service]) { server in
///   print("listening on \(try await transport.listeningAddress)")
///   …
/// }
/// ```
///
/// One thread owns all connections; handlers run as tasks of their own. What a client can make the
/// server hold or do is bounded by ``NGHTTP2ServerConfig``: a client that goes beyond loses its RPC
/// or its connection, with the reason told to it and to `onEvent`.
///
/// A handler learns by its RPC's cancellation handle that the client has gone or the server shuts
/// down. Graceful shutdown refuses new connections and streams, lets the open ones end and cuts off
/// what is left after `shutdownGrace`.
public final class NGHTTP2ServerTransport: ServerTransport {
  /// Messages are arrays of bytes.
  public typealias Bytes = [UInt8]

  private struct State {
    var methods: [String: MethodDescriptor] = [:]
    var driver: ServerDriver?
    var hasStarted = false
    var isShutDown = false
    var address: Result<NGHTTP2Address, RPCError>?
    var addressWaiters: [UnsafeContinuation<Void, Never>] = []
  }

  private let address: NGHTTP2Address
  private let config: NGHTTP2ServerConfig
  private let loop: EventLoop
  private let handlers = HandlerSet()
  private let state = Mutex(State())

  /// - Throws: `RPCError` when the system has no descriptors left.
  public init(address: NGHTTP2Address, config: NGHTTP2ServerConfig = NGHTTP2ServerConfig()) throws {
    self.address = address
    self.config = config
    self.loop = try EventLoop()
  }

  /// The address listened at, with the port the system chose if 0 was asked for. Waits until the
  /// server listens.
  ///
  /// - Throws: `RPCError` when it cannot listen, or was shut down before it did.
  public var listeningAddress: NGHTTP2Address {
    get async throws {
      await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
        let known = self.state.withLock { state -> Bool in
          if state.address == nil { state.addressWaiters.append(waiter) }
          return state.address != nil
        }
        if known { waiter.resume() }
      }
      return try self.state.withLock { $0.address! }.get()
    }
  }

  /// Grows at least once a second while the server listens and its thread is not stuck: for a
  /// watchdog.
  public var turns: UInt64 { self.loop.turns }

  public func configure(context: GRPCServerContext) {
    var methods: [String: MethodDescriptor] = [:]
    for method in context.methods {
      methods["/\(method.service.fullyQualifiedService)/\(method.method)"] = method
    }
    let known = methods
    self.state.withLock { $0.methods = known }
  }

  public func listen(
    streamHandler:
      @escaping @concurrent @Sendable (
        _ stream: RPCStream<Inbound, Outbound>, _ context: ServerContext
      ) async -> Void
  ) async throws {
    let methods = try self.state.withLock { state in
      guard !state.hasStarted else {
        throw RPCError(code: .failedPrecondition, message: "The server transport listens already.")
      }
      state.hasStarted = true
      return state.methods
    }
    let fd: Int32
    do {
      fd = try await self.bind()
    } catch {
      self.publish(.failure(error))
      throw error
    }

    let config = self.config
    let handlers = self.handlers
    let driver = ServerDriver(loop: self.loop, config: config, methods: methods) {
      core, descriptor, peers, load in
      handlers.start(core, load) {
        await Self.handle(core, descriptor, peers, config.connection, streamHandler)
      }
    }
    var unixPath: String?
    if case .unix(let path) = self.address { unixPath = path }
    let path = unixPath
    let isShutDown = self.state.withLock { state -> Bool in
      state.driver = driver
      return state.isShutDown
    }
    // The driver holds the handler, and that may hold the server this transport belongs to.
    defer { self.state.withLock { $0.driver = nil } }

    try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { (ended: UnsafeContinuation<Void, any Error>) in
        do {
          self.loop.post { driver.begin(fd, unixPath: path) }
          if isShutDown { self.loop.post { driver.shutDown() } }
          try self.loop.start(name: config.threadName, role: driver) { ended.resume() }
          self.publish(.success(self.boundAddress(fd)))
        } catch {
          close(fd)
          ended.resume(throwing: error)
        }
      }
      await handlers.allEnded()
    } onCancel: {
      self.loop.post { driver.abort() }
      handlers.cancelAll()
    }
  }

  public func beginGracefulShutdown() {
    let (driver, waiters) = self.state.withLock { state in
      state.isShutDown = true
      if state.address == nil && !state.hasStarted {
        state.address = .failure(
          RPCError(code: .unavailable, message: "The server was shut down before it listened."))
      }
      defer { if state.address != nil { state.addressWaiters = [] } }
      return (state.driver, state.address == nil ? [] : state.addressWaiters)
    }
    for waiter in waiters { waiter.resume() }
    if let driver { self.loop.post { driver.shutDown() } }
  }

  // MARK: Listening

  private func bind() async throws(RPCError) -> Int32 {
    let target = self.address
    let outcome = await withUnsafeContinuation {
      (found: UnsafeContinuation<Resolver.Outcome, Never>) in
      do {
        try Thread.start(name: "grpc-resolve") {
          found.resume(returning: Resolver.addresses(of: target, passive: true))
        }
      } catch {
        found.resume(returning: .failed("\(error)"))
      }
    }
    switch outcome {
    case .failed(let reason):
      throw RPCError(code: .unavailable, message: "Cannot listen at \(target): \(reason).")
    case .found(let addresses):
      var result: Int32 = -EADDRNOTAVAIL
      for address in addresses {
        var address = address
        var fd: Int32 = -1
        result = ch2_listen(
          &address, Int32(clamping: self.config.backlog), self.config.unixSocketMode ?? 0, &fd)
        if result == 0 { return fd }
      }
      throw RPCError(code: .unavailable, message: "Cannot listen at \(target): \(Errno(result)).")
    }
  }

  private func boundAddress(_ fd: Int32) -> NGHTTP2Address {
    guard case .tcp(let host, _) = self.address else { return self.address }
    var address = CH2Address()
    guard ch2_local_address(fd, &address) == 0 else { return self.address }
    return .tcp(host: host, port: Int(ch2_address_port(&address)))
  }

  private func publish(_ address: Result<NGHTTP2Address, RPCError>) {
    let waiters = self.state.withLock { state in
      if state.address == nil { state.address = address }
      defer { state.addressWaiters = [] }
      return state.addressWaiters
    }
    for waiter in waiters { waiter.resume() }
  }

  // MARK: Handling

  private static func handle(
    _ core: StreamCore, _ descriptor: MethodDescriptor, _ peers: Connection.Peers,
    _ config: NGHTTP2ConnectionConfig,
    _ handler: @concurrent @Sendable (RPCStream<Inbound, Outbound>, ServerContext) async -> Void
  ) async {
    let reader = InboundReader(
      core: core, maxMessageBytes: config.maxInboundMessageBytes,
      windowBytes: config.streamWindowBytes)
    let writer = ServerWriter(core: core, maxMessageBytes: config.maxOutboundMessageBytes)
    let stream = RPCStream(
      descriptor: descriptor,
      inbound: RPCAsyncSequence(wrapping: ServerInbound(reader: reader)),
      outbound: RPCWriter.Closable(wrapping: writer))
    await withServerContextRPCCancellationHandle { cancellation in
      core.setCancellation(cancellation)
      let context = ServerContext(
        descriptor: descriptor, remotePeer: peers.remote, localPeer: peers.local,
        cancellation: cancellation)
      await handler(stream, context)
    }
    await writer.finish()
  }
}

/// The tasks of a server's handlers. They are started where the request arrives, on the loop's
/// thread: a detour through the task that listens would cost every RPC two changes of thread.
final class HandlerSet: Sendable {
  private struct State {
    var tasks: [UInt64: Task<Void, Never>] = [:]
    var lastID: UInt64 = 0
    var isCancelled = false
    var waiter: UnsafeContinuation<Void, Never>?
  }

  private let state = Mutex(State())

  func start(
    _ core: StreamCore, _ load: HandlerLoad, _ body: @escaping @Sendable () async -> Void
  ) {
    load.running.add(1, ordering: .relaxed)
    self.state.withLock { state in
      state.lastID += 1
      let id = state.lastID
      // A task that ends at once waits for the lock, and so finds itself in the table.
      let task = Task {
        await body()
        load.running.subtract(1, ordering: .relaxed)
        self.ended(id)
      }
      state.tasks[id] = task
      if state.isCancelled { task.cancel() }
    }
  }

  private func ended(_ id: UInt64) {
    let waiter = self.state.withLock { state -> UnsafeContinuation<Void, Never>? in
      state.tasks[id] = nil
      guard state.tasks.isEmpty else { return nil }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  func cancelAll() {
    let tasks = self.state.withLock { state in
      state.isCancelled = true
      return Array(state.tasks.values)
    }
    for task in tasks { task.cancel() }
  }

  /// Waits for the last handler. To be called once, when no more are started.
  func allEnded() async {
    await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
      let ended = self.state.withLock { state -> Bool in
        if !state.tasks.isEmpty { state.waiter = waiter }
        return state.tasks.isEmpty
      }
      if ended { waiter.resume() }
    }
  }
}

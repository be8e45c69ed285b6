internal import CHTTP2
public import GRPCCore
internal import Synchronization

/// A gRPC client transport on HTTP/2 (nghttp2), over TCP or UNIX sockets.
///
/// ```swift
/// try await withGRPCClient(
///   transport: try NGHTTP2ClientTransport(target: .tcp(host: "localhost", port: 5001))
/// ) { client in
///   …
/// }
/// ```
///
/// It keeps one connection to its target while ``connect()`` runs: names are resolved anew and
/// addresses tried in turn whenever it is lost, with jittered, growing delays
/// (``NGHTTP2Backoff``). A server that says GOAWAY keeps its open RPCs while new ones go to a new
/// connection. RPCs wait for the first connection; while later attempts fail they fail at once with
/// `unavailable`, unless `waitForReady` is set in their options.
///
/// One thread owns the connections. Writes of many messages (`write(contentsOf:)`) are packed into
/// full frames and cost a fraction of as many single ones. A writer is suspended while the server
/// takes less than it writes; a reader that pauses stops the server the same way.
public final class NGHTTP2ClientTransport: ClientTransport {
  /// Messages are arrays of bytes.
  public typealias Bytes = [UInt8]

  /// Shared by all RPCs, if the service config asks for one.
  public let retryThrottle: RetryThrottle?

  private enum Lifecycle {
    case new
    case running
    case ended
  }

  private let config: NGHTTP2ClientConfig
  private let loop: EventLoop
  private let gate = ClientGate()
  private let driver: ClientDriver
  private let methods: MethodTable
  private let headBegin: String
  private let lifecycle = Mutex(Lifecycle.new)

  /// - Throws: `RPCError` when the system has no descriptors left.
  public init(target: NGHTTP2Address, config: NGHTTP2ClientConfig = NGHTTP2ClientConfig()) throws {
    self.config = config
    self.loop = try EventLoop()
    self.driver = ClientDriver(loop: self.loop, gate: self.gate, target: target, config: config)
    self.methods = MethodTable(config.serviceConfig)
    self.retryThrottle = config.serviceConfig.retryThrottling.map { RetryThrottle(policy: $0) }
    self.headBegin = config.authority ?? target.authority
  }

  /// Grows at least once a second while ``connect()`` runs and the transport's thread is not stuck:
  /// for a watchdog.
  public var turns: UInt64 { self.loop.turns }

  /// Since something was heard of the server, or since there is a transport. With a `keepalive` it is
  /// heard of at its interval at the least; nil while the server wants less than that.
  public var silence: Duration? {
    self.loop.silence.map { .nanoseconds(Int64(clamping: $0)) }
  }

  /// Connects and keeps connected until ``beginGracefulShutdown()`` was called and all RPCs have
  /// ended, or until the task is cancelled: open RPCs then fail at once.
  public func connect() async throws {
    try self.lifecycle.withLock { lifecycle in
      guard case .new = lifecycle else {
        throw RPCError(
          code: .failedPrecondition, message: "The transport was connected before, or shut down.")
      }
      lifecycle = .running
    }
    try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { (ended: UnsafeContinuation<Void, any Error>) in
        do {
          self.loop.post { self.driver.begin() }
          try self.loop.start(name: self.config.threadName, role: self.driver) { ended.resume() }
        } catch {
          self.gate.isClosed()
          ended.resume(throwing: error)
        }
      }
    } onCancel: {
      self.loop.post { self.driver.abort() }
    }
  }

  /// No new RPCs; ``connect()`` returns when the open ones have ended.
  public func beginGracefulShutdown() {
    let idle = self.gate.beginShutdown()
    let wasNew = self.lifecycle.withLock { lifecycle -> Bool in
      defer { if case .new = lifecycle { lifecycle = .ended } }
      if case .new = lifecycle { return true }
      return false
    }
    if wasNew {
      self.gate.isClosed()
    } else if idle {
      self.loop.post { self.driver.finish() }
    }
  }

  public func withStream<T: Sendable>(
    descriptor: MethodDescriptor,
    options: CallOptions,
    _ closure: @concurrent (RPCStream<Inbound, Outbound>, ClientContext) async throws -> T
  ) async throws -> T {
    let waitForReady = options.waitForReady ?? false
    let peers = try await self.gate.enter(waitForReady: waitForReady)
    defer {
      if self.gate.leave() { self.loop.post { self.driver.finish() } }
    }
    let isSingle = descriptor.type.map { !$0.isRequestStreaming } ?? false
    let core = StreamCore(
      loop: self.loop, config: self.config.connection, corked: isSingle,
      waitForReady: waitForReady)
    // Whatever the closure leaves unfinished is given up.
    defer { core.abandon(HTTP2ErrorCode.cancel, unlessEnded: true) }

    let connection = self.config.connection
    let reader = InboundReader(
      core: core,
      maxMessageBytes: options.maxResponseMessageBytes ?? connection.maxInboundMessageBytes,
      windowBytes: connection.streamWindowBytes)
    let writer = ClientWriter(
      core: core, head: self.head(of: descriptor),
      maxMessageBytes: options.maxRequestMessageBytes ?? connection.maxOutboundMessageBytes)
    let stream = RPCStream(
      descriptor: descriptor,
      inbound: RPCAsyncSequence(wrapping: ClientInbound(reader: reader)),
      outbound: RPCWriter.Closable(wrapping: writer))
    let context = ClientContext(
      descriptor: descriptor, remotePeer: peers.remote, localPeer: peers.local)
    return try await closure(stream, context)
  }

  private func head(of descriptor: MethodDescriptor) -> HeaderBlock {
    var head = HeaderBlock()
    head.add(":method", "POST")
    head.add(":scheme", "http")
    head.add(":path", "/\(descriptor.service.fullyQualifiedService)/\(descriptor.method)")
    head.add(":authority", self.headBegin)
    head.add("te", "trailers")
    head.add("content-type", "application/grpc")
    head.add("grpc-accept-encoding", "identity")
    head.add("user-agent", self.config.userAgent)
    return head
  }

  public func config(forMethod descriptor: MethodDescriptor) -> MethodConfig? {
    self.methods[descriptor]
  }
}

/// Method configurations by name: the method's own, else its service's, else the general one.
struct MethodTable: Sendable {
  private var configs: [MethodConfig.Name: MethodConfig] = [:]

  init(_ config: ServiceConfig) {
    for method in config.methodConfig {
      for name in method.names { self.configs[name] = method }
    }
  }

  subscript(descriptor: MethodDescriptor) -> MethodConfig? {
    if self.configs.isEmpty { return nil }
    let service = descriptor.service.fullyQualifiedService
    return self.configs[MethodConfig.Name(service: service, method: descriptor.method)]
      ?? self.configs[MethodConfig.Name(service: service, method: "")]
      ?? self.configs[MethodConfig.Name(service: "", method: "")]
  }
}

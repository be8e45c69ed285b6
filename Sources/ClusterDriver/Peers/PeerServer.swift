import DriverProtocol
import Election
import GRPCCore
import GRPCNGHTTP2
import Logging
import Synchronization

/// Answers the other nodes of the cluster (driver_peer.proto).
final class PeerServer: Sendable {
  private let transport: NGHTTP2ServerTransport
  private let server: GRPCServer<NGHTTP2ServerTransport>
  private let serving: Awaited<String?>
  private let address: HostPort

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private let service: PeerService

  /// Begins to listen; answers from `serve` on.
  ///
  /// - Parameters:
  ///   - me: only questions to this node are answered.
  ///   - commands: where commands go that peers pass on; nil: none are taken.
  init(
    address: HostPort, me: NodeID, commands: CommandPipeline?, log: Logger
  ) throws(Failure) {
    var config = NGHTTP2ServerConfig()
    config.threadName = "peer-server"
    // News of ten thousand ranges take two megabytes, a question some hundred bytes.
    config.connection.maxInboundMessageBytes = 64 << 10
    config.connection.streamWindowBytes = 65_535
    config.connection.tcpKeepaliveIdle = .seconds(1)
    config.connection.tcpTimeout = .seconds(2)
    config.maxConnections = 1024
    config.maxConcurrentStreams = 64
    config.maxConnectionIdle = nil
    // PeerLinks ask every quarter of a second.
    config.minPingInterval = .milliseconds(100)
    config.shutdownGrace = .milliseconds(200)
    config.onEvent = { event in
      if case .refused(let peer, let reason) = event {
        log.warning("refused", metadata: ["peer": .string(peer), "reason": .string(reason)])
      }
    }
    self.address = address
    do {
      let transport = try NGHTTP2ServerTransport(
        address: .tcp(host: address.host, port: Int(address.port)), config: config)
      let service = PeerService(me: me, commands: commands)
      let server = GRPCServer(transport: transport, services: [service])
      self.service = service
      self.transport = transport
      self.server = server
      self.serving = Awaited {
        do {
          try await server.serve()
          return nil
        } catch {
          return "\((error as? RuntimeError)?.cause ?? error)"
        }
      }
    } catch {
      throw Failure(description: "peers cannot be served on \(address): \(error)")
    }
  }

  /// The port that was bound. BLOCKS until it is, ten seconds at most.
  func port() throws(Failure) -> UInt16 {
    let transport = self.transport
    let bound = Awaited { try? await transport.listeningAddress }
    if case .tcp(_, let port)? = bound.wait(.seconds(10)) ?? nil { return UInt16(port) }
    throw Failure(
      description: """
        peers cannot be served at \(self.address): \(self.serving.wait(.zero).flatMap(\.self) ?? "the address was not bound"); \
        another process may be there already (--peers names another place)
        """)
  }

  func serve(_ loop: OwnershipLoop) { self.service.serve(loop) }

  /// From now on peers are told of the node, and may have it restart.
  func serve(_ desk: NodeDesk) { self.service.serve(desk) }

  /// Grows at least once a second while its thread lives and is not stuck.
  var turns: UInt64 { self.transport.turns }

  func close() {
    self.server.beginGracefulShutdown()
    _ = self.serving.wait(.seconds(1))
  }
}

private final class PeerService: Clusterdriver_V1_DriverPeer.SimpleServiceProtocol {
  private let me: NodeID
  private let commands: CommandPipeline?
  private let loop = Mutex<OwnershipLoop?>(nil)
  private let desk = Mutex<NodeDesk?>(nil)

  init(me: NodeID, commands: CommandPipeline?) {
    self.me = me
    self.commands = commands
  }

  func serve(_ loop: OwnershipLoop) { self.loop.withLock { $0 = loop } }
  func serve(_ desk: NodeDesk) { self.desk.withLock { $0 = desk } }

  private func present() throws -> OwnershipLoop {
    if let loop = self.loop.withLock({ $0 }) { return loop }
    throw RPCError(code: .unavailable, message: "the node is starting")
  }

  func ask(
    request: Clusterdriver_V1_PeerQuestion, context: ServerContext
  ) async throws -> Clusterdriver_V1_PeerAnswer {
    guard let (asker, question) = PeerWire.question(request) else {
      throw RPCError(code: .invalidArgument, message: "no question this version knows")
    }
    try self.check(asked: request.asked)
    let loop = try self.present()
    let answer = await withCheckedContinuation { continuation in
      loop.asked(question, by: asker) { continuation.resume(returning: $0) }
    }
    return PeerWire.message(answer)
  }

  private func check(asked: String) throws {
    guard asked == self.me.name else {
      throw RPCError(
        code: .invalidArgument,
        message: "this is \(self.me), not \(asked): two nodes say they are reached here;"
          + " see --peers")
    }
  }

  func nudge(
    request: Clusterdriver_V1_PeerNudge, context: ServerContext
  ) async throws -> Clusterdriver_V1_PeerNudged {
    try self.present().happened(.nudged)
    return Clusterdriver_V1_PeerNudged()
  }

  func announce(
    request: Clusterdriver_V1_PeerBeat, context: ServerContext
  ) async throws -> Clusterdriver_V1_PeerBeatHeard {
    guard !request.node.node.isEmpty else {
      throw RPCError(code: .invalidArgument, message: "a heartbeat is somebody's")
    }
    try self.present().happened(
      .announced(PeerWire.owner(request.node), counter: request.counter))
    return Clusterdriver_V1_PeerBeatHeard()
  }

  func passOn(
    request: Clusterdriver_V1_PeerCommands, context: ServerContext
  ) async throws -> Clusterdriver_V1_PeerCommandsAnswer {
    try self.check(asked: request.asked)
    guard let commands = CommandWire.commands(request) else {
      throw RPCError(
        code: .invalidArgument,
        message: "a command this version cannot take, or more than \(PassBatch.commandsMax)")
    }
    return CommandWire.message(try self.pipeline().receive(commands))
  }

  func awaitResult(
    request: Clusterdriver_V1_PeerAwait, context: ServerContext
  ) async throws -> Clusterdriver_V1_CommandResult {
    try self.check(asked: request.asked)
    guard let id = CommandID(request.id) else {
      throw RPCError(code: .invalidArgument, message: "a command's id has 16 bytes")
    }
    let commands = try self.pipeline()
    let waiting = Task { try await commands.result(of: id) }
    let result = try await withRPCCancellationHandler {
      try await waiting.value
    } onCancelRPC: {
      waiting.cancel()
    }
    guard let result else {
      throw RPCError(code: .notFound, message: "no such command is here (any more)")
    }
    return Clusterdriver_V1_CommandResult(result)
  }

  func keepResults(
    request: Clusterdriver_V1_PeerResults, context: ServerContext
  ) async throws -> Clusterdriver_V1_PeerResultsKept {
    try self.check(asked: request.asked)
    guard request.results.allSatisfy({ FinishedCommand($0) != nil }) else {
      throw RPCError(code: .invalidArgument, message: "a result this version does not know")
    }
    guard try self.pipeline().keep(request.results) else {
      throw RPCError(code: .resourceExhausted, message: CommandDetail.vendorBehind)
    }
    return Clusterdriver_V1_PeerResultsKept()
  }

  func describe(
    request: Clusterdriver_V1_PeerDescribe, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    try self.check(asked: request.asked)
    return try self.openDesk().described()
  }

  func restart(
    request: Clusterdriver_V1_PeerRestart, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    try self.check(asked: request.asked)
    return try self.openDesk().restart(incarnation: request.incarnation)
  }

  private func openDesk() throws -> NodeDesk {
    if let desk = self.desk.withLock({ $0 }) { return desk }
    throw RPCError(code: .unavailable, message: "the node is starting")
  }

  private func pipeline() throws -> CommandPipeline {
    if let commands = self.commands { return commands }
    throw RPCError(code: .unimplemented, message: "this member of the cluster serves nobody")
  }
}

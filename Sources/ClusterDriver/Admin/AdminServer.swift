internal import GRPCCore
internal import GRPCNGHTTP2
internal import Logging

/// Serves ``AdminService`` on a Unix socket or a TCP address.
///
/// The socket's file has mode 0660. A file left behind by a process that is gone is replaced; one
/// that somebody listens on, and anything that is not a socket, is left alone and the start fails.
/// What one client can hold is limited.
final class AdminServer: Sendable {
  /// Why it does not listen: for people, with what to do.
  struct Failure: Error, Equatable, CustomStringConvertible {
    let description: String
  }

  private let transport: NGHTTP2ServerTransport
  private let server: GRPCServer<NGHTTP2ServerTransport>
  private let node: any NodeView

  init(address: AdminAddress, node: any NodeView, log: Logger) throws {
    var config = NGHTTP2ServerConfig()
    config.threadName = "admin"
    config.connection.maxInboundMessageBytes = 64 << 10
    config.connection.streamWindowBytes = 65_535
    config.maxConnections = 64
    config.maxConcurrentStreams = 32
    config.shutdownGrace = .seconds(1)
    config.unixSocketMode = 0o660
    config.onEvent = { event in
      switch event {
      case .connected(let peer):
        log.debug("connected", metadata: ["peer": .string(peer)])
      case .disconnected(let peer, let reason, let failure):
        log.log(
          level: failure ? .notice : .debug, "disconnected",
          metadata: ["peer": .string(peer), "reason": .string(reason)])
      case .refused(let peer, let reason):
        log.warning("refused", metadata: ["peer": .string(peer), "reason": .string(reason)])
      case .connectFailed, .unanswered:
        break
      }
    }
    self.transport = try NGHTTP2ServerTransport(address: address.transportAddress, config: config)
    self.server = GRPCServer(transport: self.transport, services: [AdminService(node: node)])
    self.node = node
  }

  /// Serves until ``shutDown()``, or until the task is cancelled. Throws when it cannot listen.
  func serve() async throws(Failure) {
    do {
      try await self.server.serve()
    } catch let error as RuntimeError {
      throw AdminServer.failure(error.cause ?? error)
    } catch {
      throw AdminServer.failure(error)
    }
  }

  /// Grows at least once a second while it serves and its thread is not stuck.
  var turns: UInt64 { self.transport.turns }

  /// What is listened on, with the port that was bound. Waits until it is.
  var address: AdminAddress {
    get async throws(Failure) {
      do {
        switch try await self.transport.listeningAddress {
        case .unix(let path): return .unix(path)
        case .tcp(let host, let port): return .tcp(HostPort(host: host, port: UInt16(port)))
        }
      } catch {
        throw AdminServer.failure(error)
      }
    }
  }

  /// Ends the tails, lets other calls end for a second, and stops serving.
  func shutDown() {
    self.node.tail.closeAll()
    self.server.beginGracefulShutdown()
  }

  private static func failure(_ error: any Error) -> Failure {
    let why = (error as? RPCError)?.message ?? "\(error)"
    return Failure(
      description: "the admin service does not serve: \(why) (another node may be there already;"
        + " --admin names another place)")
  }
}

extension AdminAddress {
  fileprivate var transportAddress: NGHTTP2Address {
    switch self {
    case .unix(let path): return .unix(path)
    case .tcp(let address): return .tcp(host: address.host, port: Int(address.port))
    }
  }
}

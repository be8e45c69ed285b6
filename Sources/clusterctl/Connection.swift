internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2

/// One call to a node's admin service.
enum Connection {
  typealias Admin = Clusterdriver_V1_DriverAdmin.Client<NGHTTP2ClientTransport>

  /// Connects, runs `body` and disconnects. A node that can't be reached is a ``Failure``.
  static func with<T: Sendable>(
    _ address: NGHTTP2Address, backoff: NGHTTP2Backoff = NGHTTP2Backoff(),
    _ body: @Sendable @escaping (Admin) async throws -> T
  ) async throws -> T {
    do {
      var config = NGHTTP2ClientConfig()
      config.connectTimeout = .seconds(5)
      config.backoff = backoff
      let transport = try NGHTTP2ClientTransport(target: address, config: config)
      return try await withGRPCClient(transport: transport) { client in
        try await body(Admin(wrapping: client))
      }
    } catch let error as RPCError {
      throw Failure(exit: .unreachable, message: explained(error, address))
    }
  }

  static func explained(_ error: RPCError, _ address: NGHTTP2Address) -> String {
    switch error.code {
    case .unavailable:
      "can't reach the node at \(address): \(error.message). Is it running?"
    case .deadlineExceeded:
      "the node at \(address) did not answer in time; it is stopped or hung"
    default:
      "the node at \(address) answered \(error.code): \(error.message)"
    }
  }

  /// For calls that should be answered at once.
  static var prompt: CallOptions {
    var options = CallOptions.defaults
    options.timeout = .seconds(10)
    return options
  }
}

import DriverProtocol
import Election
import GRPCCore
import GRPCNGHTTP2
import SwiftProtobuf

/// What an operator at this node asks of the others.
extension PeerLinks: NodePeers {
  func describe(_ node: NodeID) async throws(RPCError) -> Clusterdriver_V1_NodeStatus {
    try await self.ask(node) { peer, options in
      try await peer.describe(.with { $0.asked = node.name }, options: options)
    }
  }

  func restart(
    _ node: NodeID, incarnation: UInt64
  ) async throws(RPCError) -> Clusterdriver_V1_NodeStatus {
    try await self.ask(node) { peer, options in
      try await peer.restart(
        .with {
          $0.asked = node.name
          $0.incarnation = incarnation
        }, options: options)
    }
  }

  private func ask(
    _ node: NodeID,
    _ body: (Clusterdriver_V1_DriverPeer.Client<NGHTTP2ClientTransport>, CallOptions) async throws
      ->
      Clusterdriver_V1_NodeStatus
  ) async throws(RPCError) -> Clusterdriver_V1_NodeStatus {
    guard let client = self.client(of: node) else {
      throw RPCError(
        code: .unavailable, message: "\(node) has not said where it is reached: see its --peers")
    }
    var options = CallOptions.defaults
    options.timeout = PeerLinks.answerLimit
    do {
      return try await body(Clusterdriver_V1_DriverPeer.Client(wrapping: client), options)
    } catch let error as RPCError {
      throw PeerLinks.explained(error, node)
    } catch {
      throw RPCError(code: .unavailable, message: "\(node) cannot be reached from here: \(error)")
    }
  }

  /// Whether it was the node that answered, or nobody.
  static func explained(_ error: RPCError, _ node: NodeID) -> RPCError {
    switch error.code {
    case .unimplemented:
      RPCError(
        code: .failedPrecondition,
        message:
          "\(node) runs a program that cannot be asked through others: restart its unit on its host"
      )
    case .failedPrecondition: error
    case .deadlineExceeded:
      RPCError(
        code: .unavailable,
        message:
          "\(node) did not answer within \(PeerLinks.answerLimit): it hangs, or is cut off from here"
      )
    default:
      RPCError(
        code: .unavailable, message: "\(node) cannot be reached from here: \(error.message)")
    }
  }
}

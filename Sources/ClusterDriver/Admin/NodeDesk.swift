internal import DriverProtocol
internal import Election
internal import GRPCCore

/// What an operator may ask of a node through another one of its cluster.
struct NodeDesk: Sendable {
  /// Nil: the node is ending, or not there yet.
  var describe: @Sendable () -> Clusterdriver_V1_NodeStatus?
  /// Ends the node in the way of a restart. Returns at once.
  var restart: @Sendable () -> Void

  init(
    describe: @escaping @Sendable () -> Clusterdriver_V1_NodeStatus?,
    restart: @escaping @Sendable () -> Void
  ) {
    self.describe = describe
    self.restart = restart
  }

  /// Holds no node: whoever keeps the desk is a part of one.
  init(_ node: some NodeView & AnyObject) {
    self.init(
      describe: { [weak node] in node?.status() }, restart: { [weak node] in node?.restart() })
  }

  func described() throws(RPCError) -> Clusterdriver_V1_NodeStatus {
    guard let status = self.describe() else {
      throw RPCError(code: .unavailable, message: "the node is ending")
    }
    return status
  }

  /// Has the node restart, if it is in this life; asked again, it says so once more. Returns how it was
  /// just before.
  func restart(
    incarnation: UInt64
  ) throws(RPCError) -> Clusterdriver_V1_NodeStatus {
    let status = try self.described()
    guard status.incarnation == incarnation else {
      throw RPCError(
        code: .failedPrecondition,
        message: """
          \(status.nodeID) is in another life than the one that is to end (\(status.incarnation), not \
          \(incarnation)): it has restarted meanwhile; look at it before asking again
          """)
    }
    guard status.restartable else {
      throw RPCError(
        code: .failedPrecondition,
        message: "\(status.nodeID) was not restarted: \(status.whyNotRestartable)")
    }
    if status.state != "stopping" { self.restart() }
    return status
  }
}

/// The other nodes of the cluster, for an operator at this one. What is thrown says which node could not be
/// asked, why, and what to do.
protocol NodePeers: Sendable {
  func describe(_ node: NodeID) async throws(RPCError) -> Clusterdriver_V1_NodeStatus
  func restart(
    _ node: NodeID, incarnation: UInt64
  ) async throws(RPCError) -> Clusterdriver_V1_NodeStatus
}

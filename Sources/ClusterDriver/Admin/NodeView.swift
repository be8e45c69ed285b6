internal import DriverProtocol
internal import Election

/// What the admin service may see of the node and ask of it. The node implements it; tests bring
/// their own.
///
/// Every function may be called from any thread, several at once, and is for an operator: nothing
/// here is called per event.
protocol NodeView: Sendable {
  /// The node's state and counters at this moment. Returns at once.
  func status() -> Clusterdriver_V1_NodeStatus

  /// Up to `limit` (1 …) connected controllers with a serial of at least `serial`, by serial.
  /// Fewer than `limit` means that there are no more. May block for up to a second: it is called on
  /// a thread of its own.
  func sessions(
    from serial: UInt64, limit: Int
  ) throws(NodeViewError) -> [Clusterdriver_V1_NodeController]

  /// Takes a command as from any other door and returns its one result. What is wrong with the
  /// command (a bad id, a missing deadline) is a result too: refused, `bad_command`.
  func send(_ command: Clusterdriver_V1_Command) async -> Clusterdriver_V1_CommandResult

  /// The cluster as the node sees it; nil when it is on its own.
  var cluster: OwnershipView? { get }
  /// What has changed in it since the node started; nil when it is on its own.
  var history: OwnershipHistory? { get }
  /// Empties the node, or takes that back.
  func drain(_ isDraining: Bool)
  /// What an operator wants of the whole cluster. Returns at once; what it has come to shows in `cluster`.
  func order(_ order: OperatorOrder)

  /// The way to the other nodes; nil when it is on its own.
  var peers: (any NodePeers)? { get }
  /// Ends the node as SIGTERM does: with --parking its next process goes on. Returns at once.
  func restart()

  /// Where the node offers the events it takes.
  var tail: TailHub { get }
}

/// Why the node could not answer.
enum NodeViewError: Error, Equatable {
  /// A thread did not answer in time; the node is hung or far too busy. With what to do, for people.
  case timedOut(String)
}

import DriverProtocol
import Election

/// A command on its way from a node that does not own its controller to the one that does.
struct PassedCommand: Sendable, Equatable {
  var command: ControllerCommand
  /// It was sent to the controller and not answered: it may have been carried out.
  var wasSent = false
  /// Another node may have it too, or may have had it carried out.
  var isShared = false
  /// Whoever gave it may not have had its result: if it has ended, the result comes once more.
  var tellAgain = false
}

/// Commands for one node, in the order they were taken.
struct PassBatch: Sendable, Equatable {
  /// In one message to a peer, which takes 64 KiB.
  static let commandsMax = 64
  static let bodyBytesMax = 32 << 10

  var to: NodeID
  /// Names the attempt.
  var number: UInt64
  var commands: [PassedCommand]
}

/// What a peer says to a command that is passed on to it.
enum PassAnswer: Sendable, Equatable {
  case taken
  case ended(FinishedCommand)
  /// Whose it is, as far as the peer knows.
  case notMine(NodeID?)
  case busy
}

/// The way to the other nodes. Any thread; nothing here blocks. `tell` is called exactly once, and not
/// before the function has returned: its caller may hold locks.
protocol CommandPeers: Sendable {
  /// - Parameter tell: with an answer for each command; nil: it is not known what became of them.
  func pass(_ batch: PassBatch, tell: @escaping @Sendable ([PassAnswer]?) -> Void)
  /// - Parameter tell: with the result once there is one; nil: that node does not say.
  func awaitResult(
    of id: CommandID, at node: NodeID, tell: @escaping @Sendable (FinishedCommand?) -> Void)
  /// Gives results to a peer that tells the vendor app of them.
  /// - Parameter tell: whether all of them are with one.
  func keep(
    _ results: [Clusterdriver_V1_CommandResult], tell: @escaping @Sendable (Bool) -> Void)
}

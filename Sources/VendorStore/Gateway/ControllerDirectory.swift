internal import DriverProtocol
internal import Synchronization

/// Which node has which controller online, by the newest status of each: where commands go.
///
/// Kept from the moment a status arrives, not from its commit: a full disk is no reason not to open
/// a door.
final class ControllerDirectory: Sendable {
  fileprivate struct Entry {
    var order: StatusOrder
    var isOnline: Bool
    var node: String
  }

  fileprivate struct State {
    var entries: [UInt64: Entry] = [:]
    var online = 0
  }

  private let state = Mutex(State())

  func note(_ statuses: [Clusterdriver_V1_ControllerStatus], from node: String) {
    state.withLock { state in
      for status in statuses { state.note(status, from: node) }
    }
  }

  /// The node that has the controller online; nil when none said so last.
  func node(of serial: UInt64) -> String? {
    state.withLock { $0.entries[serial].flatMap { $0.isOnline ? $0.node : nil } }
  }

  var online: Int { state.withLock { $0.online } }
}

extension ControllerDirectory.State {
  fileprivate mutating func note(
    _ status: Clusterdriver_V1_ControllerStatus, from node: String
  ) {
    let order = StatusOrder(status)
    let old = entries[status.serial]
    if let old, order < old.order { return }
    let isOnline = status.state == .online
    entries[status.serial] = .init(order: order, isOnline: isOnline, node: node)
    online += (isOnline ? 1 : 0) - (old?.isOnline == true ? 1 : 0)
  }
}

internal import DriverProtocol

/// Where a status stands in the history of a controller's connections.
struct StatusOrder: Comparable, Sendable {
  var ownerEpoch: UInt64 = 0
  var session: UInt64 = 0
  var at: UInt64 = 0

  init() {}

  init(ownerEpoch: UInt64, session: UInt64, at: UInt64) {
    self.ownerEpoch = ownerEpoch
    self.session = session
    self.at = at
  }

  init(_ status: Clusterdriver_V1_ControllerStatus) {
    ownerEpoch = status.ownerEpoch
    session = status.sessionID
    at = status.atMs
  }

  static func < (a: StatusOrder, b: StatusOrder) -> Bool {
    (a.ownerEpoch, a.session, a.at) < (b.ownerEpoch, b.session, b.at)
  }
}

/// Decides whose word counts: for each serial the highest owner epoch seen, below which events are
/// refused, and the place of the newest status.
///
/// Invariant: what it holds equals what the store holds, or is about to in the open transaction:
/// `begin`, then any number of decisions, then `commit` or `rollback`.
struct OwnerFence: Sendable {
  struct Head: Sendable, Equatable {
    var ownerEpoch: UInt64 = 0
    var status = StatusOrder()
  }

  enum Decision: Equatable {
    case unchanged
    /// The epoch is higher than any before: to be stored.
    case raised
    case stale(seen: UInt64)
  }

  private var committed: [UInt64: Head] = [:]
  private var pending: [UInt64: Head] = [:]
  // Records come in runs of one controller: the last answer is good for the next.
  private var lastSerial: UInt64 = 0
  private var lastEpoch: UInt64 = 0

  subscript(serial: UInt64) -> Head? {
    if !pending.isEmpty, let head = pending[serial] { return head }
    return committed[serial]
  }

  /// Every serial it has met.
  var serials: Set<UInt64> { Set(committed.keys).union(pending.keys) }

  mutating func load(_ serial: UInt64, _ head: Head) { committed[serial] = head }

  @inline(__always)
  mutating func admit(_ serial: UInt64, ownerEpoch: UInt64) -> Decision {
    if serial == lastSerial, ownerEpoch == lastEpoch { return .unchanged }
    return decide(serial, ownerEpoch)
  }

  private mutating func decide(_ serial: UInt64, _ ownerEpoch: UInt64) -> Decision {
    var head = self[serial] ?? Head()
    guard ownerEpoch >= head.ownerEpoch else { return .stale(seen: head.ownerEpoch) }
    lastSerial = serial
    lastEpoch = ownerEpoch
    // A serial that was never met is stored too, whatever its epoch.
    if ownerEpoch == head.ownerEpoch, self[serial] != nil { return .unchanged }
    head.ownerEpoch = ownerEpoch
    pending[serial] = head
    return .raised
  }

  /// True when a status at that place is the newest; it is then the one to store. Raises the owner
  /// epoch with it.
  mutating func isNewest(_ order: StatusOrder, of serial: UInt64) -> Bool {
    var head = self[serial] ?? Head()
    guard order >= head.status else { return false }
    head.status = order
    if order.ownerEpoch > head.ownerEpoch {
      head.ownerEpoch = order.ownerEpoch
      if serial == lastSerial { lastSerial = 0 }
    }
    pending[serial] = head
    return true
  }

  mutating func commit() {
    if pending.isEmpty { return }
    for (serial, head) in pending { committed[serial] = head }
    pending.removeAll(keepingCapacity: pending.count < 4_096)
  }

  mutating func rollback() {
    pending = [:]
    lastSerial = 0
  }
}

import Election

/// Whose the controllers are, as this node knows it: what it may act for and until when, and what the
/// store has said of the others.
struct OwnerTable: Sendable {
  enum Standing: Sendable, Equatable {
    /// This node's, under that epoch: at this instant nobody else acts for it.
    case mine(Epoch)
    /// This node's by all it knows, but its lease has run out: it may be another's by now.
    case fenced
    case others(NodeID)
    /// Nobody's, on its way to somebody, or not heard of yet.
    case unknown
  }

  let me: NodeID
  /// By first serial, apart.
  private(set) var acting: [OwnedRange] = []
  private var until: ContinuousClock.Instant?
  private var ranges: SortedMap<Serial, RangeRecord> = [:]
  private var store: StoreIdentity?

  init(me: NodeID) {
    self.me = me
  }

  /// - Parameter acting: nil: as before.
  /// - Returns: whether ranges were lost, and whether some were got.
  mutating func act(
    for acting: [OwnedRange]?, until: ContinuousClock.Instant?
  ) -> (lost: Bool, gained: Bool) {
    self.until = until
    guard let acting else { return (false, false) }
    let changes = OwnedRange.changes(from: self.acting, to: acting)
    self.acting = acting
    return (!changes.ended.isEmpty, !changes.begun.isEmpty)
  }

  mutating func see(_ ranges: SortedMap<Serial, RangeRecord>, in store: StoreIdentity?) {
    self.ranges = ranges
    self.store = store
  }

  /// O(log n), without allocation.
  func standing(of number: UInt64, at now: ContinuousClock.Instant) -> Standing {
    let serial = Serial(number)
    if let i = OwnerTable.place(of: serial, in: self.acting, by: \.first),
      self.acting[i].last >= serial
    {
      guard let until = self.until, now < until else { return .fenced }
      return .mine(self.acting[i].epoch)
    }
    // What another store has said is an old story.
    guard let i = OwnerTable.place(of: serial, in: self.ranges.keys, by: \.self),
      self.ranges.values[i].last >= serial, self.ranges.values[i].store == self.store,
      let owner = self.ranges.values[i].owner?.node, owner != self.me
    else { return .unknown }
    return .others(owner)
  }

  /// The last one that does not begin behind the serial.
  @inline(__always)
  private static func place<Element>(
    of serial: Serial, in elements: [Element], by first: (Element) -> Serial
  ) -> Int? {
    var low = 0
    var high = elements.count
    while low < high {
      let middle = (low + high) / 2
      if first(elements[middle]) <= serial { low = middle + 1 } else { high = middle }
    }
    return low > 0 ? low - 1 : nil
  }
}

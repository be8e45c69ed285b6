/// A node in one of its lives.
public struct Owner: Sendable, Hashable, CustomStringConvertible {
  public var node: NodeID
  public var incarnation: Incarnation

  public init(_ node: NodeID, _ incarnation: Incarnation) {
    self.node = node
    self.incarnation = incarnation
  }

  public var description: String { "\(node)/\(incarnation)" }
}

/// What of a session is watched: while it stays the same, nobody has renewed it.
public struct SessionValue: Sendable, Hashable {
  public var incarnation: Incarnation
  public var counter: UInt64

  public init(_ incarnation: Incarnation, _ counter: UInt64) {
    self.incarnation = incarnation
    self.counter = counter
  }
}

/// What a node says of itself with every heartbeat.
public struct MemberStatus: Sendable, Hashable {
  /// It is being emptied.
  public var draining: Bool
  /// It can serve.
  public var healthy: Bool
  /// Of its program.
  public var version: UInt64
  /// How much it can carry beside the others, in thousandths.
  public var capacity: UInt64
  /// `host:port` where its controllers' port is reached; empty: nowhere.
  public var controllersAt: String
  /// `host:port` where its peers ask it; empty: nowhere.
  public var peersAt: String

  public init(
    draining: Bool = false, healthy: Bool = true, version: UInt64 = 0, capacity: UInt64 = 1000,
    controllersAt: String = "", peersAt: String = ""
  ) {
    self.draining = draining
    self.healthy = healthy
    self.version = version
    self.capacity = capacity
    self.controllersAt = controllersAt
    self.peersAt = peersAt
  }
}

/// A node's sign of life in the store.
public struct SessionRecord: Sendable, Hashable {
  public var node: NodeID
  public var value: SessionValue
  /// Its node has stopped acting, and said so.
  public var released: Bool
  public var status: MemberStatus
  /// Number of the member list it knows.
  public var list: UInt64
  /// The store it has last had an answer from. When it is the present one, its node acts for nothing
  /// that this store does not know of.
  public var knows: StoreIdentity?
  /// The store for which its node, in this life or a former one, was sure to be a member.
  public var sureOf: StoreIdentity?

  public init(
    node: NodeID, value: SessionValue, released: Bool = false,
    status: MemberStatus = MemberStatus(), list: UInt64 = 0, knows: StoreIdentity? = nil,
    sureOf: StoreIdentity? = nil
  ) {
    self.node = node
    self.value = value
    self.released = released
    self.status = status
    self.list = list
    self.knows = knows
    self.sureOf = sureOf
  }
}

/// A move the leader has ordered.
public struct PendingMove: Sendable, Hashable {
  public var to: NodeID
  /// Never the same for two moves of a store; what is handed over names it.
  public var number: UInt64

  public init(to: NodeID, number: UInt64) {
    self.to = to
    self.number = number
  }
}

/// What a range costs its owner, as the owner says.
public struct RangeLoad: Sendable, Hashable {
  /// Controllers and events/s in one number.
  public var weight: UInt64
  /// The serial that half of its controllers lie below: where to split it.
  public var median: Serial?

  public init(weight: UInt64 = 1, median: Serial? = nil) {
    self.weight = weight
    self.median = median
  }
}

/// A range in the store. Its last serial is kept, not derived from its neighbour: a store that has lost
/// the neighbour must not make anybody act for more.
public struct RangeRecord: Sendable, Hashable {
  public var first: Serial
  /// Included.
  public var last: Serial
  public var owner: Owner?
  /// Of the owner; of the last one when there is none.
  public var epoch: Epoch
  public var load: RangeLoad
  /// Who claims it when its owner dies, in rank order.
  public var successors: [NodeID]
  public var move: PendingMove?
  /// The store in which its owner got it or asserted it. While that is another than the present one,
  /// this is an old story: nobody acts by it.
  public var store: StoreIdentity?
  /// Version of the store with which it became what it is.
  public var changed: UInt64

  public init(
    first: Serial, last: Serial, owner: Owner? = nil, epoch: Epoch = .none,
    load: RangeLoad = RangeLoad(), successors: [NodeID] = [], move: PendingMove? = nil,
    store: StoreIdentity? = nil, changed: UInt64 = 0
  ) {
    self.first = first
    self.last = last
    self.owner = owner
    self.epoch = epoch
    self.load = load
    self.successors = successors
    self.move = move
    self.store = store
    self.changed = changed
  }

  public var serials: ClosedRange<Serial> { first...last }
  /// As somebody holds it, or may claim it.
  public var piece: OwnedRange { OwnedRange(first: first, last: last, epoch: epoch) }
}

public struct LeaderRecord: Sendable, Hashable {
  public var leader: Owner
  public var term: Term
  /// How many lists of orders of this term were carried out.
  public var orders: UInt64

  public init(leader: Owner, term: Term, orders: UInt64 = 0) {
    self.leader = leader
    self.term = term
    self.orders = orders
  }
}

/// Who counts for promises and consents.
public struct MemberList: Sendable, Hashable {
  /// Grows with every change; 0 for the list that was never written.
  public var number: UInt64
  /// With the number of the list each was added with.
  public var added: SortedMap<NodeID, UInt64>
  /// Members that were taken off and have not come back, by name: they may not know of it.
  public var removed: [NodeID]

  public init(number: UInt64 = 0, added: [NodeID: UInt64] = [:], removed: [NodeID] = []) {
    self.number = number
    self.added = SortedMap(added.lazy.map { ($0, $1) })
    self.removed = removed.sorted()
  }

  public var nodes: [NodeID] { added.keys }
}

/// Of a store and its contents: another one means that anything may have been lost.
public struct StoreIdentity: Sendable, Hashable {
  /// Hexadecimal digits, of a hash or of random numbers.
  public var text: String
  public init(_ text: String) { self.text = text }

  /// The first five digits: tells the epochs it gives from those of other stores.
  var tag: UInt64 { UInt64(text.prefix(5), radix: 16) ?? 0 }
}

/// A range with an epoch: one that a node acts for, or the highest that is known of it.
public struct OwnedRange: Sendable, Hashable {
  public var first: Serial
  /// Included.
  public var last: Serial
  public var epoch: Epoch

  public init(first: Serial, last: Serial, epoch: Epoch) {
    self.first = first
    self.last = last
    self.epoch = epoch
  }

  public var serials: ClosedRange<Serial> { first...last }

  /// What is in one list and not, or not the same, in the other. Both are by first serial. O(n + m).
  public static func changes(
    from before: [OwnedRange], to after: [OwnedRange]
  ) -> (ended: [OwnedRange], begun: [OwnedRange]) {
    var ended: [OwnedRange] = []
    var begun: [OwnedRange] = []
    var i = 0
    var j = 0
    while i < before.count || j < after.count {
      if i < before.count, j < after.count, before[i] == after[j] {
        i += 1
        j += 1
      } else if j == after.count || (i < before.count && before[i].first <= after[j].first) {
        ended.append(before[i])
        i += 1
      } else {
        begun.append(after[j])
        j += 1
      }
    }
    return (ended, begun)
  }
}

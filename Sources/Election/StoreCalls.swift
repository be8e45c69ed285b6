/// What can be asked of the store. Each call runs at one instant there, whole or not at all.
///
/// What is large is indirect, here and in replies and questions: they are handed on many times.
public enum StoreCall: Sendable, Hashable {
  indirect case heartbeat(Heartbeat)
  indirect case claim(Claim)
  /// What a node held when the store lost its memory, or may have: by serial, none over another, or
  /// none of it is taken.
  case assert(Owner, [OwnedRange])
  /// Ends with the receiver as owner if the range is this owner's, and in the move of that number.
  case handOver(Owner, range: Serial, move: UInt64)
  /// Marks the session released, if it still is this owner's.
  case release(Owner)
  /// To be leader, for one whose lease is free or whose session is as watched.
  indirect case campaign(Owner, hint: Term, watched: Watched?)
  /// Carried out only for the leader of that term, and only as the next list of orders: each is made
  /// with the effects of all before it in sight, one that comes late is void.
  case lead(Owner, Term, order: UInt64, [LeaderAction])
  /// What an operator wants of the cluster, whichever node was told.
  case operate(OperatorOrder)

  /// Ranges that a node names in one claim or assertion at most. Redis is busy with a thousand for 20 ms, and
  /// with it everybody's heartbeats.
  public static let rangesMax = 1000

  /// Runs whatever store it reaches. Every other call means the store it was made for, and is refused
  /// by another: what it rests on was seen there.
  public var isForAnyStore: Bool {
    switch self {
    case .heartbeat, .release: true
    default: false
    }
  }

  public struct Heartbeat: Sendable, Hashable {
    public var owner: Owner
    public var counter: UInt64
    public var status: MemberStatus
    /// The newest one known. The store takes it when it knows an older one.
    public var list: MemberList
    /// Ranges changed with later versions are asked for; 0 for all.
    public var since: UInt64
    /// The store that version is of. A version says nothing of another store.
    public var identity: StoreIdentity?
    /// The node is sure to be a member, by that store or the one before it.
    public var isSure: Bool
    /// Loads of the node's own ranges that have changed.
    public var loads: [Serial: RangeLoad]

    public init(
      owner: Owner, counter: UInt64, status: MemberStatus = MemberStatus(),
      list: MemberList = MemberList(), since: UInt64 = 0, identity: StoreIdentity? = nil,
      isSure: Bool = false, loads: [Serial: RangeLoad] = [:]
    ) {
      self.owner = owner
      self.counter = counter
      self.status = status
      self.list = list
      self.since = since
      self.identity = identity
      self.isSure = isSure
      self.loads = loads
    }
  }

  /// A session as the caller has watched it; nil = missing.
  public struct Watched: Sendable, Hashable {
    public var node: NodeID
    public var value: SessionValue?

    public init(_ node: NodeID, _ value: SessionValue?) {
      self.node = node
      self.value = value
    }
  }

  public struct Claim: Sendable, Hashable {
    public var claimer: Owner
    /// Of the claimer's member list, which must be the store's; and the claimer on it.
    public var list: UInt64
    /// The session of the one the ranges are claimed from; nil when they have no owner, or it is the
    /// claimer's node itself.
    public var watched: Watched?
    /// With the highest epoch that is known of each.
    public var ranges: [OwnedRange]

    public init(claimer: Owner, list: UInt64, watched: Watched?, ranges: [OwnedRange]) {
      self.claimer = claimer
      self.list = list
      self.watched = watched
      self.ranges = ranges
    }
  }
}

/// What a leader orders. Each is carried out if it fits what the store has by then, else left out.
public enum LeaderAction: Sendable, Hashable {
  /// Fills the serials that no range of the store has, cut as these are, under their epochs. They are
  /// by serial and none over another, or none is made.
  case createRanges([OwnedRange])
  case startMove(range: Serial, from: Owner, to: NodeID)
  case cancelMove(range: Serial, number: UInt64)
  case setSuccessors(range: Serial, [NodeID])
  /// The new range has owner and epoch of the old one. Not while it moves.
  case split(range: Serial, at: Serial)
  /// With the range behind it, when both have the same owner and neither moves.
  case merge(range: Serial)
  case addMember(NodeID)
  /// Only from the list of that number, and while its session is as watched.
  case removeMember(StoreCall.Watched, list: UInt64)

  /// Who is to give something away.
  var mover: NodeID? { if case .startMove(_, let from, _) = self { from.node } else { nil } }
}

/// What an operator wants of the cluster. It is kept in the store, and gone when that loses its memory.
public enum OperatorOrder: Sendable, Hashable {
  /// Whether ranges are moved for balance, split and merged. Nodes that drain are emptied all the same, and
  /// what is dead is claimed.
  case pauseBalancing(Bool)
  /// A member that was taken off the list is gone for good, with its memory: nobody waits for it any more.
  case forget(NodeID)
}

/// What the store answers.
public enum StoreReply: Sendable, Hashable {
  indirect case view(StoreView)
  /// Another incarnation of the node has the session: this one is to end.
  case replaced(StoreIdentity, by: Incarnation)
  /// The ranges a claim, an assertion or a hand-over named, as they are with that version.
  case ranges(StoreIdentity, version: UInt64, [RangeRecord])
  /// The leader as it is now.
  case leader(StoreIdentity, LeaderRecord?)
  case done(StoreIdentity)
  /// The call was made for another store, and not carried out.
  case otherStore(StoreIdentity)

  public var identity: StoreIdentity {
    switch self {
    case .view(let view): view.identity
    case .replaced(let identity, _), .ranges(let identity, _, _), .leader(let identity, _),
      .done(let identity), .otherStore(let identity):
      identity
    }
  }
}

/// The answer to a heartbeat.
public struct StoreView: Sendable, Hashable {
  public var identity: StoreIdentity
  public var version: UInt64
  public var sessions: [SessionRecord]
  public var leader: LeaderRecord?
  public var list: MemberList
  /// By first serial; all there are when `isWhole`, else those changed since the version asked for.
  public var ranges: [RangeRecord]
  /// Ranges that were merged away since then; empty when `isWhole`.
  public var removed: [Serial]
  public var isWhole: Bool
  /// An operator has had balancing paused.
  public var isPaused: Bool

  public init(
    identity: StoreIdentity, version: UInt64, sessions: [SessionRecord], leader: LeaderRecord?,
    list: MemberList, ranges: [RangeRecord], removed: [Serial] = [], isWhole: Bool,
    isPaused: Bool = false
  ) {
    self.identity = identity
    self.version = version
    self.sessions = sessions
    self.leader = leader
    self.list = list
    self.ranges = ranges
    self.removed = removed
    self.isWhole = isWhole
    self.isPaused = isPaused
  }
}

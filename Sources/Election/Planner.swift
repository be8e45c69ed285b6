/// Decides which node is to own which range, and who follows if it dies. A pure function: the same input
/// gives the same plan on every node, so `clusterctl plan` shows exactly what the leader will do.
///
/// What it promises (each is a property test against a brute-force planner):
/// - *sticky*: a range stays where it is unless its owner must not keep it, or is overloaded by more than
///   the threshold;
/// - *least movement*: with equal weights it makes at most one move more than any balanced plan needs;
/// - *balance*: no member's load ends above its share by more than the threshold or one range;
/// - a member that joins N others is given at most ⌈R/(N+1)⌉ equal ranges; one that leaves costs no
///   moves but its own;
/// - the successors of one member's ranges are spread over all the others, so its death is felt evenly.
///
/// Why not consistent hashing: it can't weigh ranges by their traffic, and moves what need not move.
public struct Planner: Sendable, Equatable {
  /// One that is alive.
  public struct Member: Sendable, Equatable {
    public var id: NodeID
    /// How much it can carry beside the others, > 0; 0 makes it carry nothing.
    public var capacity: Double
    /// It is being emptied: keeps nothing, gets nothing.
    public var draining: Bool
    /// It can serve; keeps nothing and gets nothing otherwise.
    public var healthy: Bool
    /// Of its program; of two equally good choices the newer version is taken.
    public var version: UInt64

    public init(
      id: NodeID, capacity: Double = 1, draining: Bool = false, healthy: Bool = true,
      version: UInt64 = 0
    ) {
      self.id = id
      self.capacity = capacity
      self.draining = draining
      self.healthy = healthy
      self.version = version
    }

    var mayOwn: Bool { healthy && !draining && capacity > 0 && capacity.isFinite }
  }

  /// A range, its present owner and its load.
  public struct Range: Sendable, Equatable {
    /// First serial: the range's name.
    public var first: Serial
    /// Controllers and events/s in one number; at least 1 is counted for each range.
    public var weight: UInt64
    public var owner: NodeID?

    public init(first: Serial, weight: UInt64, owner: NodeID?) {
      self.first = first
      self.weight = weight
      self.owner = owner
    }
  }

  /// A range that has no owner who could hand it over: its new one claims it.
  public struct Claim: Sendable, Equatable {
    public var range: Serial
    public var to: NodeID

    public init(range: Serial, to: NodeID) {
      self.range = range
      self.to = to
    }
  }

  /// A range that its owner hands over.
  public struct Move: Sendable, Equatable {
    public var range: Serial
    public var from: NodeID
    public var to: NodeID
    public var weight: UInt64
    public var reason: Reason

    public init(range: Serial, from: NodeID, to: NodeID, weight: UInt64, reason: Reason) {
      self.range = range
      self.from = from
      self.to = to
      self.weight = weight
      self.reason = reason
    }
  }

  public enum Reason: Sendable, Equatable {
    /// Its owner must not keep it.
    case drain
    case balance
  }

  public struct Plan: Sendable, Equatable {
    public var claims: [Claim]
    /// In the order they are to be made: what must go first, then what relieves most.
    public var moves: [Move]
    /// For each range of the input, in its order, who claims it without asking when its owner (by this
    /// plan) dies: in rank order.
    public var successors: [[NodeID]]

    public init(claims: [Claim], moves: [Move], successors: [[NodeID]]) {
      self.claims = claims
      self.moves = moves
      self.successors = successors
    }
  }

  /// Share of a member's target load by which it may be off before anything moves, ≥ 0.
  public var threshold: Double
  /// Successors named per range, ≥ 0.
  public var successorCount: Int

  public init(threshold: Double = 0.1, successorCount: Int = 2) {
    self.threshold = threshold
    self.successorCount = successorCount
  }

  /// Plans. Members are taken by id, ranges by first serial, whatever the order they come in; of members
  /// with the same id the first counts. Without a member that may own, nothing is planned.
  public func plan(members: [Member], ranges: [Range]) -> Plan {
    var layout = Layout(members: members, ranges: ranges)
    guard !layout.members.isEmpty else {
      return Plan(claims: [], moves: [], successors: ranges.map { _ in [] })
    }
    var claims: [Claim] = []
    var moves: [Move] = []
    // Balancing may send an orphan elsewhere than its first placement: only where it ends is planned.
    let orphans = layout.placeOrphans()
    let balanced = layout.balance(threshold: threshold)
    for range in orphans {
      let to = layout.members[layout.owner[range]].id
      let from = layout.ranges[range].owner
      if let from, members.contains(where: { $0.id == from }) {
        moves.append(layout.move(range, from: from, to: to, reason: .drain))
      } else {
        claims.append(Claim(range: layout.ranges[range].first, to: to))
      }
    }
    let isOrphan = Set(orphans)
    for (range, from) in balanced where !isOrphan.contains(range) {
      let to = layout.members[layout.owner[range]].id
      moves.append(layout.move(range, from: layout.members[from].id, to: to, reason: .balance))
    }
    return Plan(
      claims: claims, moves: moves, successors: layout.successors(count: successorCount, of: ranges)
    )
  }
}

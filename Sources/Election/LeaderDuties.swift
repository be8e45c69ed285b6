/// What a leader orders, given all it sees. A pure function of the store's contents, the watch and the
/// leader's own memory of the store; the same orders come again until the store shows them done.
public struct LeaderDuties: Sendable, Equatable {
  public struct Limits: Sendable, Hashable {
    /// Moves under way at a time…
    public var movesMax = 8
    /// …and what they may weigh together, if there is more than one: so many controllers wait for one another.
    public var movingWeightMax = 300.0
    /// Orders in one call to the store.
    public var actionsMax = 256
    /// A range is split above this weight…
    public var splitAbove: UInt64 = 300
    /// …and joined with its neighbour when both together weigh less than this.
    public var mergeBelow: UInt64 = 100
    /// Ranges a member has at the least, if there are controllers enough: so that they can be shared.
    public var rangesPerMember = 4
    public init() {}
  }

  /// Somebody to take off the list, once that is consented to.
  public struct Removal: Sendable, Hashable {
    public var watched: StoreCall.Watched
    public var isReleased: Bool
  }

  public struct Sight {
    public var table: SortedMap<Serial, RangeRecord>
    /// Of the store, that the table is of.
    public var version: UInt64
    public var list: MemberList
    public var watch: PeerWatch
    public var floors: RangeMap

    public init(
      table: SortedMap<Serial, RangeRecord>, version: UInt64, list: MemberList, watch: PeerWatch,
      floors: RangeMap
    ) {
      self.table = table
      self.version = version
      self.list = list
      self.watch = watch
      self.floors = floors
    }
  }

  private let timing: Timing
  private let limits: Limits
  private let planner: Planner
  /// When each move under way was first seen.
  private var movesSeenAt: [UInt64: Instant] = [:]
  /// No ranges are moved for balance, and none are split or merged, while this is set.
  public var isPaused = false {
    didSet { last = nil }
  }
  private var last: Thought?

  /// What came of what was in sight. Of the same the same will come, until time brings more.
  private struct Thought: Sendable, Equatable {
    var version: UInt64
    var records: [RangeRecord]
    var list: UInt64
    var alive: [Alive]
    var actions: [LeaderAction]
    /// Nothing was to be done, and time alone would not bring anything.
    var isIdle: Bool
    /// When a move under way has taken too long, or somebody's health counts.
    var until: Instant
  }

  private struct Alive: Sendable, Equatable {
    var node: NodeID
    var status: MemberStatus
  }

  public init(timing: Timing, limits: Limits = Limits(), planner: Planner = Planner()) {
    self.timing = timing
    self.limits = limits
    self.planner = planner
  }

  /// The store is another one. What was thought, and when moves were seen, was of the former: versions and
  /// numbers may come up again.
  public mutating func meetStore() {
    last = nil
    movesSeenAt = [:]
  }

  /// When time alone will bring orders that were not due yet.
  public var nextAt: Instant { last?.until ?? .distantFuture }

  public mutating func orders(
    _ sight: Sight, at now: Instant
  ) -> (actions: [LeaderAction], removals: [Removal]) {
    let sessions = sight.watch.alive(at: now)
    let alive = sessions.map { Alive(node: $0.node, status: $0.status) }
    let records = sight.table.values
    if let last, last.list == sight.list.number, last.alive == alive, now < last.until,
      last.isIdle ? last.version == sight.version : last.records == records
    {
      return (last.actions, last.isIdle ? [] : removals(sight, at: now))
    }
    let unhealthy = unhealthy(sight.watch, at: now)
    var actions = members(sight, alive: sessions)
    let hasGaps = LeaderDuties.hasGaps(records)
    if hasGaps {
      actions.append(.createRanges(LeaderDuties.complete(sight.floors)))
    } else {
      actions += moves(
        records, alive: sessions, unhealthy: unhealthy,
        justBack: sight.watch.justBack(at: now, settle: timing.illSettle), at: now)
    }
    actions = Array(actions.prefix(limits.actionsMax))
    // Epochs may be learned while there are gaps.
    last =
      hasGaps
      ? nil
      : Thought(
        version: sight.version, records: records, list: sight.list.number, alive: alive,
        actions: actions,
        isIdle: actions.isEmpty && movesSeenAt.isEmpty
          && sight.list.nodes.allSatisfy { node in alive.contains { $0.node == node } },
        until: min(
          movesSeenAt.values.min().map { $0 + timing.moveTimeout } ?? .distantFuture,
          sight.watch.healthCountsAt(
            after: now, illFor: timing.illSettle, wellFor: timing.healthSettle)))
    return (actions, removals(sight, at: now))
  }

  // MARK: Members

  private func members(_ sight: Sight, alive: [SessionRecord]) -> [LeaderAction] {
    alive.filter { sight.list.added[$0.node] == nil }.map { .addMember($0.node) }
  }

  private func removals(_ sight: Sight, at now: Instant) -> [Removal] {
    sight.list.nodes.compactMap { node in
      guard let deadAt = sight.watch.deadAt(node), now >= deadAt + timing.removeAfter,
        !sight.table.values.contains(where: { $0.owner?.node == node })
      else { return nil }
      return Removal(
        watched: sight.watch.watched(node),
        isReleased: sight.watch.isReleased(node))
    }
  }

  // MARK: Ranges

  private static func hasGaps(_ records: [RangeRecord]) -> Bool {
    var next = Serial.lowest
    for record in records {
      if record.first != next { return true }
      if record.last >= .highest { return false }
      next = Serial(record.last.rawValue + 1)
    }
    return true
  }

  /// All serials, cut where epochs differ.
  private static func complete(_ floors: RangeMap) -> [OwnedRange] {
    floors.ranges.indices.map {
      OwnedRange(
        first: floors.ranges[$0].first, last: floors.last(at: $0), epoch: floors.ranges[$0].floor)
    }
  }

  /// Whose owner is dead or missing is claimed; a plan is made of what can be moved.
  private static func movable(_ records: [RangeRecord], alive: [SessionRecord]) -> [Int] {
    let nodes = alive.map(\.node)
    return records.indices.filter { records[$0].owner.map { nodes.contains($0.node) } ?? false }
  }

  private func plan(
    _ records: [RangeRecord], _ movable: [Int], alive: [SessionRecord], unhealthy: [NodeID],
    justBack: [NodeID]
  ) -> Planner.Plan {
    var plan = planner.plan(
      members: alive.map {
        Planner.Member(
          id: $0.node, capacity: Double($0.status.capacity), draining: $0.status.draining,
          healthy: !unhealthy.contains($0.node), version: $0.status.version)
      },
      ranges: movable.map {
        Planner.Range(
          first: records[$0].first, weight: records[$0].load.weight,
          owner: records[$0].move?.to ?? records[$0].owner?.node)
      })
    // Who cannot serve keeps what it has until that has settled, but gets nothing, from the first moment on. Nor does
    // who may only look as if it could.
    let ill = alive.filter { !$0.status.healthy || justBack.contains($0.node) }.map(\.node)
    if ill.count < alive.count { plan.moves.removeAll { ill.contains($0.to) } }
    return plan
  }

  /// What is to be moved once all moves under way have ended, most urgent first, whether balancing is paused
  /// or not.
  public func plan(_ records: [RangeRecord], watch: PeerWatch, at now: Instant) -> Planner.Plan {
    let alive = watch.alive(at: now)
    return plan(
      records, LeaderDuties.movable(records, alive: alive), alive: alive,
      unhealthy: unhealthy(watch, at: now),
      justBack: watch.justBack(at: now, settle: timing.illSettle))
  }

  private func unhealthy(_ watch: PeerWatch, at now: Instant) -> [NodeID] {
    watch.unhealthy(at: now, illFor: timing.illSettle, wellFor: timing.healthSettle)
  }

  /// How long it takes until all `moves` are done, after those that are `underWay`: as many at a time as may be,
  /// each `length` long, and the next when a heartbeat has shown that these are over.
  public func duration(
    of moves: [Planner.Move], underWay: Int, length: Duration
  ) -> Duration {
    var rounds = underWay > 0 ? 1 : 0
    var room = 0
    var weight = 0.0
    for move in moves where !isPaused || move.reason == .drain {
      weight += Double(move.weight)
      if room == 0 || weight > limits.movingWeightMax {
        rounds += 1
        room = limits.movesMax
        weight = Double(move.weight)
      }
      room -= 1
    }
    return max(length, timing.renewEvery) * rounds
  }

  private mutating func moves(
    _ records: [RangeRecord], alive: [SessionRecord], unhealthy: [NodeID], justBack: [NodeID],
    at now: Instant
  ) -> [LeaderAction] {
    var actions: [LeaderAction] = []
    let fit = alive.filter { !$0.status.draining && !unhealthy.contains($0.node) }.map(\.node)
    var underWay: [UInt64: Instant] = [:]
    var weight = 0.0
    for i in records.indices {
      guard let move = records[i].move else { continue }
      weight += Double(records[i].load.weight)
      let seenAt = movesSeenAt[move.number] ?? now
      underWay[move.number] = seenAt
      // An owner that is not heard may live, by promises, and cannot hand over; its peers tell it that it need not.
      let isHeard = alive.contains { $0.node == records[i].owner?.node }
      if !fit.contains(move.to) || !isHeard || now >= seenAt + timing.moveTimeout {
        actions.append(.cancelMove(range: records[i].first, number: move.number))
      }
    }
    movesSeenAt = underWay
    let movable = LeaderDuties.movable(records, alive: alive)
    let plan = plan(
      records, movable, alive: alive, unhealthy: unhealthy, justBack: justBack)
    var room = limits.movesMax - underWay.count
    for move in plan.moves where room > 0 && (!isPaused || move.reason == .drain) {
      guard let i = movable.first(where: { records[$0].first == move.range }),
        records[i].move == nil, let owner = records[i].owner
      else { continue }
      let together = weight + Double(move.weight)
      // Nothing small overtakes: a heavy one would never come.
      guard room == limits.movesMax || together <= limits.movingWeightMax else { break }
      actions.append(.startMove(range: move.range, from: owner, to: move.to))
      weight = together
      room -= 1
    }
    for (i, successors) in zip(movable, plan.successors) where records[i].successors != successors {
      actions.append(.setSuccessors(range: records[i].first, successors))
    }
    if !isPaused, underWay.isEmpty, room == limits.movesMax {
      actions += cuts(records, members: fit.count)
    }
    return actions
  }

  /// One split or merger at a time for each neighbourhood; none while anything moves.
  private func cuts(_ records: [RangeRecord], members: Int) -> [LeaderAction] {
    var actions: [LeaderAction] = []
    let enough = members * limits.rangesPerMember
    if let heaviest = records.max(by: { $0.load.weight < $1.load.weight }),
      let median = heaviest.load.median, heaviest.first < median, median <= heaviest.last,
      heaviest.load.weight > limits.splitAbove
        || (records.count < enough && heaviest.load.weight >= 2)
    {
      return [.split(range: heaviest.first, at: median)]
    }
    var i = 0
    while i + 1 < records.count, records.count - actions.count > enough {
      let (a, b) = (records[i], records[i + 1])
      if a.owner == b.owner, a.owner != nil, a.load.weight + b.load.weight < limits.mergeBelow {
        actions.append(.merge(range: a.first))
        i += 1
      }
      i += 1
    }
    return actions
  }
}

/// What a leader orders, given all it sees. A pure function of the store's contents, the watch and the
/// leader's own memory of the store; the same orders come again until the store shows them done.
public struct LeaderDuties: Sendable, Equatable {
  public struct Limits: Sendable, Hashable {
    /// Moves under way at a time.
    public var movesMax = 8
    /// Orders in one call to the store.
    public var actionsMax = 256
    /// A range is split above this weight…
    public var splitAbove: UInt64 = 500
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
    public var table: [Serial: RangeRecord]
    /// Of the store, that the table is of.
    public var version: UInt64
    public var list: MemberList
    public var watch: PeerWatch
    public var floors: RangeMap

    public init(
      table: [Serial: RangeRecord], version: UInt64, list: MemberList, watch: PeerWatch,
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
    didSet { idleAt = nil }
  }
  /// What was in sight when there was nothing to order, and time alone would not bring anything.
  private var idleAt: Idle?

  private struct Idle: Sendable, Equatable {
    var version: UInt64
    var list: UInt64
    var alive: [NodeID: MemberStatus]
  }

  public init(timing: Timing, limits: Limits = Limits(), planner: Planner = Planner()) {
    self.timing = timing
    self.limits = limits
    self.planner = planner
  }

  public mutating func orders(
    _ sight: Sight, at now: Instant
  ) -> (actions: [LeaderAction], removals: [Removal]) {
    let alive = sight.watch.alive(at: now)
    let idle = Idle(
      version: sight.version, list: sight.list.number,
      alive: Dictionary(uniqueKeysWithValues: alive.map { ($0.node, $0.status) }))
    if idle == idleAt { return ([], []) }
    var actions = members(sight, alive: alive)
    let records = sight.table.values.sorted { $0.first < $1.first }
    if LeaderDuties.hasGaps(records) {
      actions.append(.createRanges(LeaderDuties.complete(sight.floors)))
    } else {
      actions += moves(records, alive: alive, at: now)
    }
    let areAllHere = sight.list.nodes.allSatisfy { idle.alive[$0] != nil }
    idleAt = actions.isEmpty && movesSeenAt.isEmpty && areAllHere ? idle : nil
    return (Array(actions.prefix(limits.actionsMax)), removals(sight, at: now))
  }

  // MARK: Members

  private func members(_ sight: Sight, alive: [SessionRecord]) -> [LeaderAction] {
    alive.filter { sight.list.added[$0.node] == nil }.map { .addMember($0.node) }
  }

  private func removals(_ sight: Sight, at now: Instant) -> [Removal] {
    let owners = Set(sight.table.values.compactMap { $0.owner?.node })
    return sight.list.nodes.compactMap { node in
      guard !owners.contains(node), let deadAt = sight.watch.deadAt(node),
        now >= deadAt + timing.removeAfter
      else { return nil }
      return Removal(
        watched: sight.watch.watched(node),
        isReleased: sight.watch.session(of: node)?.released == true)
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

  private mutating func moves(
    _ records: [RangeRecord], alive: [SessionRecord], at now: Instant
  ) -> [LeaderAction] {
    var actions: [LeaderAction] = []
    let fit = Set(alive.filter { !$0.status.draining && $0.status.healthy }.map(\.node))
    var underWay: [UInt64: Instant] = [:]
    for record in records {
      guard let move = record.move else { continue }
      let seenAt = movesSeenAt[move.number] ?? now
      underWay[move.number] = seenAt
      if !fit.contains(move.to) || now >= seenAt + timing.moveTimeout {
        actions.append(.cancelMove(range: record.first, number: move.number))
      }
    }
    movesSeenAt = underWay
    // Whose owner is dead or missing is claimed; a plan is made of what can be moved.
    let aliveNodes = Set(alive.map(\.node))
    let movable = records.filter { $0.owner.map { aliveNodes.contains($0.node) } ?? false }
    let plan = planner.plan(
      members: alive.map {
        Planner.Member(
          id: $0.node, capacity: Double($0.status.capacity), draining: $0.status.draining,
          healthy: $0.status.healthy, version: $0.status.version)
      },
      ranges: movable.map {
        Planner.Range(
          first: $0.first, weight: $0.load.weight, owner: $0.move?.to ?? $0.owner?.node)
      })
    var room = limits.movesMax - underWay.count
    for move in plan.moves where room > 0 && (!isPaused || move.reason == .drain) {
      guard let i = movable.firstIndex(where: { $0.first == move.range }),
        movable[i].move == nil, let owner = movable[i].owner
      else { continue }
      actions.append(.startMove(range: move.range, from: owner, to: move.to))
      room -= 1
    }
    for (record, successors) in zip(movable, plan.successors) where record.successors != successors
    {
      actions.append(.setSuccessors(range: record.first, successors))
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

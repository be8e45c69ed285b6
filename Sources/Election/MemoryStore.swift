/// The store in memory: the rules of Docs/OWNERSHIP.md as a value. What a node with `memory:` uses, what
/// the simulation runs against, and what the one in Redis is held to.
public struct MemoryStore: Sendable, Equatable {
  /// Removed ranges that are remembered; whoever is further behind gets the whole map.
  public static let tombstonesMax = 1000

  public private(set) var identity: StoreIdentity
  private var version: UInt64 = 0
  private var sessions: SortedMap<NodeID, SessionRecord> = [:]
  private var leader: LeaderRecord?
  public private(set) var list = MemberList()
  private var ranges: SortedMap<Serial, RangeRecord> = [:]
  private var tombstones: [(first: Serial, changed: UInt64)] = []
  /// A version below this cannot be answered with changes.
  private var changesSince: UInt64 = 0
  private var isPaused = false

  public init(identity: StoreIdentity) {
    self.identity = identity
  }

  public static func == (a: MemoryStore, b: MemoryStore) -> Bool {
    a.identity == b.identity && a.version == b.version && a.sessions == b.sessions
      && a.leader == b.leader && a.list == b.list && a.ranges == b.ranges
      && a.changesSince == b.changesSince && a.isPaused == b.isPaused
      && a.tombstones.elementsEqual(b.tombstones, by: ==)
  }

  /// The same contents as another server has them: after a failover, or a restart.
  public mutating func become(_ identity: StoreIdentity) {
    self.identity = identity
  }

  /// By first serial, for those who look on.
  public var allRanges: [RangeRecord] { ranges.values }

  /// - Parameter known: the store the caller means; see `StoreCall.isForAnyStore`.
  public mutating func run(_ call: StoreCall, for known: StoreIdentity?) -> StoreReply {
    guard known == identity || call.isForAnyStore else { return .otherStore(identity) }
    switch call {
    case .heartbeat(let heartbeat): return self.heartbeat(heartbeat)
    case .claim(let claim): return self.claim(claim)
    case .assert(let owner, let assertions): return assert(owner, assertions)
    case .handOver(let owner, let range, let move):
      return handOver(owner, range: range, move: move)
    case .release(let owner):
      if sessions[owner.node]?.value.incarnation == owner.incarnation {
        sessions[owner.node]?.released = true
      }
      return .done(identity)
    case .campaign(let owner, let hint, let watched):
      if leader.map({ isFree($0.leader, for: owner, watched: watched) }) ?? true {
        let above = max(leader?.term ?? .none, hint)
        if leader?.leader != owner, above.rawValue < .max {
          leader = LeaderRecord(leader: owner, term: Term(above.rawValue + 1))
          version += 1
        }
      }
      return .leader(identity, leader)
    case .lead(let owner, let term, let order, let actions):
      if let record = leader, record.leader == owner, record.term == term,
        record.orders + 1 == order
      {
        leader?.orders = order
        for action in actions { carryOut(action) }
      }
      return .leader(identity, leader)
    case .operate(let order):
      operate(order)
      return .done(identity)
    }
  }

  // MARK: Sessions

  private mutating func heartbeat(_ beat: StoreCall.Heartbeat) -> StoreReply {
    let node = beat.owner.node
    let present = sessions[node]?.value
    // The newer life of a node has the greater incarnation: one that is gone cannot come back.
    if let present, present.incarnation.rawValue > beat.owner.incarnation.rawValue {
      return .replaced(identity, by: present.incarnation)
    }
    if beat.list.number > list.number {
      list = beat.list
      version += 1
    }
    // One that a later one has overtaken was on its way for long: the node may be dead by now, and is not to
    // look alive.
    let isLate =
      present.map { $0.incarnation == beat.owner.incarnation && beat.counter < $0.counter } ?? false
    if !isLate { take(beat) }
    let isWhole =
      beat.identity != identity || beat.since == 0 || beat.since < changesSince
      || beat.since > version
    return .view(
      StoreView(
        identity: identity, version: version,
        sessions: sessions.values, leader: leader, list: list,
        ranges: isWhole ? ranges.values : ranges(changedSince: beat.since),
        removed: isWhole
          ? []
          : tombstones.filter { $0.changed > beat.since && ranges[$0.first] == nil }.map(\.first),
        isWhole: isWhole, isPaused: isPaused))
  }

  private mutating func take(_ beat: StoreCall.Heartbeat) {
    let node = beat.owner.node
    sessions[node] = SessionRecord(
      node: node, value: SessionValue(beat.owner.incarnation, beat.counter), status: beat.status,
      list: beat.list.number, knows: beat.identity,
      sureOf: beat.isSure && beat.identity == identity ? identity : sessions[node]?.sureOf)
    // By serial, so that the same call always comes to the same versions.
    for (first, load) in beat.loads.sorted(by: { $0.key < $1.key })
    where ranges[first]?.owner == beat.owner {
      change(first) { $0.load = load }
    }
  }

  private func ranges(changedSince since: UInt64) -> [RangeRecord] {
    var changed: [RangeRecord] = []
    guard since < version else { return changed }
    for i in ranges.indices where ranges.values[i].changed > since {
      changed.append(ranges.values[i])
    }
    return changed
  }

  /// Whether the place of `holder` may be taken by `taker`.
  private func isFree(_ holder: Owner, for taker: Owner, watched: StoreCall.Watched?) -> Bool {
    // Its own, or its former life's; never that of a later one.
    if holder.node == taker.node {
      return holder.incarnation.rawValue <= taker.incarnation.rawValue
    }
    return watched.map { $0.node == holder.node && isAsWatched($0) } ?? false
  }

  private func isAsWatched(_ watched: StoreCall.Watched) -> Bool {
    let session = sessions[watched.node]
    return session?.released == true || session?.value == watched.value
  }

  // MARK: Ranges

  private mutating func change(_ first: Serial, _ body: (inout RangeRecord) -> Void) {
    guard var record = ranges[first] else { return }
    let before = record
    body(&record)
    guard record != before else { return }
    version += 1
    record.changed = version
    ranges[first] = record
  }

  private func records(_ firsts: [Serial]) -> StoreReply {
    .ranges(identity, version: version, firsts.compactMap { ranges[$0] })
  }

  private mutating func claim(_ claim: StoreCall.Claim) -> StoreReply {
    // A claimer that has been replaced, or does not know who its peers are, gets nothing.
    let session = sessions[claim.claimer.node]
    if claim.list == list.number, list.added[claim.claimer.node] != nil,
      session?.value.incarnation == claim.claimer.incarnation,
      session?.released == false
    {
      for wanted in claim.ranges { grant(wanted, claim) }
    }
    return records(claim.ranges.map(\.first))
  }

  private mutating func grant(_ wanted: OwnedRange, _ claim: StoreCall.Claim) {
    guard let record = ranges[wanted.first], record.last == wanted.last,
      // The same again is the same grant, unless an epoch above it has been seen.
      record.owner != claim.claimer || record.store != identity || wanted.epoch > record.epoch,
      record.owner.map({ isFree($0, for: claim.claimer, watched: claim.watched) }) ?? true
    else { return }
    let known = max(record.epoch, wanted.epoch)
    let here = identity
    guard let epoch = record.store == identity ? known.next : known.nextAfterLoss(in: here) else {
      return
    }
    change(wanted.first) {
      $0.owner = claim.claimer
      $0.epoch = epoch
      $0.move = nil
      $0.store = here
    }
  }

  private mutating func assert(_ owner: Owner, _ held: [OwnedRange]) -> StoreReply {
    if MemoryStore.areApart(held), sessions[owner.node]?.value.incarnation == owner.incarnation {
      for range in held { take(range, for: owner) }
    }
    return records(held.map(\.first))
  }

  /// The store may have other cuts than the holder: what lies outside of what is asserted stays as it
  /// was. Nothing is taken when somebody else has got any of it in this store, or had it under as high
  /// an epoch before.
  private mutating func take(_ held: OwnedRange, for owner: Owner) {
    let overlapping = ranges.values.filter { $0.serials.overlaps(held.serials) }
    var taken = RangeRecord(
      first: held.first, last: held.last, owner: owner, epoch: held.epoch, store: identity)
    for record in overlapping {
      if record.owner == owner {
        taken.epoch = max(taken.epoch, record.epoch)
      } else if record.owner == nil ? record.epoch > held.epoch : record.epoch >= held.epoch {
        return
      } else if record.owner != nil, record.store == identity {
        return
      }
      if record.first == held.first {
        (taken.load, taken.successors, taken.changed) = (
          record.load, record.successors, record.changed
        )
        if record.last == held.last, record.owner == owner { taken.move = record.move }
      }
    }
    if overlapping == [taken] { return }
    version += 1
    for record in overlapping {
      ranges[record.first] = nil
      if record.first != held.first { bury(record.first) }
    }
    for record in overlapping {
      var rest = record
      rest.changed = version
      rest.move = nil
      if record.first < held.first {
        rest.last = Serial(held.first.rawValue - 1)
        ranges[rest.first] = rest
      }
      if record.last > held.last {
        rest.first = Serial(held.last.rawValue + 1)
        rest.last = record.last
        ranges[rest.first] = rest
      }
    }
    taken.changed = version
    ranges[held.first] = taken
  }

  private mutating func handOver(_ owner: Owner, range: Serial, move: UInt64) -> StoreReply {
    if let record = ranges[range], record.owner == owner, record.store == identity,
      let pending = record.move, pending.number == move, let epoch = record.epoch.next,
      let to = sessions[pending.to],
      !to.released
    {
      change(range) {
        $0.owner = Owner(pending.to, to.value.incarnation)
        $0.epoch = epoch
        $0.move = nil
      }
    }
    return records([range])
  }

  // MARK: Orders

  private mutating func operate(_ order: OperatorOrder) {
    switch order {
    case .pauseBalancing(let isWanted):
      guard isPaused != isWanted else { return }
      isPaused = isWanted
    case .forget(let node):
      guard list.removed.contains(node), list.number < .max else { return }
      list.number += 1
      list.removed.removeAll { $0 == node }
    }
    version += 1
  }

  private mutating func carryOut(_ action: LeaderAction) {
    switch action {
    case .createRanges(let wanted):
      fillGaps(wanted)
    case .startMove(let range, let from, let to):
      guard let record = ranges[range], record.owner == from, record.move == nil,
        record.store == identity, from.node != to, list.added[to] != nil
      else { return }
      // The version this change will have: never the number of another move.
      let number = version + 1
      change(range) { $0.move = PendingMove(to: to, number: number) }
    case .cancelMove(let range, let number):
      guard ranges[range]?.move?.number == number else { return }
      change(range) { $0.move = nil }
    case .setSuccessors(let range, let nodes):
      change(range) { $0.successors = nodes }
    case .split(let range, let at):
      guard let record = ranges[range], record.move == nil, record.first < at, at <= record.last
      else { return }
      version += 1
      var half = record
      half.first = at
      half.load = RangeLoad(weight: max(record.load.weight / 2, 1))
      half.changed = version
      ranges[at] = half
      change(range) {
        $0.last = Serial(at.rawValue - 1)
        $0.load = RangeLoad(weight: max(record.load.weight - record.load.weight / 2, 1))
      }
    case .merge(let range):
      guard let record = ranges[range], record.last < .highest,
        let behind = ranges[Serial(record.last.rawValue + 1)],
        record.owner == behind.owner, record.store == behind.store, record.move == nil,
        behind.move == nil
      else { return }
      ranges[behind.first] = nil
      change(range) {
        $0.last = behind.last
        $0.epoch = max($0.epoch, behind.epoch)
        let (sum, overflow) = $0.load.weight.addingReportingOverflow(behind.load.weight)
        $0.load = RangeLoad(weight: overflow ? .max : sum)
      }
      bury(behind.first)
    case .addMember(let node):
      guard list.added[node] == nil, sessions[node] != nil, list.number < .max else { return }
      list.number += 1
      list.added[node] = list.number
      list.removed.removeAll { $0 == node }
      version += 1
    case .removeMember(let watched, let number):
      guard list.number == number, list.number < .max, list.added[watched.node] != nil,
        isAsWatched(watched)
      else { return }
      list.number += 1
      list.added[watched.node] = nil
      list.removed = (list.removed + [watched.node]).sorted()
      sessions[watched.node] = nil
      version += 1
    }
  }

  /// Each behind the one before it, none inside out. Any other list would give a serial two owners.
  private static func areApart(_ ranges: [OwnedRange]) -> Bool {
    ranges.allSatisfy { $0.first <= $0.last }
      && zip(ranges, ranges.dropFirst()).allSatisfy { $0.last < $1.first }
  }

  private mutating func fillGaps(_ wanted: [OwnedRange]) {
    guard MemoryStore.areApart(wanted) else { return }
    version += 1
    var next = Serial.lowest
    var isFilled = false
    for record in allRanges + [RangeRecord(first: Serial(.max), last: Serial(.max))] where !isFilled
    {
      if next < record.first {
        let gap = next...Serial(record.first.rawValue - 1)
        for piece in wanted where piece.serials.overlaps(gap) {
          let part = piece.serials.clamped(to: gap)
          ranges[part.lowerBound] = RangeRecord(
            first: part.lowerBound, last: part.upperBound, epoch: piece.epoch, changed: version)
        }
      }
      isFilled = record.last >= .highest
      if !isFilled { next = Serial(record.last.rawValue + 1) }
    }
  }

  private mutating func bury(_ first: Serial) {
    tombstones.append((first, version))
    if tombstones.count > MemoryStore.tombstonesMax {
      changesSince = tombstones.removeFirst().changed
    }
  }
}

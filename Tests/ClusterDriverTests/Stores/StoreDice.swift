import Election

/// Calls as a cluster gone mad would make them, from a seed: near enough to what the store holds to
/// be carried out often, and with numbers where doubles and 64 bits end.
struct StoreDice {
  private var state: UInt64
  private let nodes = ["a", "b:5001", "c 3", "[::1]:5004"].map { NodeID($0) }
  private let serials: [UInt64] = [
    1, 2, 5, 9, 10, 11, 30, 31, 99, 100, 9_999_999_999, 10_000_000_000, 10_000_000_001,
    9_007_199_254_740_991, 9_007_199_254_740_992, 9_007_199_254_740_993, .max - 2, .max - 1,
  ]
  private let numbers: [UInt64] = [
    0, 1, 2, 3, 7, 9_007_199_254_740_991, 9_007_199_254_740_992, 9_007_199_254_740_993,
    .max - 1_048_576, .max - 1, .max,
  ]

  init(seed: UInt64) { state = seed }

  mutating func roll(_ count: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(count))
  }

  private mutating func one<T>(of list: [T]) -> T { list[roll(list.count)] }
  private mutating func chance(_ percent: Int) -> Bool { roll(100) < percent }

  /// What the store holds, as the calls are aimed at it.
  struct Aim {
    var view: StoreView
    var sessions: [NodeID: SessionValue]

    init(_ view: StoreView) {
      self.view = view
      sessions = Dictionary(uniqueKeysWithValues: view.sessions.map { ($0.node, $0.value) })
    }
  }

  private mutating func owner(_ aim: Aim) -> Owner {
    let node = one(of: nodes)
    if let value = aim.sessions[node], chance(90) { return Owner(node, value.incarnation) }
    return Owner(node, Incarnation(one(of: [1, 2, 9, 10, 9_007_199_254_740_993, .max])))
  }

  private mutating func watched(_ node: NodeID, _ aim: Aim) -> StoreCall.Watched? {
    if chance(5) { return nil }
    let node = chance(90) ? node : one(of: nodes)
    if chance(80) { return StoreCall.Watched(node, aim.sessions[node]) }
    return StoreCall.Watched(node, chance(50) ? nil : SessionValue(Incarnation(1), 1))
  }

  private mutating func record(_ aim: Aim) -> RangeRecord? {
    aim.view.ranges.isEmpty ? nil : one(of: aim.view.ranges)
  }

  private mutating func first(_ aim: Aim) -> Serial {
    if chance(85), let record = record(aim) { return record.first }
    return Serial(one(of: serials))
  }

  private mutating func epoch(_ record: RangeRecord?) -> Epoch {
    guard let record, chance(85) else { return Epoch(one(of: numbers)) }
    return chance(30) ? record.epoch.next ?? record.epoch : record.epoch
  }

  /// Ascending and apart, as a rule.
  private mutating func pieces() -> [OwnedRange] {
    var cuts = (0..<roll(7)).map { _ in one(of: serials) }
    if chance(95) { cuts = Set(cuts).sorted() }
    return zip(cuts, cuts.dropFirst()).compactMap { (a, b) -> OwnedRange? in
      if chance(25) { return nil }
      let last = chance(97) ? (b > a ? b - 1 : a) : b
      return OwnedRange(
        first: Serial(a), last: Serial(last), epoch: Epoch(chance(90) ? 3 : one(of: numbers)))
    }
  }

  private mutating func action(_ aim: Aim) -> LeaderAction {
    let range = first(aim)
    let record = aim.view.ranges.first { $0.first == range }
    switch roll(11) {
    case 0: return .createRanges(pieces())
    case 1, 2:
      return .startMove(range: range, from: record?.owner ?? owner(aim), to: one(of: nodes))
    case 3: return .cancelMove(range: range, number: record?.move?.number ?? aim.view.version)
    case 4: return .setSuccessors(range: range, (0..<roll(3)).map { _ in one(of: nodes) })
    case 5, 6: return .split(range: range, at: Serial(one(of: serials)))
    case 7, 8: return .merge(range: range)
    case 9: return .addMember(one(of: nodes))
    default:
      let node = one(of: nodes)
      let seen = watched(node, aim) ?? StoreCall.Watched(node, nil)
      return .removeMember(seen, list: aim.view.list.number)
    }
  }

  private mutating func list(_ aim: Aim) -> MemberList {
    if chance(96) { return MemberList(number: UInt64(roll(3))) }
    let added = nodes.filter { _ in chance(90) }.map { ($0, UInt64(chance(10) ? 0 : 1 + roll(3))) }
    let number = chance(98) ? aim.view.list.number &+ 1 : one(of: numbers)
    // 0 is how those that were taken off are written.
    return MemberList(
      number: number, added: Dictionary(uniqueKeysWithValues: added.filter { $0.1 > 0 }),
      removed: added.filter { $0.1 == 0 }.map(\.0))
  }

  private mutating func heartbeat(_ aim: Aim) -> StoreCall.Heartbeat {
    let owner = owner(aim)
    let since = chance(70) ? aim.view.version - UInt64(roll(40)) % (aim.view.version + 1) : 0
    var loads: [Serial: RangeLoad] = [:]
    for _ in 0..<(chance(20) ? roll(4) : 0) {
      let median = chance(50) ? nil : Serial(one(of: serials))
      loads[first(aim)] = RangeLoad(weight: one(of: numbers), median: median)
    }
    let status = MemberStatus(
      draining: chance(50), healthy: chance(50), version: one(of: numbers),
      capacity: one(of: numbers), controllersAt: chance(50) ? "" : "host-\(roll(9)):5001",
      peersAt: chance(50) ? "" : "[::1]:\(roll(9))")
    return StoreCall.Heartbeat(
      owner: owner, counter: (aim.sessions[owner.node]?.counter ?? 0) &+ (chance(95) ? 1 : .max),
      status: status,
      list: list(aim), since: chance(97) ? since : one(of: numbers),
      identity: chance(90) ? aim.view.identity : nil, isSure: chance(50), loads: loads)
  }

  private mutating func claim(_ aim: Aim) -> StoreCall {
    var claimer = owner(aim)
    if chance(80), !aim.view.list.nodes.isEmpty {
      let member = one(of: aim.view.list.nodes)
      claimer = Owner(member, aim.sessions[member]?.incarnation ?? Incarnation(1))
    }
    let holder = record(aim)?.owner
    var ranges: [OwnedRange] = []
    for _ in 0...roll(3) {
      let record = self.record(aim)
      let last = record.map(\.last) ?? Serial(9)
      ranges.append(
        OwnedRange(
          first: record?.first ?? Serial(1), last: chance(95) ? last : Serial(9),
          epoch: epoch(record)))
    }
    let list = chance(95) ? aim.view.list.number : 1
    let seen = holder == nil ? nil : watched(holder!.node, aim)
    return .claim(
      StoreCall.Claim(
        claimer: claimer, list: list, watched: seen, ranges: ranges))
  }

  mutating func call(_ aim: Aim) -> StoreCall {
    switch roll(20) {
    case 0...4: return .heartbeat(heartbeat(aim))
    case 5...9: return claim(aim)
    case 10, 11: return .assert(owner(aim), pieces())
    case 12, 13:
      let moving = aim.view.ranges.filter { $0.move != nil }
      guard chance(90), !moving.isEmpty else {
        return .handOver(owner(aim), range: first(aim), move: 1)
      }
      let record = one(of: moving)
      return .handOver(
        record.owner ?? owner(aim), range: record.first, move: record.move?.number ?? 0)
    case 14:
      switch roll(5) {
      case 0, 1: return .release(owner(aim))
      case 2: return .operate(.pauseBalancing(chance(50)))
      case 3:
        let removed = aim.view.list.removed
        return .operate(.forget(chance(90) && !removed.isEmpty ? one(of: removed) : one(of: nodes)))
      default: return .heartbeat(heartbeat(aim))
      }
    case 15:
      let leader = aim.view.leader?.leader
      let seen = leader == nil ? nil : watched(leader!.node, aim)
      return .campaign(owner(aim), hint: Term(chance(90) ? 0 : one(of: numbers)), watched: seen)
    default:
      let actions = (0..<roll(5)).map { _ in action(aim) }
      guard let leader = aim.view.leader, chance(95) else {
        return .lead(owner(aim), Term(1), order: 1, actions)
      }
      return .lead(leader.leader, leader.term, order: leader.orders + 1, actions)
    }
  }
}

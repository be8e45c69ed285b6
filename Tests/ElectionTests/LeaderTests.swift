import Testing

@testable import Election

@Suite("Leader")
struct LeaderTests {
  private let me = life(nodeB)

  private func watch(_ sessions: [SessionRecord], at now: Int64) -> PeerWatch {
    var watch = PeerWatch(ttl: defaults.ttl)
    _ = watch.see(sessions, at: at(now))
    return watch
  }

  private func campaign(
    _ machine: LeaderMachine, _ watch: PeerWatch, isQuarantined: Bool = false,
    isDraining: Bool = false, at now: Int64
  ) -> [LeaderMachine.Directive] {
    var machine = machine
    return machine.campaign(
      watch: watch, isQuarantined: isQuarantined, isDraining: isDraining, at: at(now))
  }

  private func following(_ record: LeaderRecord?) -> LeaderMachine {
    var machine = LeaderMachine(me: me, timing: defaults)
    machine.sawView(record)
    return machine
  }

  @Test("the place of a leader is stood for one TTL after it was last seen to change, by rank")
  func vacancy() {
    let machine = following(LeaderRecord(leader: life(nodeA), term: Term(4)))
    // node-b is the second of those alive, so it waits 50 ms more.
    var watch = watch([session(nodeA, 7)], at: 0)
    _ = watch.see([session(nodeA, 7), session(nodeC, 1), session(nodeB, 1)], at: at(1000))
    #expect(campaign(machine, watch, at: 1499) == [.wake(at: at(1500))])
    let stand = LeaderMachine.Directive.campaign(
      hint: Term(4), watched: .init(nodeA, value(7)))
    #expect(campaign(machine, watch, at: 1500) == [stand])
    let draining = campaign(machine, watch, isDraining: true, at: 1500)
    #expect(draining == [.wake(at: at(1500 + 150))])
    #expect(campaign(machine, watch, isQuarantined: true, at: 5000) == [])
    #expect(campaign(machine, self.watch([], at: 0), at: 5000) == [])
  }

  @Test("of two that could follow, the second by name waits a rank longer")
  func rank() {
    let machine = following(LeaderRecord(leader: life(nodeC), term: Term(4)))
    var watch = watch([session(nodeC, 7)], at: 0)
    _ = watch.see([session(nodeC, 7), session(nodeA, 1), session(nodeB, 1)], at: at(1000))
    #expect(campaign(machine, watch, at: 1549) == [.wake(at: at(1550))])
    #expect(campaign(machine, watch, at: 1550).count == 1)
  }

  @Test("one campaign at a time: what it came to shows in the next view")
  func once() {
    var machine = following(nil)
    let watch = watch([session(nodeB, 1)], at: 0)
    for expected in [1, 0] {
      let out = machine.campaign(
        watch: watch, isQuarantined: false, isDraining: false, at: at(100))
      #expect(out.count == expected)
    }
    machine.saw(nil)
    #expect(
      machine.campaign(watch: watch, isQuarantined: false, isDraining: false, at: at(1)) == [])
    machine.sawView(nil)
    let out = machine.campaign(watch: watch, isQuarantined: false, isDraining: false, at: at(2))
    #expect(out == [.campaign(hint: .none, watched: nil)])
  }

  @Test("a node leads while the record names this very life; terms are remembered whatever is lost")
  func roles() {
    var machine = following(LeaderRecord(leader: me, term: Term(6)))
    #expect(machine.role == .leading(Term(6)))
    machine.missed(LeaderMachine.failuresMax - 1)
    #expect(machine.role == .leading(Term(6)))
    machine.missed(LeaderMachine.failuresMax)
    #expect(machine.role == .follower)
    machine.saw(LeaderRecord(leader: life(nodeB, 2), term: Term(7)))
    #expect(machine.role == .follower)
    machine.sawView(nil)
    let watch = watch([session(nodeB, 1)], at: 0)
    #expect(
      campaign(machine, watch, at: 100) == [.campaign(hint: Term(7), watched: nil)])
    machine.saw(LeaderRecord(leader: me, term: Term(8)))
    machine.resign()
    #expect(machine.role == .follower)
  }
}

@Suite("Leader's duties")
struct LeaderDutiesTests {
  private let a = life(nodeA)
  private let b = life(nodeB)

  private func watch(_ sessions: [SessionRecord], at now: Int64 = 0) -> PeerWatch {
    var watch = PeerWatch(ttl: defaults.ttl)
    _ = watch.see(sessions, at: at(now))
    return watch
  }

  private var both: PeerWatch { watch([session(nodeA, 1), session(nodeB, 1)]) }

  private func sight(
    _ ranges: [RangeRecord], _ watch: PeerWatch, list: MemberList = members([nodeA, nodeB]),
    floors: RangeMap = RangeMap(), version: UInt64 = 1
  ) -> LeaderDuties.Sight {
    LeaderDuties.Sight(
      table: SortedMap(ranges.map { ($0.first, $0) }), version: version,
      list: list, watch: watch, floors: floors)
  }

  private func orders(
    _ sight: LeaderDuties.Sight, at now: Int64 = 100,
    limits: LeaderDuties.Limits = LeaderDuties.Limits()
  ) -> [LeaderAction] {
    var duties = LeaderDuties(timing: defaults, limits: limits)
    return duties.orders(sight, at: at(now)).actions
  }

  @Test("who is alive and not listed is added; serials that no range has are filled, cut by epochs")
  func createsAndAdds() {
    var floors = RangeMap()
    floors.raiseFloor(of: Serial(10)...Serial(19), to: Epoch(4))
    let actions = orders(sight([], both, list: members([nodeA]), floors: floors))
    #expect(
      actions == [
        .addMember(nodeB),
        .createRanges([piece(1, 9, 0), piece(10, 19, 4), piece(20, everything, 0)]),
      ])
    // A hole, a missing beginning and a missing end count as gaps.
    for ranges in [
      [record(2, everything, a, 1)], [record(1, 100, a, 1)],
      [record(1, 9, a, 1), record(11, everything, a, 1)],
    ] {
      let actions = orders(sight(ranges, both))
      #expect(actions.count == 1)
      if case .createRanges? = actions.first { continue }
      Issue.record("\(actions)")
    }
  }

  @Test("what was thought of a store does not count in the next, whose versions come up again")
  func anotherStore() {
    var duties = LeaderDuties(timing: defaults)
    let (low, high) = (record(1, 100, a, 1), record(101, everything, b, 1))
    var ranges = [low, high]
    for i in ranges.indices { ranges[i].successors = [i == 0 ? nodeB : nodeA] }
    #expect(duties.orders(sight(ranges, both, version: 7), at: at(100)).actions.isEmpty)
    // The next store has lost who follows whom.
    duties.meetStore()
    let actions = duties.orders(sight([low, high], both, version: 7), at: at(200)).actions
    #expect(
      actions == [
        .setSuccessors(range: Serial(1), [nodeB]), .setSuccessors(range: Serial(101), [nodeA]),
      ])
  }

  @Test("a member is taken off when it has been dead for long, and owns nothing")
  func removals() {
    let ranges = [record(1, everything, a, 1, successors: [])]
    var duties = LeaderDuties(timing: defaults)
    var watch = both
    _ = watch.see([session(nodeA, 2), session(nodeB, 1)], at: at(11_000))
    let early = duties.orders(sight(ranges, watch), at: at(11_499)).removals
    #expect(early.isEmpty)
    let late = duties.orders(sight(ranges, watch), at: at(11_500)).removals
    #expect(late == [.init(watched: .init(nodeB, value(1)), isReleased: false)])
    let owning = sight([record(1, everything, b, 1)], watch)
    #expect(duties.orders(owning, at: at(12_000)).removals.isEmpty)
  }

  @Test("what a draining owner has moves, so many at a time as the limit says, paused or not")
  func drains() {
    let ranges = (0..<4).map { i in
      record(UInt64(i) * 10 + 1, i == 3 ? everything : UInt64(i) * 10 + 10, b, 1)
    }
    let watch = watch([session(nodeA, 1), session(nodeB, 1, draining: true)])
    var limits = LeaderDuties.Limits()
    limits.movesMax = 3
    limits.rangesPerMember = 1
    var duties = LeaderDuties(timing: defaults, limits: limits)
    duties.isPaused = true
    let moves = duties.orders(sight(ranges, watch), at: at(100)).actions.filter {
      if case .startMove(_, let from, let to) = $0 { from == b && to == nodeA } else { false }
    }
    #expect(moves.count == 3)
    duties.isPaused = true
    let balance = duties.orders(sight(ranges, both), at: at(100)).actions.filter {
      if case .startMove = $0 { true } else { false }
    }
    #expect(balance.isEmpty)
  }

  @Test(
    "what an unhealthy member has moves once that has settled, and not when all are; also when nothing else is new"
  )
  func unhealthy() {
    let ranges = [
      record(1, 100, a, 1, successors: [nodeB]), record(101, everything, b, 1, successors: [nodeA]),
    ]
    let ill = defaults.illSettle.wholeNanoseconds / 1_000_000
    let well = defaults.healthSettle.wholeNanoseconds / 1_000_000
    func moves(_ healthy: (a: Bool, b: Bool), illAt: Int64 = 5000) -> [(Int64, Bool)] {
      var duties = LeaderDuties(timing: defaults)
      var watch = both
      return [illAt, illAt + ill - 1, illAt + ill, well].map { now in
        let a = session(nodeA, UInt64(now), healthy: healthy.a)
        let b = session(nodeB, UInt64(now), healthy: healthy.b)
        _ = watch.see([a, b], at: at(now))
        let actions = duties.orders(sight(ranges, watch), at: at(now)).actions
        return (now, actions.contains(.startMove(range: Serial(101), from: self.b, to: nodeA)))
      }
    }
    #expect(moves((true, false)).map(\.1).prefix(3) == [false, false, true])
    #expect(moves((false, false)).map(\.1).prefix(3) == [false, false, false])
    // The other one has not been well for long enough.
    #expect(moves((true, false), illAt: 1000).map(\.1) == [false, false, false, true])
  }

  /// A node that was cut off from everything for seconds came back, and was given ranges before it had its stream
  /// to the vendor app again: their controllers waited for 0.9 s.
  @Test(
    "who cannot serve is given nothing from the moment on at which it says so, unless nobody can")
  func nothingToTheIll() {
    let ranges = [
      record(1, 100, a, 1, weight: 200), record(101, 200, a, 1, weight: 200),
      record(201, everything, a, 1, weight: 200),
    ]
    func isGiven(_ healthy: (a: Bool, b: Bool)) -> Bool {
      var duties = LeaderDuties(timing: defaults)
      let watch = watch([
        session(nodeA, 1, healthy: healthy.a), session(nodeB, 1, healthy: healthy.b),
      ])
      return duties.orders(sight(ranges, watch), at: at(1)).actions.contains {
        if case .startMove(_, _, nodeB) = $0 { true } else { false }
      }
    }
    #expect(isGiven((true, true)) && isGiven((false, false)))
    #expect(!isGiven((true, false)) && isGiven((false, true)))
  }

  /// A node that had been mute for 4.7 s was given a range upon a heartbeat that it had sent before: that said it could
  /// serve, and it could not. Its controllers waited for 1.2 s.
  @Test("who was dead is given nothing for a while: the heartbeat that shows it may be an old one")
  func nothingToTheDead() {
    let ranges = [
      record(1, 100, a, 1, weight: 200), record(101, 200, a, 1, weight: 200),
      record(201, everything, a, 1, weight: 200),
    ]
    var duties = LeaderDuties(timing: defaults)
    var watch = both
    func isGiven(_ beats: (a: UInt64, b: UInt64), at ms: Int64) -> Bool {
      _ = watch.see([session(nodeA, beats.a), session(nodeB, beats.b)], at: at(ms))
      return duties.orders(sight(ranges, watch), at: at(ms)).actions.contains {
        if case .startMove(_, _, nodeB) = $0 { true } else { false }
      }
    }
    #expect(isGiven((2, 2), at: 1000))
    #expect(!isGiven((3, 2), at: 2600) && !isGiven((4, 2), at: 3800), "it is dead")
    #expect(!isGiven((5, 3), at: 5000))
    #expect(!isGiven((6, 4), at: 5899))
    #expect(isGiven((7, 5), at: 5900))
  }

  @Test(
    "what moves at a time weighs no more than the limit, but for one alone; nothing small overtakes"
  )
  func weightUnderWay() {
    func moves(_ weights: [UInt64], moving: Set<Int> = []) -> [UInt64] {
      let ranges = weights.indices.map { i in
        record(
          UInt64(i) * 10 + 1, i + 1 == weights.count ? everything : UInt64(i) * 10 + 10, b, 1,
          move: moving.contains(i) ? PendingMove(to: nodeA, number: UInt64(i) + 1) : nil,
          weight: weights[i])
      }
      let watch = watch([session(nodeA, 1), session(nodeB, 1, draining: true)])
      return orders(sight(ranges, watch)).compactMap {
        if case .startMove(let range, _, _) = $0 { range.rawValue } else { nil }
      }
    }
    // The heaviest first.
    #expect(moves([100, 150, 50, 1]) == [11, 1, 21])
    #expect(moves([900, 10]) == [1])
    #expect(moves([200, 150, 10]) == [1])
    #expect(moves([250, 40, 30], moving: [0]) == [11])
    #expect(moves([900, 1], moving: [0]) == [])
    #expect(moves([.max, .max], moving: [0]) == [])
  }

  @Test(
    "a move is taken back when its owner is not heard, its receiver dead or draining, or when it has taken too long"
  )
  func cancels() {
    let moving = [
      record(1, 100, a, 1, move: PendingMove(to: nodeB, number: 9)),
      record(101, everything, a, 1),
    ]
    let cancel = LeaderAction.cancelMove(range: Serial(1), number: 9)
    #expect(!orders(sight(moving, both)).contains(cancel))
    #expect(orders(sight(moving, watch([session(nodeA, 1)]))).contains(cancel))
    #expect(orders(sight(moving, watch([session(nodeB, 1)]))).contains(cancel))
    #expect(
      orders(sight(moving, watch([session(nodeA, 1), session(nodeB, 1, draining: true)])))
        .contains(cancel))
    var duties = LeaderDuties(timing: defaults)
    for (now, isCancelled) in [(0, false), (9_999, false), (10_000, true)] {
      let fresh = watch([session(nodeA, 1), session(nodeB, 1)], at: Int64(now))
      let actions = duties.orders(sight(moving, fresh), at: at(Int64(now))).actions
      #expect(actions.contains(cancel) == isCancelled, "at \(now)")
    }
  }

  @Test(
    "a heavy range is cut at its median, light neighbours of one owner are joined; not while any moves"
  )
  func cuts() {
    var limits = LeaderDuties.Limits()
    limits.rangesPerMember = 1
    let heavy = [
      record(1, 100, a, 1, weight: 301, median: 40),
      record(101, everything, b, 1, weight: 270),
    ]
    let split = LeaderAction.split(range: Serial(1), at: Serial(40))
    #expect(orders(sight(heavy, both), limits: limits).contains(split))
    let light = [
      record(1, 10, a, 1, weight: 49), record(11, 20, a, 1, weight: 50),
      record(21, 30, b, 1, weight: 45), record(31, everything, b, 1, weight: 55),
    ]
    let merges = orders(sight(light, both), limits: limits).filter {
      if case .merge = $0 { true } else { false }
    }
    #expect(merges == [.merge(range: Serial(1))])
    var moving = heavy
    moving[1].move = PendingMove(to: nodeA, number: 9)
    #expect(!orders(sight(moving, both), limits: limits).contains(split))
  }

  @Test(
    "successors are written where they are others than before; when all is done nothing is ordered")
  func idle() {
    let ranges = [record(1, 100, a, 1), record(101, everything, b, 1)]
    var duties = LeaderDuties(timing: defaults)
    let actions = duties.orders(sight(ranges, both), at: at(100)).actions
    #expect(
      actions == [
        .setSuccessors(range: Serial(1), [nodeB]), .setSuccessors(range: Serial(101), [nodeA]),
      ])
    let done = [
      record(1, 100, a, 1, successors: [nodeB]), record(101, everything, b, 1, successors: [nodeA]),
    ]
    #expect(duties.orders(sight(done, both, version: 2), at: at(200)).actions.isEmpty)
    #expect(duties.orders(sight(done, both, version: 2), at: at(300)).actions.isEmpty)
    // What changes is looked at again: somebody drains.
    let drains = watch([session(nodeA, 1), session(nodeB, 1, draining: true)])
    #expect(!duties.orders(sight(done, drains, version: 2), at: at(400)).actions.isEmpty)
  }

  @Test("no more orders in a call than the limit")
  func limit() {
    var limits = LeaderDuties.Limits()
    limits.actionsMax = 2
    let ranges = (0..<9).map { i in
      record(UInt64(i) * 10 + 1, i == 8 ? everything : UInt64(i) * 10 + 10, a, 1)
    }
    #expect(orders(sight(ranges, both), limits: limits).count == 2)
  }
}

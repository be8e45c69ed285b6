import Testing

@testable import Election

@Suite("Claims")
struct ClaimTests {
  private let me = life(nodeA, 2)

  /// Has met the first store long before 10 s; node-b was last seen to change then.
  private func machine(_ ranges: [RangeRecord], floors: RangeMap = RangeMap()) -> OwnershipMachine {
    var machine = OwnershipMachine(me: me, timing: defaults, floors: floors)
    _ = machine.saw(view(10, ranges, isWhole: true), validUntil: nil, isSure: true, at: at(0))
    return machine
  }

  private func watch(_ sessions: [SessionRecord], quiet: SessionRecord = session(nodeB, 5))
    -> PeerWatch
  {
    var watch = PeerWatch(ttl: defaults.ttl)
    _ = watch.see([quiet], at: at(10_000))
    _ = watch.see(sessions + [quiet], at: at(11_000))
    return watch
  }

  private var alone: PeerWatch { watch([session(nodeA, 1, life: 2)]) }

  @Test(
    "the ranges of the dead are claimed one TTL after, by what was watched, under what is known")
  func dead() {
    var floors = RangeMap()
    floors.raiseFloor(of: Serial(20)...Serial(30), to: Epoch(9))
    let machine = machine(
      [record(1, 100, life(nodeB), 3), record(101, 200, life(nodeB), 4)], floors: floors)
    let early = machine.claims(watch: alone, isDraining: false, at: at(11_499))
    #expect(early.wanted.isEmpty && early.nextAt == at(11_500))
    let (wanted, _) = machine.claims(watch: alone, isDraining: false, at: at(11_500))
    #expect(
      wanted == [
        .init(
          from: .init(nodeB, value(5)), needsConsent: true,
          ranges: [piece(1, 100, 9), piece(101, 200, 4)])
      ])
  }

  @Test(
    "rank r waits r × 50 ms longer: successors first, then others by name, those that drain last")
  func ranks() {
    let others = [session(nodeA, 1, life: 2), session(nodeC, 1), session(nodeD, 1, draining: true)]
    let cases: [(successors: [NodeID], draining: Bool, rank: Int64)] = [
      ([nodeA, nodeC], false, 0), ([nodeC, nodeA], false, 1), ([nodeC], false, 1),
      ([nodeD, nodeA], false, 0), ([nodeB, nodeC, nodeA], false, 1), ([], false, 0),
      ([nodeA], true, 3),
    ]
    for (i, (successors, draining, rank)) in cases.enumerated() {
      let machine = machine([record(1, 100, life(nodeB), 3, successors: successors)])
      let dueAt = 11_500 + 50 * rank
      let watch = watch(others)
      let early = machine.claims(watch: watch, isDraining: draining, at: at(dueAt - 1))
      #expect(early.wanted.isEmpty, "case \(i)")
      #expect(early.nextAt == at(dueAt > 11_500 ? dueAt : 11_500), "case \(i)")
      #expect(
        machine.claims(watch: watch, isDraining: draining, at: at(dueAt)).wanted.count == 1,
        "case \(i)")
    }
  }

  @Test(
    "who is not well comes after the others; when nobody is, the successors' order holds all the same"
  )
  func ranksOfTheUnhealthy() {
    func dueAt(_ sessions: [SessionRecord], successors: [NodeID]) -> Instant? {
      let (wanted, nextAt) = machine([record(1, 100, life(nodeB), 3, successors: successors)])
        .claims(watch: watch(sessions), isDraining: false, at: at(11_500))
      return wanted.isEmpty ? nextAt : at(11_500)
    }
    func ranked(_ rank: Int64) -> Instant { at(11_500 + 50 * rank) }
    let iAmNot = [session(nodeA, 1, life: 2, healthy: false), session(nodeC, 1), session(nodeD, 1)]
    #expect(dueAt(iAmNot, successors: [nodeA]) == ranked(2))
    let otherIsNot = [session(nodeA, 1, life: 2), session(nodeC, 1, healthy: false)]
    #expect(dueAt(otherIsNot, successors: [nodeC, nodeA]) == ranked(0))
    let allAre = iAmNot.map {
      session($0.node, 1, life: $0.value.incarnation.rawValue, healthy: false)
    }
    #expect(dueAt(allAre, successors: [nodeC, nodeA]) == ranked(1))
  }

  @Test("a session that is released is claimed from at once, and without consent")
  func released() {
    let machine = machine([record(1, 100, life(nodeB), 3)])
    let watch = watch([session(nodeA, 1, life: 2)], quiet: session(nodeB, 5, released: true))
    let (wanted, _) = machine.claims(watch: watch, isDraining: false, at: at(10_000))
    #expect(wanted.map(\.needsConsent) == [false])
    #expect(wanted.map(\.from) == [.init(nodeB, value(5))])
  }

  @Test("by the word of a lost store, released or not, consent is needed")
  func releasedElsewhere() {
    let machine = machine([record(1, 100, life(nodeB), 3, in: second)])
    let watch = watch([session(nodeA, 1, life: 2)], quiet: session(nodeB, 5, released: true))
    let (wanted, _) = machine.claims(watch: watch, isDraining: false, at: at(12_000))
    #expect(wanted.map(\.needsConsent) == [true])
  }

  @Test("nothing is claimed in quarantine but what a former life of this node has in this store")
  func quarantine() {
    let ranges = [
      record(1, 100, nil, 3), record(101, 200, life(nodeA, 1), 4),
      record(201, 300, life(nodeA, 1), 5, in: second), record(301, 400, life(nodeB), 5),
    ]
    let machine = machine(ranges)
    var watch = PeerWatch(ttl: defaults.ttl)
    _ = watch.see([session(nodeA, 1, life: 2), session(nodeB, 1, released: true)], at: at(0))
    let early = machine.claims(watch: watch, isDraining: false, at: at(1499))
    // The released one's too: who has it may have got it in the store that was lost.
    #expect(
      early.wanted == [.init(from: nil, needsConsent: false, ranges: [piece(101, 200, 4)])])
    #expect(early.nextAt == at(1500))
    let late = machine.claims(watch: watch, isDraining: false, at: at(1500)).wanted
    #expect(
      late == [
        .init(from: nil, needsConsent: false, ranges: [piece(101, 200, 4)]),
        .init(from: nil, needsConsent: true, ranges: [piece(1, 100, 3), piece(201, 300, 5)]),
        .init(
          from: .init(nodeB, value(1)), needsConsent: false, ranges: [piece(301, 400, 5)]),
      ])
  }

  @Test("one's own is claimed again when a higher epoch has been seen, else not")
  func ownAgain() {
    var machine = machine([record(1, 100, me, 3)])
    #expect(machine.claims(watch: alone, isDraining: false, at: at(20_000)).wanted.isEmpty)
    machine.seen([piece(7, 7, 8)])
    #expect(
      machine.claims(watch: alone, isDraining: false, at: at(20_000)).wanted
        == [.init(from: nil, needsConsent: false, ranges: [piece(1, 100, 8)])])
  }

  @Test(
    "from one that was never watched nothing is claimed, nor by one that stops or has seen nothing")
  func never() {
    var machine = machine([record(1, 100, life(nodeC), 3)])
    #expect(machine.claims(watch: alone, isDraining: false, at: at(99_000)).wanted.isEmpty)
    var gone = alone
    gone.watch(nodeC, at: at(20_000))
    #expect(machine.claims(watch: gone, isDraining: false, at: at(21_499)).wanted.isEmpty)
    #expect(machine.claims(watch: gone, isDraining: false, at: at(21_500)).wanted.count == 1)
    machine.stop()
    #expect(machine.claims(watch: gone, isDraining: false, at: at(21_500)).wanted.isEmpty)
    let fresh = OwnershipMachine(me: me, timing: defaults)
    let (wanted, nextAt) = fresh.claims(watch: alone, isDraining: false, at: at(99_000))
    #expect(wanted.isEmpty && nextAt == .distantFuture)
  }
}

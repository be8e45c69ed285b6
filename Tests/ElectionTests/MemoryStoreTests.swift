import Election
import Testing

@Suite("Memory store")
struct MemoryStoreTests {
  private let a = life(nodeA)
  private let b = life(nodeB)

  /// Two members with the list 2, node-a leading under t1 and owning 1…100 under e1; 101… is nobody's.
  private func cluster() -> MemoryStore {
    var store = MemoryStore(identity: first)
    beat(&store, a, 1)
    beat(&store, b, 1)
    _ = store.run(.campaign(a, hint: .none, watched: nil), for: first)
    lead(&store, 1, [.addMember(nodeA), .addMember(nodeB)])
    lead(&store, 2, [.createRanges([piece(1, 100, 0), piece(101, everything, 0)])])
    #expect(claim(&store, a, [piece(1, 100, 0)]).map(\.epoch) == [Epoch(1)])
    return store
  }

  @discardableResult
  private func beat(
    _ store: inout MemoryStore, _ owner: Owner, _ counter: UInt64, since: UInt64 = 0,
    knows: StoreIdentity? = first, list: MemberList = MemberList(),
    loads: [Serial: RangeLoad] = [:]
  ) -> StoreView? {
    let reply = store.run(
      .heartbeat(
        .init(
          owner: owner, counter: counter, list: list, since: since, identity: knows, loads: loads)),
      for: knows)
    if case .view(let view) = reply { return view }
    return nil
  }

  private func lead(_ store: inout MemoryStore, _ order: UInt64, _ actions: [LeaderAction]) {
    _ = store.run(.lead(a, Term(1), order: order, actions), for: store.identity)
  }

  @discardableResult
  private func claim(
    _ store: inout MemoryStore, _ claimer: Owner, _ ranges: [OwnedRange], list: UInt64 = 2,
    from watched: StoreCall.Watched? = nil
  ) -> [RangeRecord] {
    let reply = store.run(
      .claim(.init(claimer: claimer, list: list, watched: watched, ranges: ranges)),
      for: store.identity)
    guard case .ranges(_, _, let records) = reply else { return [] }
    return records
  }

  @discardableResult
  private func assert(_ store: inout MemoryStore, _ owner: Owner, _ held: OwnedRange)
    -> [RangeRecord]
  {
    guard case .ranges(_, _, let records) = store.run(.assert(owner, [held]), for: store.identity)
    else { return [] }
    return records
  }

  private func owner(_ store: MemoryStore, _ serial: UInt64) -> String {
    store.allRanges.first { $0.serials.contains(Serial(serial)) }.map {
      "\($0.owner.map { "\($0.node)" } ?? "nobody") \($0.epoch)"
    } ?? "none"
  }

  // MARK: Claims

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var list: UInt64 = 2
    var watched: StoreCall.Watched? = StoreCall.Watched(nodeA, value(1))
    var range = piece(1, 100, 1)
    var claimer = life(nodeB)
    var before: @Sendable (inout MemoryStore) -> Void = { _ in }
    var owner: String
  }

  static let release: @Sendable (inout MemoryStore) -> Void = {
    _ = $0.run(.release(life(nodeA)), for: nil)
  }

  @Test(
    "a claim is granted by these rules",
    arguments: [
      Case(testDescription: "as watched", owner: "node-b e2"),
      Case(testDescription: "a higher hint", range: piece(1, 100, 8), owner: "node-b e9"),
      Case(testDescription: "renewed since", watched: .init(nodeA, value(0)), owner: "node-a e1"),
      Case(
        testDescription: "watched in another life", watched: .init(nodeA, value(1, life: 2)),
        owner: "node-a e1"),
      Case(testDescription: "watched as missing", watched: .init(nodeA, nil), owner: "node-a e1"),
      Case(testDescription: "not watched", watched: nil, owner: "node-a e1"),
      Case(testDescription: "another watched", watched: .init(nodeC, nil), owner: "node-a e1"),
      Case(
        testDescription: "released, whatever was watched", watched: .init(nodeA, value(0)),
        before: release, owner: "node-b e2"),
      Case(testDescription: "an older list", list: 1, owner: "node-a e1"),
      Case(testDescription: "a newer list", list: 3, owner: "node-a e1"),
      Case(testDescription: "cut otherwise", range: piece(1, 99, 1), owner: "node-a e1"),
      Case(testDescription: "a life without session", claimer: life(nodeB, 2), owner: "node-a e1"),
      Case(testDescription: "no member", claimer: life(nodeC), owner: "node-a e1"),
      Case(
        testDescription: "the claimer has given its session back",
        before: { _ = $0.run(.release(life(nodeB)), for: nil) }, owner: "node-a e1"),
      Case(
        testDescription: "an epoch that cannot grow", range: piece(1, 100, .max),
        owner: "node-a e1"),
    ])
  func claims(_ rule: Case) {
    var store = cluster()
    rule.before(&store)
    claim(&store, rule.claimer, [rule.range], list: rule.list, from: rule.watched)
    #expect(owner(store, 50) == rule.owner)
  }

  @Test("the same claim again is the same grant; above a higher hint it is a new one")
  func again() {
    var store = cluster()
    #expect(claim(&store, a, [piece(1, 100, 0)]).map(\.epoch) == [Epoch(1)])
    #expect(claim(&store, a, [piece(1, 100, 1)]).map(\.epoch) == [Epoch(1)])
    #expect(claim(&store, a, [piece(1, 100, 5)]).map(\.epoch) == [Epoch(6)])
  }

  @Test("a former life's range is this life's for the asking; never a later one's")
  func lives() {
    var store = cluster()
    beat(&store, life(nodeA, 2), 1)
    #expect(claim(&store, life(nodeA, 2), [piece(1, 100, 1)]).map(\.epoch) == [Epoch(2)])
    #expect(claim(&store, a, [piece(1, 100, 9)]).map(\.owner) == [life(nodeA, 2)])
  }

  @Test("a claim voids the move; by the word of a lost store the epoch is far above")
  func voids() {
    var store = cluster()
    lead(&store, 3, [.startMove(range: Serial(1), from: a, to: nodeB)])
    store.become(second)
    let got = claim(&store, b, [piece(1, 100, 1)], from: .init(nodeA, value(1)))
    #expect(got.map(\.epoch) == [Epoch(1 << 20)])
    #expect(got.map(\.move) == [nil] && got.map(\.store) == [second])
    // In the store it was got in, the next epoch is the next.
    beat(&store, a, 2)
    _ = store.run(.release(b), for: nil)
    #expect(
      claim(&store, a, [piece(1, 100, 1)], from: .init(nodeB, value(1))).map(\.epoch)
        == [Epoch(1 + (1 << 20))])
  }

  @Test("every call but heartbeat and release is refused by a store it does not mean")
  func otherStore() {
    let calls: [StoreCall] = [
      .claim(.init(claimer: b, list: 2, watched: nil, ranges: [piece(101, everything, 0)])),
      .assert(b, [piece(101, everything, 5)]), .handOver(a, range: Serial(1), move: 1),
      .campaign(b, hint: .none, watched: .init(nodeA, value(1))),
      .lead(a, Term(1), order: 3, [.addMember(nodeC)]),
    ]
    for call in calls {
      var store = cluster()
      store.become(second)
      let before = store
      #expect(store.run(call, for: first) == .otherStore(second))
      #expect(store.run(call, for: nil) == .otherStore(second))
      #expect(store == before)
    }
    var store = cluster()
    store.become(second)
    #expect(store.run(.release(a), for: first) == .done(second))
    #expect(beat(&store, b, 2)?.identity == second)
  }

  // MARK: Views

  @Test("a view that was asked with a version of another store is whole")
  func versionOfAnother() {
    var store = cluster()
    let version = beat(&store, a, 2)?.version ?? 0
    #expect(beat(&store, a, 3, since: version)?.isWhole == false)
    store.become(second)
    let view = beat(&store, a, 4, since: version, knows: first)
    #expect(view?.isWhole == true && view?.ranges.count == 2)
    #expect(beat(&store, a, 5, since: version + 1, knows: second)?.isWhole == true)
  }

  @Test("a view has what changed since, and names what was merged away")
  func changes() {
    var store = cluster()
    lead(&store, 3, [.split(range: Serial(1), at: Serial(40))])
    let before = beat(&store, b, 2)?.version ?? 0
    #expect(beat(&store, b, 3, since: before)?.ranges == [])
    lead(&store, 4, [.merge(range: Serial(1))])
    let view = beat(&store, b, 4, since: before)
    #expect(view?.ranges.map(\.first) == [Serial(1)] && view?.removed == [Serial(40)])
    // Cut there again, it is not removed.
    lead(&store, 5, [.split(range: Serial(1), at: Serial(40))])
    #expect(beat(&store, b, 5, since: before)?.removed == [])
  }

  @Test("who is further behind than what is remembered of removals gets the whole map")
  func tombstones() {
    var store = cluster()
    let behind = beat(&store, b, 2)?.version ?? 0
    for i in 0..<UInt64(MemoryStore.tombstonesMax) {
      lead(&store, 3 + 2 * i, [.split(range: Serial(1), at: Serial(40))])
      lead(&store, 4 + 2 * i, [.merge(range: Serial(1))])
    }
    let last = beat(&store, b, 3, since: behind)
    #expect(last?.isWhole == false && last?.removed.first == Serial(40))
    lead(&store, 2003, [.split(range: Serial(1), at: Serial(40))])
    lead(&store, 2004, [.merge(range: Serial(1))])
    #expect(beat(&store, b, 4, since: behind)?.isWhole == true)
    #expect(beat(&store, b, 4, since: last?.version ?? 0)?.isWhole == false)
  }

  @Test("a later life replaces; the former one's heartbeat and release do nothing then")
  func replaced() {
    var store = cluster()
    beat(&store, life(nodeA, 2), 1)
    #expect(
      store.run(.heartbeat(.init(owner: a, counter: 9)), for: nil)
        == .replaced(first, by: Incarnation(2)))
    _ = store.run(.release(a), for: nil)
    let session = beat(&store, b, 2)?.sessions.first
    #expect(session?.released == false && session?.value == value(1, life: 2))
  }

  /// One had waited in the buffers of a connection that its node had given up, for 5.6 s: the node looked alive for a
  /// TTL more.
  @Test(
    "a heartbeat that runs after a later one of its life changes nothing; the same one again does no harm"
  )
  func overtaken() {
    var store = cluster()
    beat(&store, a, 5)
    beat(&store, a, 4, loads: [Serial(1): RangeLoad(weight: 9)])
    #expect(beat(&store, b, 2)?.sessions.first?.value == value(5))
    #expect(store.allRanges[0].load.weight == 1)
    beat(&store, a, 5)
    #expect(beat(&store, b, 3)?.sessions.first?.value == value(5))
    _ = store.run(.release(a), for: nil)
    beat(&store, a, 4)
    #expect(beat(&store, b, 4)?.sessions.first?.released == true)
    beat(&store, life(nodeA, 2), 1)
    #expect(beat(&store, b, 5)?.sessions.first?.value == value(1, life: 2))
  }

  @Test("the store takes a newer list from a heartbeat, and never an older one")
  func lists() {
    var store = cluster()
    beat(&store, b, 2, list: members([nodeB], number: 1))
    #expect(store.list.nodes == [nodeA, nodeB])
    beat(&store, b, 3, list: members([nodeA, nodeB, nodeC], number: 7))
    #expect(store.list.number == 7 && store.list.nodes.count == 3)
  }

  @Test("loads are taken from the owner only")
  func loads() {
    var store = cluster()
    beat(&store, b, 2, loads: [Serial(1): RangeLoad(weight: 9)])
    #expect(store.allRanges[0].load.weight == 1)
    beat(&store, a, 2, loads: [Serial(1): RangeLoad(weight: 9)])
    #expect(store.allRanges[0].load.weight == 9)
  }
}

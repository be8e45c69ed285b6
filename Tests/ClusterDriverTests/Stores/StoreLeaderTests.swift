import Election
import Testing

@testable import ClusterDriver

@Suite("The leader's orders and the views, in memory and in Redis")
struct StoreLeaderTests {
  @Test(
    "a lease goes to the first, to itself, or by a session as watched; the term is above all",
    arguments: StoreKind.allCases)
  func campaign(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    func ask(_ owner: Owner, _ hint: UInt64, _ watched: StoreCall.Watched?) async throws
      -> LeaderRecord?
    {
      let reply = try await scene.run(.campaign(owner, hint: Term(hint), watched: watched))
      guard case .leader(_, let record) = reply else { return nil }
      return record
    }
    #expect(try await ask(scene.b, 0, nil)?.leader == scene.a)
    #expect(try await ask(scene.a, 9, nil)?.term == Term(1))
    let old = scene.watched(scene.a)
    try await scene.beat(scene.a)
    #expect(try await ask(scene.b, 0, old)?.leader == scene.a)
    let next = try await ask(scene.b, 41, scene.watched(scene.a))
    #expect(next == LeaderRecord(leader: scene.b, term: Term(42)))
    let later = Owner(scene.b.node, Incarnation(21))
    #expect(try await ask(later, 0, nil)?.term == Term(43))
    #expect(try await ask(scene.b, 0, nil)?.leader == later)
    #expect(try await ask(scene.c, .max, StoreCall.Watched(scene.b.node, nil))?.leader == later)
  }

  @Test(
    "orders are carried out as the next of their term, and else not",
    arguments: StoreKind.allCases)
  func numbered(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    let create: [LeaderAction] = [.createRanges([piece(1, 100)])]
    for (owner, term, order) in [
      (scene.a, 1, 1), (scene.a, 1, 3), (scene.b, 1, 2), (scene.a, 2, 2),
    ]
      as [(Owner, UInt64, UInt64)]
    {
      try await scene.run(.lead(owner, Term(term), order: order, create))
      #expect(try await scene.view().ranges.isEmpty)
    }
    let reply = try await scene.run(.lead(scene.a, Term(1), order: 2, create))
    let record = LeaderRecord(leader: scene.a, term: Term(1), orders: 2)
    #expect(reply == .leader(scene.identity, record))
    #expect(try await scene.view().ranges.map(\.piece) == [piece(1, 100)])
  }

  @Test(
    "ranges are made where there are none, cut as the others leave room",
    arguments: StoreKind.allCases)
  func create(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(50, 60, 3), piece(80, 90)])
    try await scene.lead([.createRanges([piece(1, 54, 1), piece(55, 85, 2), piece(86, .max - 1)])])
    let expected = [
      piece(1, 49, 1), piece(50, 60, 3), piece(61, 79, 2), piece(80, 90), piece(91, .max - 1),
    ]
    #expect(try await scene.view().ranges.map(\.piece) == expected)
    try await scene.lead([.createRanges([piece(1, .max - 1, 9)])])
    #expect(try await scene.view().ranges.map(\.piece) == expected)
  }

  @Test(
    "a move is started by owner, to a member, once, and taken back by its number",
    arguments: StoreKind.allCases)
  func moves(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100)])
    let first = Serial(1)
    try await scene.claim(scene.b, piece(1, 100))
    try await scene.lead([
      .startMove(range: first, from: scene.c, to: scene.a.node),
      .startMove(range: first, from: scene.b, to: scene.b.node),
      .startMove(range: first, from: scene.b, to: NodeID("stranger")),
      .startMove(range: Serial(2), from: scene.b, to: scene.c.node),
    ])
    #expect(try await scene.range(1)?.move == nil)
    try await scene.lead([
      .startMove(range: first, from: scene.b, to: scene.c.node),
      .startMove(range: first, from: scene.b, to: scene.a.node),
    ])
    let record = try #require(try await scene.range(1))
    let move = try #require(record.move)
    #expect(move == PendingMove(to: scene.c.node, number: record.changed))
    try await scene.lead([
      .split(range: first, at: Serial(50)), .cancelMove(range: first, number: move.number + 1),
    ])
    #expect(try await scene.range(1) == record)
    try await scene.lead([.cancelMove(range: first, number: move.number)])
    #expect(try await scene.range(1)?.move == nil)
  }

  @Test("a range is split with its load, and merged with its like", arguments: StoreKind.allCases)
  func cuts(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100), piece(101, 200, 4)])
    let first = Serial(1)
    try await scene.claim(scene.b, piece(1, 100))
    try await scene.beat(scene.b, loads: [first: RangeLoad(weight: 7, median: Serial(41))])
    try await scene.lead([
      .split(range: first, at: first), .split(range: first, at: Serial(101)),
      .split(range: first, at: Serial(41)),
    ])
    var ranges = try await scene.view().ranges
    #expect(ranges.map(\.piece) == [piece(1, 40, 1), piece(41, 100, 1), piece(101, 200, 4)])
    #expect(ranges.map(\.load) == [4, 3, 1].map { RangeLoad(weight: $0) })
    #expect(ranges.map(\.owner) == [scene.b, scene.b, nil])
    // Not with another owner's, and not across a hole.
    try await scene.lead([.merge(range: Serial(41)), .merge(range: Serial(101))])
    #expect(try await scene.view().ranges.count == 3)
    try await scene.lead([.merge(range: first)])
    ranges = try await scene.view().ranges
    #expect(ranges.map(\.piece) == [piece(1, 100, 1), piece(101, 200, 4)])
    #expect(ranges.first?.load == RangeLoad(weight: 7))
  }

  @Test("successors are written down, by any name, and none", arguments: StoreKind.allCases)
  func successors(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100)])
    let nodes = ["c 3", "", "~", "%", "a,b", "zwölf\n", "a:5001"].map { NodeID($0) }
    try await scene.lead([.setSuccessors(range: Serial(1), nodes)])
    let record = try await scene.range(1)
    #expect(record?.successors == nodes)
    try await scene.lead([.setSuccessors(range: Serial(1), nodes)])
    #expect(try await scene.range(1) == record)
    try await scene.lead([.setSuccessors(range: Serial(1), [])])
    #expect(try await scene.range(1)?.successors == [])
  }

  @Test(
    "the list changes by one, for those with a session, and from the list that is meant",
    arguments: StoreKind.allCases)
  func members(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    let added = [scene.a.node: 1, scene.b.node: 2, scene.c.node: 3] as [NodeID: UInt64]
    #expect(try await scene.view().list == MemberList(number: 3, added: added))
    try await scene.lead([
      .addMember(NodeID("nobody")), .addMember(scene.b.node),
      .removeMember(scene.watched(scene.b), list: 2),
      .removeMember(StoreCall.Watched(scene.b.node, nil), list: 3),
      .removeMember(StoreCall.Watched(NodeID("nobody"), nil), list: 3),
    ])
    #expect(try await scene.view().list.number == 3)
    try await scene.lead([.removeMember(scene.watched(scene.b), list: 3)])
    let view = try await scene.view()
    #expect(view.list.number == 4 && view.list.nodes == [scene.a.node, scene.c.node])
    #expect(view.sessions.map(\.node) == [scene.a.node, scene.c.node])
  }

  @Test("what an operator orders is in every view, and done once", arguments: StoreKind.allCases)
  func operatorOrders(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    var view = try await scene.view()
    try await scene.lead([.removeMember(scene.watched(scene.b), list: view.list.number)])
    view = try await scene.view()
    #expect(!view.isPaused && view.list.removed == [scene.b.node])
    let (version, list) = (view.version, view.list.number)
    try await scene.run(.operate(.pauseBalancing(true)))
    try await scene.run(.operate(.pauseBalancing(true)))
    view = try await scene.view()
    #expect(view.isPaused && view.version == version + 1)
    try await scene.run(.operate(.forget(scene.b.node)))
    try await scene.run(.operate(.forget(scene.b.node)))
    try await scene.run(.operate(.forget(scene.a.node)))
    try await scene.run(.operate(.pauseBalancing(false)))
    view = try await scene.view()
    #expect(!view.isPaused && view.version == version + 3)
    #expect(view.list.removed.isEmpty && view.list.number == list + 1)
  }

  @Test("a store that knows an older list takes the heartbeat's", arguments: StoreKind.allCases)
  func adopted(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    for (number, expected) in [(2, 3), (9, 9), (8, 9)] as [(UInt64, UInt64)] {
      let list = MemberList(number: number, added: [scene.a.node: number])
      let beat = StoreCall.Heartbeat(owner: scene.b, counter: number, list: list)
      guard case .view(let view) = try await scene.run(.heartbeat(beat)) else { return }
      #expect(view.list.number == expected)
    }
  }

  @Test(
    "a view has what has changed since; all of it when the version is another store's or lost",
    arguments: StoreKind.allCases)
  func views(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100), piece(101, 200)])
    let version = try await scene.view().version
    var view = try await scene.view(since: version)
    #expect(!view.isWhole && view.ranges.isEmpty && view.removed.isEmpty)
    try await scene.lead([.merge(range: Serial(1))])
    view = try await scene.view(since: version)
    #expect(!view.isWhole && view.removed == [Serial(101)])
    #expect(view.ranges.map(\.piece) == [piece(1, 200)])
    #expect(try await scene.view(since: view.version + 1).isWhole)
    let other = try await scene.beat(scene.a, since: version, identity: StoreIdentity("other"))
    guard case .view(let whole) = other else { return }
    #expect(whole.isWhole && whole.ranges.count == 1 && whole.removed.isEmpty)
  }

  @Test(
    "whoever is further behind than the removed ranges are remembered gets all",
    arguments: StoreKind.allCases)
  func forgotten(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 10)])
    let early = try await scene.view().version
    try await scene.lead([.split(range: Serial(1), at: Serial(5)), .merge(range: Serial(1))])
    let late = try await scene.view().version
    var orders: [LeaderAction] = []
    for _ in 0..<MemoryStore.tombstonesMax {
      orders += [.split(range: Serial(1), at: Serial(5)), .merge(range: Serial(1))]
    }
    try await scene.lead(orders)
    #expect(try await scene.view(since: early).isWhole)
    let view = try await scene.view(since: late)
    #expect(!view.isWhole && view.removed.count == MemoryStore.tombstonesMax)
  }

  @Test("what a session says is what the others see", arguments: StoreKind.allCases)
  func sessions(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind)
    let status = MemberStatus(
      draining: true, healthy: false, version: .max, capacity: .max - 1,
      controllersAt: "[2001:db8::7]:5001", peersAt: "a host, or none: 1")
    let owner = Owner(NodeID("d"), Incarnation(.max))
    let beat = StoreCall.Heartbeat(
      owner: owner, counter: .max, status: status, identity: StoreIdentity("old one"))
    try await scene.run(.heartbeat(beat))
    var expected = SessionRecord(
      node: owner.node, value: SessionValue(owner.incarnation, .max), status: status, list: 0,
      knows: StoreIdentity("old one"))
    #expect(try await scene.view().sessions.last == expected)
    try await scene.run(.release(Owner(owner.node, Incarnation(1))))
    #expect(try await scene.view().sessions.last == expected)
    try await scene.run(.release(owner))
    expected.released = true
    #expect(try await scene.view().sessions.last == expected)
  }
}

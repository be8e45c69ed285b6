import Election
import Testing

@testable import ClusterDriver

@Suite("Claims, assertions and hand-overs, in memory and in Redis")
struct StoreClaimTests {
  private let whole = piece(1, 100)

  @Test("a range without an owner is granted under epoch 1", arguments: StoreKind.allCases)
  func free(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    let record = try #require(try await scene.claim(scene.b, whole).first)
    #expect(record.owner == scene.b)
    #expect(record.epoch == Epoch(1))
    #expect(record.store == scene.identity)
    #expect(try await scene.view().version == record.changed)
  }

  @Test(
    "the same claim again is the same grant; one with a hint is above it",
    arguments: StoreKind.allCases)
  func again(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    let first = try await scene.claim(scene.b, whole)
    #expect(try await scene.claim(scene.b, whole) == first)
    #expect(try await scene.claim(scene.b, piece(1, 100, 1)) == first)
    #expect(try await scene.claim(scene.b, piece(1, 100, 7)).first?.epoch == Epoch(8))
  }

  @Test(
    "another's range is granted only when its session is as watched, or released",
    arguments: StoreKind.allCases)
  func others(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    let (b, c) = (scene.b, scene.c)
    try await scene.claim(b, whole)
    let old = scene.watched(b)
    try await scene.beat(b)
    let refusals: [StoreCall.Watched?] = [
      nil, old, StoreCall.Watched(b.node, nil), scene.watched(scene.a), scene.watched(c),
    ]
    for watched in refusals {
      #expect(try await scene.claim(c, from: watched, whole).first?.owner == b)
    }
    let taken = try await scene.claim(c, from: scene.watched(b), whole).first
    #expect(taken?.owner == c && taken?.epoch == Epoch(2))

    try await scene.run(.release(c))
    let given = try await scene.claim(b, from: StoreCall.Watched(c.node, nil), whole).first
    #expect(given?.owner == b && given?.epoch == Epoch(3))
  }

  @Test(
    "a claimer that is not on the list, does not know it, is replaced or released gets nothing",
    arguments: StoreKind.allCases)
  func strangers(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    let stranger = Owner(NodeID("stranger"), Incarnation(1))
    try await scene.beat(stranger)
    let former = Owner(scene.b.node, Incarnation(19))
    #expect(try await scene.claim(stranger, whole).first?.owner == nil)
    #expect(try await scene.claim(scene.b, list: 2, whole).first?.owner == nil)
    #expect(try await scene.claim(scene.b, list: 4, whole).first?.owner == nil)
    #expect(try await scene.claim(former, whole).first?.owner == nil)
    try await scene.run(.release(scene.b))
    #expect(try await scene.claim(scene.b, whole).first?.owner == nil)
  }

  @Test("a former life's range is granted, a later one's is not", arguments: StoreKind.allCases)
  func lives(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    try await scene.claim(scene.b, whole)
    let next = Owner(scene.b.node, Incarnation(21))
    try await scene.beat(next)
    #expect(try await scene.claim(scene.b, whole).first?.epoch == Epoch(1))
    let record = try await scene.claim(next, whole).first
    #expect(record?.owner == next && record?.epoch == Epoch(2))
    guard case .replaced(_, let by) = try await scene.beat(scene.b) else {
      Issue.record("the former life was not told")
      return
    }
    #expect(by == next.incarnation)
  }

  @Test("a range is granted only with the last serial it has", arguments: StoreKind.allCases)
  func cuts(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    #expect(try await scene.claim(scene.b, piece(1, 99)).first?.owner == nil)
    #expect(try await scene.claim(scene.b, piece(2, 100)).isEmpty)
  }

  @Test("a claim voids a planned move", arguments: StoreKind.allCases)
  func voids(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    try await scene.claim(scene.b, whole)
    try await scene.lead([.startMove(range: Serial(1), from: scene.b, to: scene.c.node)])
    let move = try #require(try await scene.range(1)?.move)
    try await scene.claim(scene.a, from: scene.watched(scene.b), whole)
    #expect(try await scene.range(1)?.move == nil)
    #expect(try await scene.handOver(scene.b, 1, move: move.number)?.owner == scene.a)
  }

  @Test(
    "an assertion takes the serials it names and leaves the rest as it was",
    arguments: StoreKind.allCases)
  func carving(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100, 5), piece(101, 200, 5)])
    let before = try await scene.view().version
    let taken = try await scene.assert(
      scene.b, piece(11, 20, 6), piece(31, 40, 6), piece(91, 110, 6))
    #expect(taken.map(\.owner) == [scene.b, scene.b, scene.b])
    let view = try await scene.view()
    #expect(
      view.ranges.map(\.piece) == [
        piece(1, 10, 5), piece(11, 20, 6), piece(21, 30, 5), piece(31, 40, 6), piece(41, 90, 5),
        piece(91, 110, 6), piece(111, 200, 5),
      ])
    #expect(view.ranges.map { $0.owner != nil } == [false, true, false, true, false, true, false])
    let changes = try await scene.view(since: before)
    #expect(!changes.isWhole && changes.ranges.count == 7 && changes.removed == [Serial(101)])
  }

  @Test(
    "an assertion is refused where another got any of it here, or had it as high before",
    arguments: StoreKind.allCases)
  func refused(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, 100), piece(101, 200, 9)])
    try await scene.claim(scene.b, whole)
    #expect(try await scene.assert(scene.c, piece(1, 100, 99)).first?.owner == scene.b)
    // One who has nothing yet is told by what is missing.
    #expect(try await scene.assert(scene.c, piece(50, 120, 99)).isEmpty)
    #expect(try await scene.assert(scene.c, piece(101, 200, 8)).first?.owner == nil)
    #expect(try await scene.assert(scene.c, piece(101, 200, 9)).first?.owner == scene.c)
    let own = try await scene.assert(scene.b, piece(1, 50, 1))
    #expect(own.first?.last == Serial(50) && own.first?.owner == scene.b)
    #expect(try await scene.assert(scene.b, piece(60, 70, 3), piece(65, 80, 3)).isEmpty)
  }

  @Test(
    "a hand-over wants owner, incarnation and move; it gives the next epoch",
    arguments: StoreKind.allCases)
  func handOver(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    try await scene.claim(scene.b, whole)
    try await scene.lead([.startMove(range: Serial(1), from: scene.b, to: scene.c.node)])
    let move = try #require(try await scene.range(1)?.move)
    #expect(move.to == scene.c.node)
    let later = Owner(scene.b.node, Incarnation(21))
    #expect(try await scene.handOver(scene.b, 1, move: move.number + 1)?.owner == scene.b)
    #expect(try await scene.handOver(scene.c, 1, move: move.number)?.owner == scene.b)
    #expect(try await scene.handOver(later, 1, move: move.number)?.owner == scene.b)
    #expect(try await scene.handOver(scene.b, 2, move: move.number) == nil)
    let given = try await scene.handOver(scene.b, 1, move: move.number)
    #expect(given?.owner == scene.c && given?.epoch == Epoch(2) && given?.move == nil)
    #expect(try await scene.handOver(scene.b, 1, move: move.number) == given)
  }

  @Test(
    "a range is not handed over to one that has released its session",
    arguments: StoreKind.allCases)
  func released(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    try await scene.claim(scene.b, whole)
    try await scene.lead([.startMove(range: Serial(1), from: scene.b, to: scene.c.node)])
    let move = try #require(try await scene.range(1)?.move)
    try await scene.run(.release(scene.c))
    #expect(try await scene.handOver(scene.b, 1, move: move.number)?.owner == scene.b)
  }

  @Test(
    "another store refuses every call but heartbeat and release",
    arguments: StoreKind.allCases)
  func otherStore(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [whole])
    let before = try await scene.view()
    let claim = StoreCall.Claim(claimer: scene.b, list: 3, watched: nil, ranges: [whole])
    let calls: [StoreCall] = [
      .claim(claim), .assert(scene.b, [whole]), .handOver(scene.b, range: Serial(1), move: 1),
      .campaign(scene.b, hint: Term(9), watched: scene.watched(scene.a)),
      .lead(scene.a, Term(1), order: 2, [.createRanges([])]),
    ]
    for call in calls {
      for known in [nil, StoreIdentity("elsewhere"), StoreIdentity("*")] {
        let reply = try await scene.store.run(call, for: known)
        #expect(reply == .otherStore(scene.identity))
      }
    }
    let after = try await scene.view()
    #expect(after.ranges == before.ranges && after.leader == before.leader)
    let done = try await scene.store.run(.release(scene.c), for: StoreIdentity("elsewhere"))
    #expect(done == .done(scene.identity))
  }

  @Test("epochs and serials are exact where doubles and 64 bits end", arguments: StoreKind.allCases)
  func exact(_ kind: StoreKind) async throws {
    let scene = try await StoreScene(kind, ranges: [piece(1, .max - 1)])
    let edge: UInt64 = 1 << 53
    let cuts: [UInt64] = [
      edge - 1, edge, edge + 1, edge + 2, 10_000_000_000, 10_000_000_001, .max - 2, .max - 1,
    ]
    try await scene.lead(cuts.sorted(by: >).map { .split(range: Serial(1), at: Serial($0)) })
    let firsts: [UInt64] = [1] + cuts.sorted()
    let lasts: [UInt64] = cuts.sorted().map { $0 - 1 } + [.max - 1]
    #expect(try await scene.view().ranges.map(\.first.rawValue) == firsts)
    #expect(try await scene.view().ranges.map(\.last.rawValue) == lasts)

    let hints: [UInt64] = [edge - 2, edge - 1, edge, edge + 1, 9_999_999_999, .max - 2, .max - 1]
    for (n, hint) in hints.enumerated() {
      try await scene.claim(scene.b, piece(firsts[n], lasts[n]))
      let record = try await scene.claim(scene.b, piece(firsts[n], lasts[n], hint)).first
      #expect(record?.epoch == Epoch(hint + 1))
    }
    // Beyond the last epoch nothing is granted.
    let last = piece(firsts[6], lasts[6], .max)
    #expect(try await scene.claim(scene.b, last).first?.epoch == Epoch(.max))
    #expect(
      try await scene.claim(scene.c, from: scene.watched(scene.b), last).first?.owner == scene.b)
    let top = try await scene.assert(scene.c, piece(.max - 1, .max - 1, edge + 1)).first
    #expect(top?.owner == scene.c && top?.epoch == Epoch(edge + 1))
  }

  @Test(
    "a record that is not by this store's word is granted far above all that is known",
    arguments: StoreKind.allCases)
  func stride(_ kind: StoreKind) async throws {
    let known: [UInt64] = [0, 5, (1 << 20) - 1, 1 << 20, (1 << 53) - 1, 1 << 53, .max - (3 << 20)]
    let ranges = known.indices.map { piece(UInt64($0) * 10 + 1, UInt64($0) * 10 + 10) }
    let scene = try await StoreScene(kind, ranges: ranges)
    for (range, epoch) in zip(ranges, known) {
      let expected = try #require(Epoch(epoch).nextAfterLoss(in: scene.identity))
      var wanted = range
      wanted.epoch = Epoch(epoch)
      #expect(try await scene.claim(scene.b, wanted).first?.epoch == expected)
      // Once it is by this store's word, the same is the same, and the next epoch is the next.
      wanted.epoch = expected
      #expect(try await scene.claim(scene.b, wanted).first?.epoch == expected)
      wanted.epoch = Epoch(expected.rawValue + 1)
      #expect(try await scene.claim(scene.b, wanted).first?.epoch == Epoch(expected.rawValue + 2))
    }
  }
}

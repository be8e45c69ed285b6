import Election
import Testing

@Suite("Memory store: what is asserted, handed over and ordered")
struct MemoryStoreAssertTests {
  private let a = life(nodeA)
  private let b = life(nodeB)

  /// Two members; 1…100 and 101… as given, by the word of the first store; the present is the second.
  private func store(
    _ low: (Owner?, UInt64), _ high: (Owner?, UInt64), become identity: StoreIdentity = second
  ) -> MemoryStore {
    var store = MemoryStore(identity: first)
    for owner in [a, b] { _ = store.run(.heartbeat(.init(owner: owner, counter: 1)), for: nil) }
    _ = store.run(.campaign(a, hint: .none, watched: nil), for: first)
    lead(&store, 1, [.addMember(nodeA), .addMember(nodeB)])
    lead(&store, 2, [.createRanges([piece(1, 100, 0), piece(101, everything, 0)])])
    for (range, (owner, epoch)) in [(piece(1, 100, 0), low), (piece(101, everything, 0), high)] {
      guard let owner else { continue }
      _ = store.run(
        .assert(owner, [OwnedRange(first: range.first, last: range.last, epoch: Epoch(epoch))]),
        for: first)
    }
    store.become(identity)
    return store
  }

  private func lead(_ store: inout MemoryStore, _ order: UInt64, _ actions: [LeaderAction]) {
    _ = store.run(.lead(a, Term(1), order: order, actions), for: store.identity)
  }

  private func table(_ store: MemoryStore) -> [String] {
    store.allRanges.map { record in
      let last = record.last == .highest ? "" : "\(record.last)"
      let owner = record.owner.map { "\($0.node)" } ?? "nobody"
      return "\(record.first)…\(last) \(owner) \(record.epoch)"
        + (record.store == store.identity ? "" : " old")
    }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var owner = life(nodeA)
    var held: OwnedRange
    var becomes: [String]
  }

  static let untouched = ["1…100 node-a e5 old", "101… node-b e7 old"]

  @Test(
    "an assertion is taken by these rules",
    arguments: [
      Case(
        testDescription: "one's own", held: piece(1, 100, 5),
        becomes: ["1…100 node-a e5", "101… node-b e7 old"]),
      Case(
        testDescription: "one's own, lower: the higher epoch stays", held: piece(1, 100, 4),
        becomes: ["1…100 node-a e5", "101… node-b e7 old"]),
      Case(
        testDescription: "another's by the lost word, higher", held: piece(101, everything, 8),
        becomes: ["1…100 node-a e5 old", "101… node-a e8"]),
      Case(
        testDescription: "another's, as high", held: piece(101, everything, 7), becomes: untouched),
      Case(
        testDescription: "another's, lower", held: piece(101, everything, 6), becomes: untouched),
      Case(
        testDescription: "cut otherwise: what lies outside stays as it was",
        held: piece(50, 120, 8),
        becomes: ["1…49 node-a e5 old", "50…120 node-a e8", "121… node-b e7 old"]),
      Case(
        testDescription: "over both, not above both", held: piece(50, 120, 6), becomes: untouched),
      Case(
        testDescription: "by a life without session", owner: life(nodeA, 2),
        held: piece(1, 100, 9), becomes: untouched),
    ])
  func assertions(_ rule: Case) {
    var store = store((a, 5), (b, 7))
    _ = store.run(.assert(rule.owner, [rule.held]), for: second)
    #expect(table(store) == rule.becomes)
  }

  @Test("what was never had is taken under the same epoch; what somebody had higher is not")
  func nobodys() {
    var store = MemoryStore(identity: second)
    _ = store.run(.heartbeat(.init(owner: a, counter: 1)), for: nil)
    _ = store.run(.assert(a, [piece(1, 100, 5)]), for: second)
    #expect(table(store) == ["1…100 node-a e5"])
    _ = store.run(.campaign(a, hint: .none, watched: nil), for: second)
    lead(&store, 1, [.createRanges([piece(1, everything, 7)])])
    #expect(table(store) == ["1…100 node-a e5", "101… nobody e7 old"])
    _ = store.run(.assert(a, [piece(101, 200, 6)]), for: second)
    #expect(table(store) == ["1…100 node-a e5", "101… nobody e7 old"])
    _ = store.run(.assert(a, [piece(101, 200, 7)]), for: second)
    #expect(table(store) == ["1…100 node-a e5", "101…200 node-a e7", "201… nobody e7 old"])
  }

  @Test("an assertion that comes after another was settled takes nothing, however high its epoch")
  func afterSettled() {
    var store = store((a, 5), (b, 7))
    _ = store.run(
      .claim(
        .init(
          claimer: b, list: 2, watched: .init(nodeA, value(1)), ranges: [piece(1, 100, 5)])),
      for: second)
    let settled = table(store)
    #expect(settled[0] == "1…100 node-b e1048576")
    for held in [piece(1, 100, 1 << 40), piece(50, 60, 1 << 40), piece(1, everything, 1 << 40)] {
      _ = store.run(.assert(a, [held]), for: second)
      #expect(table(store) == settled)
    }
  }

  @Test("asserted again it is the same, its move with it; cut anew it moves no more")
  func moveKept() {
    var store = store((a, 5), (b, 7), become: first)
    lead(&store, 3, [.startMove(range: Serial(1), from: a, to: nodeB)])
    let move = store.allRanges[0].move
    #expect(move != nil)
    _ = store.run(.assert(a, [piece(1, 100, 5)]), for: first)
    #expect(store.allRanges[0].move == move)
    _ = store.run(.assert(a, [piece(1, 90, 5)]), for: first)
    #expect(store.allRanges[0].move == nil && store.allRanges[1].move == nil)
  }

  @Test("a hand-over needs owner, life, the very move, this store, and a receiver who is there")
  func handOver() {
    var store = store((a, 5), (b, 7), become: first)
    lead(&store, 3, [.startMove(range: Serial(1), from: a, to: nodeB)])
    guard let move = store.allRanges[0].move else {
      Issue.record("nothing moves")
      return
    }
    var elsewhere = store
    elsewhere.become(second)
    _ = elsewhere.run(.handOver(a, range: Serial(1), move: move.number), for: second)
    #expect(elsewhere.allRanges[0].owner == a)
    var gone = store
    _ = gone.run(.release(b), for: nil)
    _ = gone.run(.handOver(a, range: Serial(1), move: move.number), for: first)
    #expect(gone.allRanges[0].owner == a)
    for (owner, number) in [(b, move.number), (life(nodeA, 2), move.number), (a, move.number + 1)] {
      _ = store.run(.handOver(owner, range: Serial(1), move: number), for: first)
      #expect(store.allRanges[0].owner == a)
    }
    _ = store.run(.handOver(a, range: Serial(1), move: move.number), for: first)
    #expect(table(store)[0] == "1…100 node-b e6" && store.allRanges[0].move == nil)
  }

  @Test("no move has the number of another, and the same range is not moved twice at a time")
  func moveNumbers() {
    var store = store((a, 5), (b, 7), become: first)
    var numbers: Set<UInt64> = []
    let start = LeaderAction.startMove(range: Serial(1), from: a, to: nodeB)
    for i in 0..<5 as Range<UInt64> {
      lead(&store, 3 + 3 * i, [start])
      guard let number = store.allRanges[0].move?.number else {
        Issue.record("nothing moves")
        return
      }
      #expect(numbers.insert(number).inserted)
      lead(
        &store, 4 + 3 * i,
        [start, .cancelMove(range: Serial(1), number: number + 1)])
      #expect(store.allRanges[0].move?.number == number)
      lead(&store, 5 + 3 * i, [.cancelMove(range: Serial(1), number: number)])
      #expect(store.allRanges[0].move == nil)
    }
  }

  @Test("orders are carried out only as the next of their term, and only the leader's")
  func orders() {
    var store = store((a, 5), (b, 7), become: first)
    let split = [LeaderAction.split(range: Serial(1), at: Serial(40))]
    let before = store.allRanges
    for call in [
      StoreCall.lead(a, Term(1), order: 2, split), .lead(a, Term(1), order: 4, split),
      .lead(a, Term(2), order: 3, split), .lead(b, Term(1), order: 3, split),
      .lead(life(nodeA, 2), Term(1), order: 3, split),
    ] {
      _ = store.run(call, for: first)
      #expect(store.allRanges == before, "\(call)")
    }
    lead(&store, 3, split)
    #expect(table(store) == ["1…39 node-a e5", "40…100 node-a e5", "101… node-b e7"])
  }

  @Test("what moves is neither split nor merged, and a merger keeps the higher epoch")
  func cuts() {
    var store = store((a, 5), (a, 7), become: first)
    lead(&store, 3, [.startMove(range: Serial(101), from: a, to: nodeB)])
    let before = table(store)
    lead(
      &store, 4,
      [
        .split(range: Serial(101), at: Serial(150)), .merge(range: Serial(1)),
        .merge(range: Serial(101)), .split(range: Serial(1), at: Serial(1)),
        .split(range: Serial(1), at: Serial(101)),
      ])
    #expect(table(store) == before)
    lead(&store, 5, [.cancelMove(range: Serial(101), number: store.allRanges[1].move!.number)])
    lead(&store, 6, [.merge(range: Serial(1))])
    #expect(table(store) == ["1… node-a e7"])
    var mixed = self.store((a, 5), (b, 7), become: first)
    lead(&mixed, 3, [.merge(range: Serial(1))])
    #expect(table(mixed) == ["1…100 node-a e5", "101… node-b e7"])
  }

  @Test(
    "a leader is followed only when its session is as watched; terms grow by what anyone has seen")
  func campaign() {
    var store = store((nil, 0), (nil, 0), become: first)
    func stand(_ owner: Owner, hint: UInt64, _ watched: StoreCall.Watched?) -> LeaderRecord? {
      let reply = store.run(.campaign(owner, hint: Term(hint), watched: watched), for: first)
      if case .leader(_, let record) = reply { return record }
      return nil
    }
    #expect(stand(b, hint: 9, .init(nodeA, value(0)))?.leader == a)
    #expect(stand(b, hint: 9, nil)?.leader == a)
    #expect(stand(a, hint: 9, nil)?.term == Term(1))
    let next = stand(b, hint: 4, .init(nodeA, value(1)))
    #expect(next?.leader == b && next?.term == Term(5) && next?.orders == 0)
    #expect(stand(a, hint: .max, .init(nodeB, value(1)))?.leader == b)
  }

  @Test("what a later life has is not its former life's, even where the later one is forgotten")
  func formerLife() {
    var store = store((life(nodeB, 2), 5), (nil, 0), become: first)
    _ = store.run(.heartbeat(.init(owner: life(nodeB, 2), counter: 1)), for: nil)
    _ = store.run(.assert(life(nodeB, 2), [piece(1, 100, 5)]), for: first)
    #expect(store.allRanges[0].owner == life(nodeB, 2))
    lead(&store, 3, [.removeMember(.init(nodeB, value(1, life: 2)), list: 2)])
    // A heartbeat of its former life comes late, and finds no session.
    _ = store.run(.heartbeat(.init(owner: b, counter: 9)), for: nil)
    lead(&store, 4, [.addMember(nodeB)])
    let claim = StoreCall.Claim(
      claimer: b, list: 4, watched: nil, ranges: [piece(1, 100, 5), piece(101, everything, 0)])
    _ = store.run(.claim(claim), for: first)
    // What is nobody's it may have, so the claim was heard.
    #expect(store.allRanges.map(\.owner) == [life(nodeB, 2), b])
    _ = store.run(
      .campaign(life(nodeB, 2), hint: .none, watched: .init(nodeA, value(1))), for: first)
    let reply = store.run(.campaign(b, hint: .none, watched: nil), for: first)
    #expect(
      reply == .leader(first, LeaderRecord(leader: life(nodeB, 2), term: Term(2))))
  }

  @Test("a member is taken off only from the list that was meant, and while it is as watched")
  func removal() {
    var store = store((nil, 0), (nil, 0), become: first)
    lead(&store, 3, [.removeMember(.init(nodeB, value(0)), list: 2)])
    lead(&store, 4, [.removeMember(.init(nodeB, value(1)), list: 1)])
    lead(&store, 5, [.addMember(nodeC), .addMember(nodeB)])
    #expect(store.list == MemberList(number: 2, added: [nodeA: 1, nodeB: 2]))
    lead(&store, 6, [.removeMember(.init(nodeB, value(1)), list: 2)])
    #expect(store.list == MemberList(number: 3, added: [nodeA: 1], removed: [nodeB]))
    _ = store.run(.heartbeat(.init(owner: life(nodeB), counter: 1)), for: nil)
    lead(&store, 7, [.addMember(nodeB)])
    #expect(store.list == MemberList(number: 4, added: [nodeA: 1, nodeB: 4]))
  }

  @Test(
    "that a node is sure to be a member is kept of a store over its lives, and of no other store")
  func sureOf() {
    var store = MemoryStore(identity: first)
    func beat(_ counter: UInt64, life n: UInt64, _ isSure: Bool, _ knows: StoreIdentity?)
      -> StoreIdentity?
    {
      let beat = StoreCall.Heartbeat(
        owner: life(nodeA, n), counter: counter, identity: knows, isSure: isSure)
      guard case .view(let view) = store.run(.heartbeat(beat), for: nil) else { return nil }
      return view.sessions.first?.sureOf
    }
    #expect(beat(1, life: 1, true, nil) == nil)
    #expect(beat(2, life: 1, true, second) == nil)
    #expect(beat(3, life: 1, true, first) == first)
    #expect(beat(1, life: 2, false, first) == first)
    store.become(second)
    #expect(beat(2, life: 2, true, first) == first)
    #expect(beat(3, life: 2, true, second) == second)
  }
}

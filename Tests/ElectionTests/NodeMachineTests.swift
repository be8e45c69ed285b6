import Election
import Testing

@Suite("Node")
struct NodeMachineTests {
  /// A node with a store that answers at once, unless it is away; time is the test's.
  private struct Desk {
    var node: NodeMachine
    var store: MemoryStore
    var isAway = false
    /// So many of the next are carried out nowhere, and not answered.
    var losesAssertions = 0
    /// What was sent to peers and told to the shell, in order; no wakes and no heartbeats.
    var said: [NodeMachine.Directive] = []
    var wakeAt: Instant?

    init(
      _ owner: Owner, _ store: MemoryStore, tolerance: Int = 0,
      memory: NodeMachine.Memory = .init()
    ) {
      node = NodeMachine(me: owner, timing: defaults, tolerance: tolerance, memory: memory)
      self.store = store
    }

    mutating func step(_ event: NodeMachine.Event, at now: Instant) {
      for directive in node.step(event, at: now) {
        switch directive {
        case .wake(let at): wakeAt = at
        case .call(let id, let call, let known):
          if case .heartbeat = call {} else { said.append(directive) }
          if case .assert = call, losesAssertions > 0 {
            losesAssertions -= 1
            step(.unreachable(id), at: now)
          } else if isAway {
            step(.unreachable(id), at: now)
          } else {
            step(.replied(id, store.run(call, for: known)), at: now)
          }
        default: said.append(directive)
        }
      }
    }

    /// Lets time pass, waking the node when it wants to be.
    mutating func pass(to end: Instant) {
      while let at = wakeAt, at <= end {
        wakeAt = nil
        step(.wake, at: at)
      }
    }
  }

  private let me = life(nodeA)

  /// Alone, and owner of everything after one quarantine.
  private func settled(_ owner: Owner = life(nodeA)) -> Desk {
    var desk = Desk(owner, MemoryStore(identity: first))
    desk.step(.wake, at: at(0))
    desk.pass(to: at(3000))
    desk.said = []
    return desk
  }

  @Test("a node that is alone in an empty store owns everything after one TTL, not before")
  func alone() {
    var desk = Desk(me, MemoryStore(identity: first))
    desk.step(.wake, at: at(0))
    desk.pass(to: at(1499))
    #expect(desk.node.acting.isEmpty && desk.store.allRanges.isEmpty)
    desk.pass(to: at(1800))
    #expect(desk.node.acting == [piece(1, everything, 1)])
    #expect(desk.node.mayAct(for: Serial(5), at: at(1800)) == Epoch(1))
    #expect(desk.node.role == .leading(Term(1)))
    #expect(desk.node.list.nodes == [nodeA])
  }

  @Test("a heartbeat is announced to those alive that come next by name, eight at most")
  func announcements() throws {
    var desk = settled()
    #expect(!desk.said.contains { if case .announce = $0 { true } else { false } })
    let names = (0..<10).map { NodeID("node-\($0)") }
    for name in names {
      _ = desk.store.run(
        .heartbeat(.init(owner: life(name), counter: 1, list: desk.node.list, identity: first)),
        for: first)
    }
    func hearers(_ desk: Desk) -> [[NodeID]] {
      desk.said.compactMap { if case .announce(_, let to) = $0 { to } else { nil } }
    }
    // Before "node-a" by name are all ten: after it begins again with the first.
    desk.pass(to: at(3600))
    #expect(hearers(desk).last == Array(names.prefix(8)))
    desk.pass(to: at(5200))
    desk.said = []
    desk.pass(to: at(6000))
    #expect(hearers(desk).isEmpty, "nobody else is alive any more")
    _ = desk.store.run(
      .heartbeat(.init(owner: life(nodeB), counter: 1, list: desk.node.list, identity: first)),
      for: first)
    desk.pass(to: at(6600))
    guard
      case .announce(let counter, let to)? = desk.said.last(where: {
        if case .announce = $0 { true } else { false }
      })
    else {
      Issue.record("nothing is announced")
      return
    }
    #expect(to == [nodeB])
    #expect(desk.node.peers.session(of: nodeA)?.value == SessionValue(me.incarnation, counter))
  }

  @Test("what a peer announces is counted, and brings nothing forward")
  func announced() throws {
    var desk = settled()
    _ = desk.store.run(
      .heartbeat(.init(owner: life(nodeB), counter: 1, list: desk.node.list, identity: first)),
      for: first)
    desk.pass(to: at(3300))
    #expect(desk.node.step(.announced(life(nodeB), counter: 2), at: at(3310)) == [])
    _ = desk.store.run(
      .heartbeat(.init(owner: life(nodeB), counter: 2, list: desk.node.list, identity: first)),
      for: first)
    desk.pass(to: at(3600))
    #expect(desk.node.peers.deadAt(nodeB) == at(3310 + 1500))
  }

  @Test("the right ends at the deadline to the nanosecond, whatever is held")
  func deadline() throws {
    let desk = settled()
    let until = try #require(desk.node.validUntil)
    #expect(desk.node.mayAct(for: .lowest, at: until) == nil)
    let before = Instant(nanoseconds: until.nanoseconds - 1)
    #expect(desk.node.mayAct(for: .highest, at: before) == Epoch(1))
  }

  @Test("a view that an answer has overtaken brings back nothing and moves no deadline")
  func overtaken() throws {
    var desk = settled()
    let node = desk.node
    // The next heartbeat runs; then the range is moved and handed over; the answers come in reverse.
    var out = desk.node.step(.wake, at: at(3300))
    let beat = try #require(out.calls.first)
    let stale = desk.store.run(beat.call, for: first)
    out = desk.node.step(.epochsSeen([piece(7, 7, 9)]), at: at(3301))
    let claim = try #require(out.calls.first)
    let fresh = desk.store.run(claim.call, for: first)
    _ = desk.node.step(.replied(claim.id, fresh), at: at(3302))
    #expect(desk.node.acting == [piece(1, everything, 10)])
    let until = desk.node.validUntil
    _ = desk.node.step(.replied(beat.id, stale), at: at(3303))
    #expect(desk.node.acting == [piece(1, everything, 10)])
    #expect(desk.node.validUntil == until && until == node.validUntil)
    // It is asked for again, and that one counts.
    desk.step(.wake, at: at(3310))
    #expect(desk.node.validUntil == at(3310 + 1200))
  }

  @Test("another process with this node's name: this one holds nothing and does nothing more")
  func replaced() {
    var desk = settled()
    _ = desk.store.run(.heartbeat(.init(owner: life(nodeA, 2), counter: 1)), for: nil)
    desk.step(.wake, at: at(3300))
    #expect(desk.said == [.actingChanged, .replaced(by: Incarnation(2))])
    #expect(desk.node.acting.isEmpty && desk.node.validUntil == nil)
    #expect(desk.node.role == .follower)
    #expect(desk.node.step(.wake, at: at(9000)) == [])
    let question = NodeMachine.Question.consent(
      .init(asker: life(nodeB), identity: first, against: nil))
    #expect(
      desk.node.step(.asked(question, by: nodeB, token: 4), at: at(9000)) == [
        .answer(token: 4, .refused)
      ])
  }

  @Test("stop first, then release: nothing is acted for when the session is given back")
  func stops() {
    var desk = settled()
    desk.step(.stop, at: at(3100))
    #expect(desk.node.acting == [piece(1, everything, 1)])
    #expect(desk.node.role == .follower)
    let out = desk.node.step(.workEnded, at: at(3200))
    #expect(out.first == .actingChanged && out.calls.map(\.call) == [.release(me)])
    #expect(desk.node.acting.isEmpty && desk.node.mayAct(for: .lowest, at: at(3200)) == nil)
    // Not answered, it is given back again, a renewal later: who refuses at once is not pestered.
    #expect(desk.node.step(.unreachable(out.calls[0].id), at: at(3201)) == [.wake(at: at(3451))])
    let again = desk.node.step(.wake, at: at(3451))
    #expect(again.calls.map(\.call) == [.release(me)])
    // Answered, that is the end.
    let reply = desk.store.run(again.calls[0].call, for: nil)
    #expect(desk.node.step(.replied(again.calls[0].id, reply), at: at(3452)) == [.stopped])
    #expect(desk.node.step(.wake, at: at(3700)) == [])
  }

  @Test("work that ends without a stop is no stop")
  func noStop() {
    var desk = settled()
    desk.step(.workEnded, at: at(3100))
    #expect(desk.node.acting == [piece(1, everything, 1)] && desk.said.isEmpty)
  }

  @Test("a leader that has missed three heartbeats leads no more")
  func resigns() {
    var desk = settled()
    desk.isAway = true
    desk.pass(to: at(3600))
    #expect(desk.node.role == .leading(Term(1)))
    desk.pass(to: at(3800))
    #expect(desk.node.role == .follower)
  }

  @Test("alone on its list, a node holds by its own promise for as long as the store is away")
  func aloneByPromise() {
    var desk = settled()
    desk.isAway = true
    desk.pass(to: at(60_000))
    #expect(desk.node.mayAct(for: .lowest, at: at(60_000)) == Epoch(1))
  }

  @Test("who holds by promises when it meets a store that was emptied asserts, and goes on at once")
  func promisedMeetsAnother() {
    var desk = settled()
    desk.isAway = true
    desk.pass(to: at(20_000))
    desk.store = MemoryStore(identity: second)
    desk.isAway = false
    // Within a renewal, where a node that is fenced waits for a TTL.
    desk.pass(to: at(20_300))
    #expect(desk.node.mayAct(for: .lowest, at: at(20_300)) == Epoch(1))
    #expect(desk.store.allRanges.map(\.owner) == [me])
  }

  /// Cut in so many ranges, all of them this node's.
  private func cut(_ n: UInt64) -> Desk {
    var memory = NodeMachine.Memory()
    for i in 0..<n where i % 2 == 1 {
      memory.floors.raiseFloor(of: Serial(1 + i * 10)...Serial(10 + i * 10), to: Epoch(1))
    }
    var limits = LeaderDuties.Limits()
    (limits.mergeBelow, limits.rangesPerMember) = (0, 0)
    var desk = Desk(life(nodeA), MemoryStore(identity: first))
    desk.node = NodeMachine(me: life(nodeA), timing: defaults, memory: memory, limits: limits)
    desk.step(.wake, at: at(0))
    desk.pass(to: at(3000))
    return desk
  }

  @Test("thousands of ranges are claimed and asserted in parts, one after the other")
  func parts() {
    var desk = cut(2501)
    #expect(desk.node.acting.count == 2501)
    func sizes(_ pick: (StoreCall) -> [OwnedRange]?) -> [Int] {
      desk.said.compactMap { directive in
        if case .call(_, let call, _) = directive { pick(call)?.count } else { nil }
      }
    }
    let claims = sizes { if case .claim(let claim) = $0 { claim.ranges } else { nil } }
    #expect(claims == [1000, 1000, 501])
    desk.said = []
    desk.store = MemoryStore(identity: second)
    desk.pass(to: at(3300))
    let parts = sizes { if case .assert(_, let ranges) = $0 { ranges } else { nil } }
    #expect(parts == [1000, 1000, 501])
    #expect(desk.node.acting.count == 2501 && desk.node.ownership.unconfirmed.isEmpty)
  }

  @Test("an assertion that is not answered is made again with the next view, from the beginning")
  func partLost() {
    var desk = cut(1501)
    desk.said = []
    desk.store = MemoryStore(identity: second)
    desk.losesAssertions = 1
    desk.pass(to: at(3300))
    #expect(desk.node.acting.isEmpty)
    desk.pass(to: at(3600))
    #expect(desk.node.acting.count == 1501)
  }

  /// Two members, of which this one owns everything; the other's answers are the test's.
  private func two() -> Desk {
    var desk = settled()
    for counter in 1...2 as ClosedRange<UInt64> {
      _ = desk.store.run(
        .heartbeat(.init(owner: life(nodeB), counter: counter, identity: first)), for: nil)
      desk.pass(to: at(3000 + Int64(counter) * 300))
    }
    // It has taken up the list by now.
    _ = desk.store.run(
      .heartbeat(
        .init(owner: life(nodeB), counter: 3, list: desk.node.list, identity: first)), for: nil)
    desk.pass(to: at(3900))
    desk.said = []
    return desk
  }

  @Test(
    "while the store is away members are asked, and what they answer with the news counts by its order"
  )
  func promises() throws {
    var desk = two()
    #expect(desk.node.list.nodes == [nodeA, nodeB])
    desk.isAway = true
    desk.pass(to: at(4200))
    let asked = desk.said.compactMap { directive -> FailsafeMachine.PromiseRequest? in
      if case .ask(nodeB, .promise(let request)) = directive { request } else { nil }
    }
    let request = try #require(asked.last)
    #expect(asked.allSatisfy { $0.isProbe }, "nobody was heard")
    let byStore = try #require(desk.node.validUntil)
    let version = desk.node.ownership.version
    func answer(_ identity: StoreIdentity, _ version: UInt64, _ news: [RangeRecord]) -> Desk {
      var copy = desk
      copy.step(
        .answered(
          .promised(round: request.round, identity, version: version, news: news), by: nodeB),
        at: at(4201))
      return copy
    }
    #expect(answer(first, version, []).node.validUntil! > byStore)
    #expect(answer(second, version, []).node.validUntil == byStore)
    // News takes away before the deadline is moved.
    let lost = record(1, everything, life(nodeB), 2)
    let after = answer(first, version + 1, [lost])
    #expect(after.node.acting.isEmpty && after.said.last == .actingChanged)
    // What can't be told from an old story gives no promise.
    let old = answer(first, version - 1, [lost])
    #expect(old.node.validUntil == byStore && old.node.acting == desk.node.acting)
  }

  @Test("a promise is asked for when the member is heard, at once and only then; a probe gets none")
  func probes() throws {
    var desk = two()
    func asked(_ desk: Desk) -> [FailsafeMachine.PromiseRequest] {
      desk.said.compactMap {
        if case .ask(nodeB, .promise(let request)) = $0 { request } else { nil }
      }
    }
    func probes(at ms: Int64) -> [Bool] {
      desk.said = []
      desk.pass(to: at(ms))
      return asked(desk).map(\.isProbe)
    }
    desk.isAway = true
    #expect(probes(at: 4200) == [true])
    let round = try #require(asked(desk).first).round
    // To the question that was asked, and once.
    desk.said = []
    for (answered, expected) in [(round + 1, []), (round, [false]), (round, [])]
      as [(UInt64, [Bool])]
    {
      desk.step(.answered(.heard(round: answered), by: nodeB), at: at(4201))
      let requests = asked(desk)
      #expect(requests.map(\.isProbe) == expected)
      #expect(requests.allSatisfy { $0.round == round })
      desk.said = []
    }
    // Who was heard within the last two rounds is asked for its promise right away.
    #expect(probes(at: 4900) == [false, false, true])
    // What was heard in one outage says nothing of the next.
    desk.step(.answered(.heard(round: round + 3), by: nodeB), at: at(4901))
    desk.isAway = false
    _ = probes(at: 5900)
    desk.isAway = true
    #expect(probes(at: 6300).first == true)
  }

  @Test("who only asks whether it is heard is answered whatever it knows, and promised nothing")
  func probed() {
    var desk = two()
    for (token, identity) in [(8, first), (9, second)] as [(UInt64, StoreIdentity)] {
      desk.step(
        .asked(
          .promise(
            .init(asker: life(nodeB), round: token, identity: identity, version: 0, isProbe: true)),
          by: nodeB, token: token), at: at(3950))
      #expect(desk.said.last == .answer(token: token, .heard(round: token)))
    }
    let watched = StoreCall.Watched(nodeB, value(3))
    desk.step(
      .asked(
        .consent(.init(asker: life(nodeB), identity: first, against: watched)), by: nodeB, token: 10
      ), at: at(3951))
    #expect(desk.said.last == .answer(token: 10, .consented(against: watched)))
  }

  @Test("nobody is asked for promises while the store answers, nor by a node that holds nothing")
  func notAsked() {
    var desk = two()
    desk.pass(to: at(9000))
    var holdsNothing = Desk(life(nodeB), desk.store)
    holdsNothing.step(.wake, at: at(0))
    holdsNothing.pass(to: at(600))
    holdsNothing.isAway = true
    holdsNothing.pass(to: at(5000))
    for directive in desk.said + holdsNothing.said {
      if case .ask(_, .promise) = directive { Issue.record("asked: \(directive)") }
    }
  }

  @Test("in quarantine nothing is consented to, and who knows another store is answered nothing")
  func refuses() {
    var desk = two()
    func answers(_ desk: Desk, _ question: NodeMachine.Question, by node: NodeID, at now: Instant)
      -> NodeMachine.Answer?
    {
      var copy = desk
      for case .answer(_, let answer) in copy.node.step(
        .asked(question, by: node, token: 1), at: now)
      {
        return answer
      }
      return nil
    }
    let promise = NodeMachine.Question.promise(
      .init(asker: life(nodeB), round: 7, identity: first, version: 0))
    guard case .promised(7, first, _, let news) = answers(desk, promise, by: nodeB, at: at(3950))
    else {
      Issue.record("no promise")
      return
    }
    #expect(news.map(\.piece) == [piece(1, everything, 1)])
    #expect(answers(desk, promise, by: nodeC, at: at(3950)) == .refused)
    let elsewhere = NodeMachine.Question.promise(
      .init(asker: life(nodeB), round: 7, identity: second, version: 0))
    #expect(answers(desk, elsewhere, by: nodeB, at: at(3950)) == .refused)
    let watched = StoreCall.Watched(nodeB, value(3))
    func consent(_ identity: StoreIdentity, _ against: StoreCall.Watched?) -> NodeMachine.Question {
      .consent(.init(asker: life(nodeB), identity: identity, against: against))
    }
    #expect(
      answers(desk, consent(first, watched), by: nodeB, at: at(3950))
        == .consented(against: watched))
    #expect(answers(desk, consent(second, watched), by: nodeB, at: at(3950)) == .refused)
    let me = StoreCall.Watched(nodeA, value(1))
    #expect(answers(desk, consent(first, me), by: nodeB, at: at(3950)) == .refused)
    desk.store.become(second)
    desk.pass(to: at(4150))
    _ = desk.store.run(
      .heartbeat(.init(owner: life(nodeB), counter: 4, list: desk.node.list, identity: second)),
      for: nil)
    desk.pass(to: at(4400))
    let now = StoreCall.Watched(nodeB, value(4))
    #expect(answers(desk, consent(second, now), by: nodeB, at: at(5400)) == .refused)
    // The quarantine began with the first answer of that store, at 4.0 to 4.15 s.
    desk.pass(to: at(5651))
    #expect(
      answers(desk, consent(second, now), by: nodeB, at: at(5651)) == .consented(against: now))
  }

  @Test("what was consented to in one store is asked for again in the next")
  func consentsOfAnotherStore() {
    var memory = NodeMachine.Memory()
    memory.list = members([nodeA, nodeB, nodeC], number: 3)
    memory.listKnown = [nodeB: 3, nodeC: 3]
    var desk = Desk(me, MemoryStore(identity: first), tolerance: 1, memory: memory)
    // The others have met the store, and died.
    for node in [nodeB, nodeC] {
      _ = desk.store.run(
        .heartbeat(.init(owner: life(node), counter: 1, identity: first)), for: nil)
    }
    func asked(_ desk: Desk) -> Bool {
      desk.said.contains { if case .ask(nodeB, .consent) = $0 { true } else { false } }
    }
    desk.step(.wake, at: at(0))
    desk.pass(to: at(3000))
    #expect(asked(desk) && desk.node.acting.isEmpty)
    desk.step(.answered(.consented(against: nil), by: nodeB), at: at(3001))
    desk.pass(to: at(3500))
    #expect(desk.node.acting == [piece(1, everything, 1)])
    // Without the store, and without promises of others, it is fenced.
    desk.isAway = true
    desk.pass(to: at(8000))
    #expect(desk.node.mayAct(for: .lowest, at: at(8000)) == nil)
    desk.store = MemoryStore(identity: second)
    desk.isAway = false
    desk.said = []
    desk.pass(to: at(12_000))
    #expect(asked(desk) && desk.node.acting.isEmpty)
    #expect(desk.store.allRanges.map(\.owner) == [nil])
  }

  @Test("what a later life knows: the list, the lists peers have shown, the highest epochs")
  func memory() {
    let desk = two()
    var next = Desk(life(nodeA, 2), MemoryStore(identity: second), memory: desk.node.memory)
    #expect(next.node.memory == desk.node.memory)
    #expect(next.node.memory.listKnown[nodeB] == desk.node.list.number)
    next.step(.wake, at: at(0))
    #expect(next.store.list == desk.node.list)
    // node-b has met this store too, and consents.
    _ = next.store.run(
      .heartbeat(.init(owner: life(nodeB), counter: 4, list: desk.node.list, identity: second)),
      for: nil)
    next.pass(to: at(4000))
    #expect(next.node.acting == [piece(1, everything, 1 << 20)])
  }

  @Test(
    "a later life that finds an empty store, and nobody it knows, waits for who may hold without it"
  )
  func unsure() {
    var next = Desk(life(nodeA, 2), MemoryStore(identity: second), memory: two().node.memory)
    next.step(.wake, at: at(0))
    next.pass(to: at(120_000))
    #expect(next.node.acting.isEmpty && next.store.allRanges.isEmpty)
    next.pass(to: at(130_000))
    #expect(next.node.acting == [piece(1, everything, 1 << 20)])
  }

  @Test("who is alone because another was taken off holds without the store for a while only")
  func shrunkHold() throws {
    var desk = two()
    desk.pass(to: at(20_000))
    #expect(desk.node.list.nodes == [nodeA] && desk.node.list.removed == [nodeB])
    desk.isAway = true
    desk.pass(to: at(140_000))
    let until = try #require(desk.node.validUntil)
    #expect(at(140_000) < until && until < at(142_000))
    desk.pass(to: at(150_000))
    #expect(desk.node.validUntil == until)
    // Fenced for longer than a member stays on a list unseen: it may be off it by now.
    desk.store = MemoryStore(identity: second)
    desk.isAway = false
    desk.said = []
    desk.pass(to: at(154_000))
    #expect(desk.node.acting == [piece(1, everything, 1 << 20)], "all that are listed are here")
  }

  @Test("an operator's order is given to the store, and what it came to is seen at once")
  func orders() {
    var desk = two()
    desk.pass(to: at(20_000))
    desk.step(.order(.pauseBalancing(true)), at: at(20_001))
    desk.step(.wake, at: at(20_011))
    #expect(desk.node.isPaused == true)
    desk.step(.order(.forget(nodeB)), at: at(20_012))
    desk.step(.wake, at: at(20_021))
    #expect(desk.node.list.removed.isEmpty && desk.node.list.nodes == [nodeA])
  }

  @Test("whoever was seen in time is still a member: it waits for a TTL only")
  func sure() {
    var desk = settled()
    desk.isAway = true
    desk.pass(to: at(9000))
    desk.store = MemoryStore(identity: second)
    desk.isAway = false
    desk.pass(to: at(11_000))
    #expect(desk.store.allRanges.map(\.owner) == [me])
    var session: SessionRecord?
    if case .view(let view) = desk.store.run(.heartbeat(.init(owner: me, counter: 99)), for: nil) {
      session = view.sessions.first
    }
    #expect(session?.sureOf == second)
  }
}

extension [NodeMachine.Directive] {
  fileprivate var calls: [(id: NodeMachine.CallID, call: StoreCall)] {
    compactMap { if case .call(let id, let call, _) = $0 { (id, call) } else { nil } }
  }
}

import Election
import Testing

@Suite("Failsafe")
struct FailsafeMachineTests {
  /// One that has seen these peers long since, with a value that it has not consented against.
  private func member(
    _ me: NodeID, sees peers: [NodeID], tolerance: Int = 0, list: UInt64 = 1,
    listKnown: SortedMap<NodeID, UInt64> = [:]
  ) -> FailsafeMachine {
    var failsafe = FailsafeMachine(
      me: me, tolerance: tolerance, timing: defaults, listKnown: listKnown)
    for counter in 1...2 as ClosedRange<UInt64> {
      failsafe.see(peers.map { session($0, counter, list: list, knows: first) }, in: first)
    }
    return failsafe
  }

  @Test("for every N = 1…7 and f = 0…3, any set that holds and any set that claims share a member")
  func quorumsIntersect() {
    for n in 1...7 {
      let nodes = (0..<n).map { NodeID("node-\($0)") }
      let list = members(nodes)
      for f in 0...3 {
        // What holding takes is asked of the machine itself, for every set of members that promise.
        var holding: [Int] = []
        for set in 1..<(1 << n) where set & 1 != 0 {
          var failsafe = FailsafeMachine(me: nodes[0], tolerance: f, timing: defaults)
          let round = failsafe.ask(at: at(0))
          for i in 1..<max(n, 2) where n > 1 && set & (1 << i) != 0 {
            failsafe.promised(by: nodes[i], round: round)
          }
          let holds = failsafe.deadline(list: list) != nil
          #expect(holds == (set.nonzeroBitCount >= max(n - f, 1)), "N \(n), f \(f), set \(set)")
          if holds { holding.append(set) }
        }
        let needed = FailsafeMachine(me: nodes[0], tolerance: f, timing: defaults)
          .consentsNeeded(list: list)
        #expect(needed == min(f + 1, n))
        for claiming in 1..<(1 << n) where claiming.nonzeroBitCount >= needed {
          // A claimer counts itself and never the one it claims from.
          for set in holding where n > f {
            #expect(set & claiming != 0, "N \(n), f \(f): \(set) holds and \(claiming) claims")
          }
        }
      }
    }
  }

  @Test("the deadline is that of the (N − f)th newest promise, less the margin")
  func deadline() {
    let nodes = (0..<5).map { NodeID("node-\($0)") }
    for f in 0...3 {
      var failsafe = FailsafeMachine(me: nodes[0], tolerance: f, timing: defaults)
      // Each is heard in one round only, so the promises have different ages.
      for i in 1...4 {
        let round = failsafe.ask(at: at(Int64(i) * 100))
        failsafe.promised(by: nodes[i], round: round)
      }
      // Ages from the newest: the node itself and node-4 at 400, then 300, 200, 100.
      let askedAt: [Int64] = [400, 400, 300, 200, 100]
      #expect(failsafe.deadline(list: members(nodes)) == at(askedAt[5 - f - 1] + 1200))
    }
  }

  @Test(
    "a promise counts from the asking of the round it answers; a late answer counts for nothing")
  func rounds() {
    var failsafe = FailsafeMachine(me: nodeA, tolerance: 0, timing: defaults)
    let list = members([nodeA, nodeB])
    #expect(failsafe.deadline(list: list) == nil)
    let old = failsafe.ask(at: at(0))
    #expect(failsafe.deadline(list: list) == nil)
    let new = failsafe.ask(at: at(250))
    #expect(new != old)
    failsafe.promised(by: nodeB, round: old)
    #expect(failsafe.deadline(list: list) == nil)
    failsafe.promised(by: nodeB, round: new)
    #expect(failsafe.deadline(list: list) == at(1450))
    _ = failsafe.ask(at: at(500))
    #expect(failsafe.deadline(list: list) == at(1450))
    // The promises of those that are no members count for nothing, nor do those to one that is none.
    #expect(failsafe.deadline(list: members([nodeA, nodeC])) == nil)
    #expect(failsafe.deadline(list: members([nodeB])) == nil)
    // What was promised by those who knew another store does not either.
    failsafe.meetStore()
    #expect(failsafe.deadline(list: list) == nil)
  }

  @Test("a promise is kept to the nanosecond: no consent before its end, one at its end")
  func promiseKept() {
    var failsafe = member(nodeB, sees: [nodeA])
    let against = StoreCall.Watched(nodeA, value(2))
    let list = members([nodeA, nodeB])
    #expect(failsafe.promise(to: nodeA, list: list, at: at(100)) == true)
    let end = at(100) + defaults.promise
    let before = Instant(nanoseconds: end.nanoseconds - 1)
    #expect(failsafe.consent(against: against, list: list, at: at(100)) == false)
    #expect(failsafe.consent(against: against, list: list, at: before) == false)
    #expect(failsafe.consent(against: against, list: list, at: end) == true)
  }

  @Test("who has consented promises nothing until the session has another value")
  func consentExcludes() {
    var failsafe = member(nodeB, sees: [nodeA])
    let list = members([nodeA, nodeB])
    let against = StoreCall.Watched(nodeA, value(2))
    #expect(failsafe.consent(against: against, list: list, at: at(0)) == true)
    #expect(failsafe.promise(to: nodeA, list: list, at: at(1_000_000)) == false)
    // Twice is the same.
    #expect(failsafe.consent(against: against, list: list, at: at(1_000_001)) == true)
    failsafe.see([session(nodeA, 2, released: true)], in: first)
    #expect(failsafe.promise(to: nodeA, list: list, at: at(1_000_002)) == false)
    failsafe.see([session(nodeA, 3)], in: first)
    #expect(failsafe.promise(to: nodeA, list: list, at: at(1_000_003)) == true)
    #expect(failsafe.consent(against: against, list: list, at: at(9_000_000)) == false)
  }

  @Test("consent is to the session that was last seen, and to no other")
  func consentNames() {
    var failsafe = member(nodeB, sees: [nodeA, nodeC])
    let list = members([nodeA, nodeB, nodeC])
    for other in [
      StoreCall.Watched(nodeA, value(1)), .init(nodeA, value(3)), .init(nodeA, nil),
      .init(nodeA, value(2, life: 2)), .init(nodeD, nil), .init(nodeB, nil),
    ] {
      #expect(failsafe.consent(against: other, list: list, at: at(0)) == false, "\(other)")
    }
    failsafe.see([session(nodeC, 3, list: 1, knows: first)], in: first)
    #expect(failsafe.consent(against: .init(nodeA, nil), list: list, at: at(0)) == true)
    #expect(failsafe.consent(against: nil, list: list, at: at(0)) == true)
  }

  @Test("a peer first seen is promised nothing: what a former life has consented to is not known")
  func firstSeen() {
    var failsafe = FailsafeMachine(me: nodeB, tolerance: 0, timing: defaults)
    let list = members([nodeA, nodeB, nodeC])
    #expect(failsafe.promise(to: nodeA, list: list, at: at(0)) == false)
    failsafe.see([session(nodeA, 1, knows: first)], in: first)
    #expect(failsafe.promise(to: nodeA, list: list, at: at(0)) == false)
    failsafe.see([session(nodeA, 2, knows: first)], in: first)
    #expect(failsafe.promise(to: nodeA, list: list, at: at(0)) == true)
    #expect(failsafe.promise(to: nodeB, list: list, at: at(0)) == false)
    // A session that is missing, or was only mentioned, is a value like any other.
    failsafe.mention(nodeC)
    #expect(failsafe.promise(to: nodeC, list: list, at: at(0)) == false)
    failsafe.see([session(nodeA, 2, knows: first), session(nodeC, 1, knows: first)], in: first)
    #expect(failsafe.promise(to: nodeC, list: list, at: at(0)) == true)
  }

  @Test("who was taken off the list is promised nothing: it would not learn of it")
  func notListed() {
    var failsafe = member(nodeB, sees: [nodeA])
    #expect(failsafe.promise(to: nodeA, list: members([nodeB]), at: at(0)) == false)
    #expect(failsafe.promise(to: nodeA, list: members([nodeA, nodeB]), at: at(0)) == true)
  }

  @Test("what was promised is kept whatever store is met; what was seen is not")
  func meetStore() {
    var failsafe = member(nodeB, sees: [nodeA])
    let list = members([nodeA, nodeB])
    #expect(failsafe.promise(to: nodeA, list: list, at: at(0)) == true)
    failsafe.meetStore()
    #expect(failsafe.promise(to: nodeA, list: list, at: at(1)) == false)
    failsafe.see([session(nodeA, 9, list: 1, knows: second)], in: second)
    let against = StoreCall.Watched(nodeA, value(9))
    #expect(failsafe.consent(against: against, list: list, at: at(1499)) == false)
    #expect(failsafe.consent(against: against, list: list, at: at(1500)) == true)
  }

  @Test("one that was added with list n does not consent against who is known to know a lower one")
  func listNumber() {
    let against = StoreCall.Watched(nodeA, value(2))
    for known in 1...5 as ClosedRange<UInt64> {
      var failsafe = member(nodeB, sees: [nodeA], list: known)
      let list = MemberList(number: 3, added: [nodeA: 1, nodeB: 3])
      #expect(failsafe.consent(against: against, list: list, at: at(0)) == (known >= 3))
      // The number shown stays the highest that was ever shown.
      failsafe.see([session(nodeA, 2, list: 0, knows: first)], in: first)
      #expect(failsafe.listKnown[nodeA] == known)
    }
    var outside = member(nodeB, sees: [nodeA])
    #expect(outside.consent(against: nil, list: members([nodeA, nodeC]), at: at(0)) == false)
  }

  @Test(
    "nor to anything, while a member that has not met this store has, or may have, a lower list")
  func listOfTheAbsent() {
    let list = MemberList(number: 3, added: [nodeA: 1, nodeB: 2, nodeC: 3])
    for (known, mayConsent) in [(nil, false), (1, false), (2, true), (3, true)]
      as [(UInt64?, Bool)]
    {
      var failsafe = FailsafeMachine(
        me: nodeB, tolerance: 0, timing: defaults,
        listKnown: known.map { [nodeC: $0] } ?? [:])
      failsafe.see([session(nodeA, 1, list: 3, knows: first)], in: first)
      #expect(failsafe.consent(against: nil, list: list, at: at(0)) == mayConsent, "\(known ?? 0)")
      // It has met the store when its session says that it knows it, not before.
      failsafe.see(
        [session(nodeA, 1, list: 3, knows: first), session(nodeC, 1, knows: second)], in: first)
      #expect(failsafe.consent(against: nil, list: list, at: at(0)) == mayConsent)
      failsafe.see(
        [session(nodeA, 1, list: 3, knows: first), session(nodeC, 2, knows: first)], in: first)
      #expect(failsafe.consent(against: nil, list: list, at: at(0)) == true)
      failsafe.meetStore()
      #expect(failsafe.consent(against: .init(nodeC, value(2)), list: list, at: at(0)) == false)
    }
  }

  @Test("no N members hold while f + 1 of them have consented, whoever promised before")
  func exclusionWhole() {
    // Three members, f = 0 and 1: every order of one promise and one consent by each of the two peers.
    for f in 0...1 {
      for order in 0..<4 {
        let list = members([nodeA, nodeB, nodeC])
        var holder = FailsafeMachine(me: nodeA, tolerance: f, timing: defaults)
        var peers = [
          member(nodeB, sees: [nodeA, nodeC]), member(nodeC, sees: [nodeA, nodeB]),
        ]
        let round = holder.ask(at: at(0))
        var consents = 0
        let against = StoreCall.Watched(nodeA, value(2))
        for i in 0...1 {
          if order & (1 << i) != 0, peers[i].consent(against: against, list: list, at: at(1)) {
            consents += 1
          }
          if peers[i].promise(to: nodeA, list: list, at: at(2)) {
            holder.promised(by: [nodeB, nodeC][i], round: round)
          }
          if peers[i].consent(against: against, list: list, at: at(3)), order & (1 << i) == 0 {
            Issue.record("promised and consented")
          }
        }
        let isHeld = holder.deadline(list: list) != nil
        #expect(!(isHeld && consents >= holder.consentsNeeded(list: list)))
        #expect(isHeld == (consents <= f))
      }
    }
  }
}

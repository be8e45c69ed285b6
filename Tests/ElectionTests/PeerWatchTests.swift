import Election
import Testing

@Suite("Peer watch")
struct PeerWatchTests {
  private func watching(_ sessions: [SessionRecord], at now: Instant = at(0)) -> PeerWatch {
    var watch = PeerWatch(ttl: defaults.ttl)
    _ = watch.see(sessions, at: now)
    return watch
  }

  @Test("a peer is dead one TTL after its value was first seen, to the nanosecond")
  func death() {
    var watch = watching([session(nodeA, 7)])
    _ = watch.see([session(nodeA, 7)], at: at(1400))
    #expect(watch.deadAt(nodeA) == at(1500))
    #expect(!watch.isDead(nodeA, at: Instant(nanoseconds: 1_499_999_999)))
    #expect(watch.isDead(nodeA, at: at(1500)))
    #expect(watch.watched(nodeA) == StoreCall.Watched(nodeA, value(7)))
  }

  @Test("any other value begins the time anew: a counter, another life, missing, back again")
  func renewed() {
    var watch = watching([session(nodeA, 7)])
    var now: Int64 = 0
    for sessions in [[session(nodeA, 8)], [session(nodeA, 8, life: 2)], [], [session(nodeA, 8)]] {
      now += 1000
      _ = watch.see(sessions, at: at(now))
      #expect(watch.deadAt(nodeA) == at(now + 1500))
      #expect(watch.watched(nodeA).value == sessions.first?.value)
    }
  }

  @Test("the time counts from when the peer was heard to send what the store shows")
  func announced() {
    var watch = watching([session(nodeA, 7)])
    watch.heard(life(nodeA), counter: 8, at: at(100))
    // It may never arrive.
    #expect(watch.deadAt(nodeA) == at(1500))
    _ = watch.see([session(nodeA, 8)], at: at(300))
    #expect(watch.deadAt(nodeA) == at(1600) && watch.beatAt(nodeA) == at(100))
    // Of what is seen already, and of what others have overtaken, nothing is to be learned.
    watch.heard(life(nodeA), counter: 8, at: at(400))
    watch.heard(life(nodeA), counter: 9, at: at(500))
    watch.heard(life(nodeA), counter: 8, at: at(550))
    _ = watch.see([session(nodeA, 9)], at: at(600))
    #expect(watch.deadAt(nodeA) == at(2000))
    // One that was on its way for so long that its sender has died meanwhile.
    watch.heard(life(nodeA), counter: 10, at: at(700))
    _ = watch.see([session(nodeA, 10)], at: at(2300))
    #expect(watch.isDead(nodeA, at: at(2300)))
  }

  @Test("what was heard of another heartbeat, life or node counts for nothing")
  func announcedElse() {
    var watch = watching([session(nodeA, 7)])
    watch.heard(life(nodeA), counter: 9, at: at(100))
    watch.heard(life(nodeB), counter: 8, at: at(100))
    _ = watch.see([session(nodeA, 8)], at: at(300))
    #expect(watch.deadAt(nodeA) == at(1800) && watch.deadAt(nodeB) == nil)
    watch.heard(life(nodeA, 2), counter: 1, at: at(400))
    _ = watch.see([session(nodeA, 1, life: 3)], at: at(500))
    #expect(watch.deadAt(nodeA) == at(2000))
    // A session that is missing is none that was heard of.
    _ = watch.see([], at: at(600))
    #expect(watch.deadAt(nodeA) == at(2100))
  }

  @Test("what else a session says does not begin the time anew")
  func sameValue() {
    var watch = watching([session(nodeA, 7)])
    #expect(watch.see([session(nodeA, 7, draining: true, list: 4)], at: at(900)) == true)
    #expect(watch.deadAt(nodeA) == at(1500))
    #expect(watch.session(of: nodeA)?.status.draining == true)
  }

  @Test("who has given the session back is dead at once")
  func released() {
    var watch = watching([session(nodeA, 7)])
    #expect(watch.see([session(nodeA, 7, released: true)], at: at(300)) == true)
    #expect(watch.isDead(nodeA, at: at(300)))
    #expect(watch.alive(at: at(300)).isEmpty)
  }

  @Test("a session that is missing is not alive, and dead only after a TTL of watching")
  func missing() {
    var watch = watching([])
    #expect(watch.deadAt(nodeA) == nil && !watch.isDead(nodeA, at: at(1_000_000)))
    watch.watch(nodeA, at: at(100))
    watch.watch(nodeA, at: at(900))
    #expect(watch.deadAt(nodeA) == at(1600))
    #expect(!watch.isAlive(nodeA, at: at(200)))
    #expect(watch.watched(nodeA) == StoreCall.Watched(nodeA, nil))
    // Of one that was seen, a mention changes nothing.
    _ = watch.see([session(nodeA, 1)], at: at(1000))
    watch.watch(nodeA, at: at(1100))
    #expect(watch.isAlive(nodeA, at: at(1100)))
  }

  @Test("of another store nothing is known")
  func forget() {
    var watch = watching([session(nodeA, 7, released: true)])
    watch.forget()
    #expect(watch.deadAt(nodeA) == nil && watch.session(of: nodeA) == nil)
  }

  @Test("news is what time alone would not bring: not a counter that grows")
  func news() {
    var watch = watching([session(nodeA, 7)])
    let cases: [(SessionRecord?, Bool)] = [
      (session(nodeA, 8), false), (session(nodeA, 8, draining: true), true),
      (session(nodeA, 9, draining: true), false), (session(nodeA, 1, life: 2), true),
      (session(nodeA, 1, life: 2, released: true), true), (nil, true), (nil, false),
      (session(nodeA, 1, life: 2), true),
    ]
    for (i, (seen, isNews)) in cases.enumerated() {
      #expect(watch.see(seen.map { [$0] } ?? [], at: at(Int64(i))) == isNews, "case \(i)")
    }
  }

  @Test("those alive come by name")
  func alive() {
    let watch = watching([
      session(nodeC, 1), session(nodeA, 1), session(nodeB, 1, released: true),
    ])
    #expect(watch.alive(at: at(1)).map(\.node) == [nodeA, nodeC])
  }

  @Test("unhealthy is who has not been well for a while, when somebody else has been for longer")
  func unhealthy() {
    let (illFor, wellFor) = (Duration.seconds(1), Duration.seconds(4))
    var watch = watching([session(nodeA, 1), session(nodeB, 1)])
    func countsAt(after ms: Int64) -> Instant {
      watch.healthCountsAt(after: at(ms), illFor: illFor, wellFor: wellFor)
    }
    func look(_ a: Bool, _ b: Bool, at ms: Int64) {
      _ = watch.see(
        [session(nodeA, UInt64(ms), healthy: a), session(nodeB, UInt64(ms), healthy: b)], at: at(ms)
      )
    }
    func unhealthy(_ ms: Int64) -> [NodeID] {
      watch.unhealthy(at: at(ms), illFor: illFor, wellFor: wellFor)
    }
    #expect(countsAt(after: 0) == .distantFuture)
    look(true, false, at: 5000)
    #expect(unhealthy(5999).isEmpty && unhealthy(6000) == [nodeB])
    #expect(countsAt(after: 5000) == at(6000))
    // Saying it again changes nothing; well again, it counts at once.
    look(true, false, at: 5500)
    #expect(unhealthy(6000) == [nodeB])
    look(true, true, at: 6100)
    #expect(unhealthy(6100).isEmpty)
    // What all depend on fails, for one a little later, and comes back so.
    look(false, true, at: 7000)
    look(false, false, at: 7900)
    #expect([8000, 9000, 20_000].allSatisfy { unhealthy($0).isEmpty })
    look(true, false, at: 20_000)
    #expect(unhealthy(20_999).isEmpty && unhealthy(21_000).isEmpty)
    // They were not seen for so long that they were dead: that is over first.
    #expect(countsAt(after: 20_000) == at(21_000) && countsAt(after: 21_000) == at(24_000))
    #expect(watch.justBack(at: at(20_999), settle: illFor) == [nodeA, nodeB])
    #expect(watch.justBack(at: at(21_000), settle: illFor).isEmpty)
    look(true, true, at: 23_900)
    #expect(unhealthy(24_000).isEmpty)
    look(true, false, at: 24_100)
    #expect(unhealthy(25_099).isEmpty && unhealthy(25_100) == [nodeB])
  }

  @Test(
    "a death changes who is unhealthy: the dead are not, and nobody is when the only one who is well dies"
  )
  func unhealthyAndDead() {
    var watch = watching([session(nodeA, 1), session(nodeB, 1, healthy: false)])
    func unhealthy(_ ms: Int64) -> [NodeID] {
      watch.unhealthy(at: at(ms), illFor: .seconds(1), wellFor: .seconds(1))
    }
    #expect(unhealthy(1000) == [nodeB])
    _ = watch.see([session(nodeA, 1), session(nodeB, 2, healthy: false)], at: at(1200))
    #expect(unhealthy(1600).isEmpty)
    #expect(
      watching([session(nodeB, 1, healthy: false)])
        .unhealthy(at: at(1200), illFor: .zero, wellFor: .zero).isEmpty)
    _ = watch.see([session(nodeA, 2), session(nodeB, 2, healthy: false)], at: at(1700))
    #expect(unhealthy(1800) == [nodeB])
    #expect(unhealthy(2700).isEmpty)
  }
}

import Testing

@testable import RedisLink

@Suite struct SentinelDecisions {
  private static let ms: UInt64 = 1_000_000
  private let ms = SentinelDecisions.ms
  private let a = RedisAddress(host: "a", port: 1)
  private let b = RedisAddress(host: "b", port: 1)

  private func machine(_ count: Int = 3, seed: UInt64 = 1) -> SentinelMachine {
    SentinelMachine(
      RedisSentinels((0..<count).map { RedisAddress(host: "s\($0)", port: 26379) }, master: "m"),
      timing: SentinelMachine.Timing(
        answerTimeout: 300 * ms, backOffFirst: 50 * ms, backOffMost: 2000 * ms,
        pingAfter: 500 * ms, pingTimeout: 200 * ms),
      seed: seed)
  }

  /// A machine whose sentinels all listen since 0 and hold `a` for the master.
  private func listening(_ count: Int = 3) -> SentinelMachine {
    var machine = machine(count)
    _ = machine.step(.start, at: 0)
    for index in 0..<count {
      #expect(machine.step(.connected(index), at: 0) == [.greet(index)])
      _ = machine.step(.answered(index, .master(a)), at: 0)
      #expect(machine.step(.listening(index), at: 0) == [])
    }
    return machine
  }

  /// The same, with the link at `a`.
  private func settled(_ count: Int = 3) -> SentinelMachine {
    var machine = listening(count)
    _ = machine.step(.find(avoiding: nil), at: ms)
    #expect(machine.step(.answered(0, .master(a)), at: ms) == [.found(a)])
    for index in 0..<count {
      _ = machine.step(.answered(index, .master(a)), at: ms)
      _ = machine.step(.listening(index), at: ms)
    }
    return machine
  }

  @Test("all sentinels are asked at once, and the first usable answer ends the search")
  func first() {
    var machine = listening()
    #expect(machine.step(.find(avoiding: nil), at: ms) == [.ask(0), .ask(1), .ask(2)])
    #expect(machine.step(.answered(1, .unknownName), at: ms) == [])
    #expect(machine.step(.answered(2, .master(b)), at: ms) == [.found(b)])
    #expect(machine.step(.answered(0, .master(b)), at: ms) == [])
  }

  @Test("what was just found wanting is taken only when nobody names another, however late")
  func avoided() {
    var machine = listening()
    _ = machine.step(.find(avoiding: a), at: ms)
    #expect(machine.step(.answered(0, .master(a)), at: ms) == [])
    #expect(machine.step(.answered(1, .master(a)), at: ms) == [])
    for index in 0..<2 { _ = machine.step(.listening(index), at: ms) }
    var other = machine
    #expect(other.step(.answered(2, .master(b)), at: ms) == [.found(b)])
    #expect(machine.step(.wake, at: 301 * ms) == [.disconnect(2, .timeout), .found(a)])
    var switched = listening()
    _ = switched.step(.find(avoiding: a), at: ms)
    #expect(switched.step(.switched(1, to: a), at: ms) == [.found(a)])
  }

  @Test("when none can tell, the search ends with why: the name, or that none answers")
  func lost() {
    var machine = listening(2)
    _ = machine.step(.find(avoiding: nil), at: ms)
    _ = machine.step(.answered(0, .unknownName), at: ms)
    guard case .lost(.noMaster(let why)) = machine.step(.failed(1, .closedByPeer), at: ms).last
    else {
      Issue.record("not lost")
      return
    }
    #expect(why.contains("\"m\""))
    _ = machine.step(.find(avoiding: nil), at: 2 * ms)
    _ = machine.step(.failed(0, .closedByPeer), at: 2 * ms)
    guard case .lost(.noMaster(let none)) = machine.step(.failed(1, .timeout), at: 2 * ms).last
    else {
      Issue.record("not lost")
      return
    }
    #expect(none.contains("none of the 2 sentinels answers") && none.contains("s0:26379"))
  }

  @Test("of several reasons the one of a sentinel that was reached is told")
  func refusal() {
    var machine = machine(2)
    _ = machine.step(.start, at: 0)
    _ = machine.step(.find(avoiding: nil), at: 0)
    _ = machine.step(.failed(0, .closedByPeer), at: 0)
    let refused = RedisFailure.refused(RedisServerError(message: "WRONGPASS invalid"))
    guard case .lost(.noMaster(let why)) = machine.step(.failed(1, refused), at: 0).last else {
      Issue.record("not lost")
      return
    }
    #expect(why.contains("s1:26379: the server refused us: WRONGPASS") && why.contains("correct"))
  }

  @Test("a switch is followed at the first word of it, once")
  func follow() {
    var machine = settled()
    #expect(machine.step(.switched(2, to: b), at: 2 * ms) == [.follow(b)])
    #expect(machine.step(.aim(b), at: 2 * ms) == [])
    #expect(machine.step(.switched(0, to: b), at: 3 * ms) == [])
    #expect(machine.step(.switched(1, to: b), at: 4 * ms) == [])
  }

  @Test("a sentinel that comes back with another master moves a link only with most of them")
  func stale() {
    var machine = settled()
    for index in 0..<2 {
      _ = machine.step(.failed(index, .closedByPeer), at: 2 * ms)
      let at = machine.wakeAt(index)
      #expect(machine.step(.wake, at: at) == [.connect(index)])
      _ = machine.step(.connected(index), at: at)
      #expect(
        machine.step(.answered(index, .master(b)), at: at) == (index == 0 ? [] : [.follow(b)]))
      _ = machine.step(.listening(index), at: at)
    }
  }

  @Test("a search that begins between answer and confirmation asks that sentinel again")
  func between() {
    var machine = machine(1)
    _ = machine.step(.start, at: 0)
    _ = machine.step(.connected(0), at: 0)
    _ = machine.step(.answered(0, .master(a)), at: 0)
    #expect(machine.step(.find(avoiding: nil), at: ms) == [])
    #expect(machine.step(.listening(0), at: ms) == [.ask(0)])
    #expect(machine.step(.answered(0, .master(b)), at: ms) == [.found(b)])
  }

  @Test("a sentinel that is lost is tried with growing pauses that differ, without end")
  func backOff() {
    for seed in 1...50 as ClosedRange<UInt64> {
      var machine = machine(1, seed: seed)
      _ = machine.step(.start, at: 0)
      var now: UInt64 = 0
      for whole in [50, 100, 200, 400, 800, 1600, 2000, 2000] as [UInt64] {
        #expect(machine.step(.failed(0, .closedByPeer), at: now) == [.disconnect(0, .closedByPeer)])
        let pause = machine.wakeAt - now
        #expect(pause >= whole / 2 * ms && pause <= whole * ms)
        now = machine.wakeAt
        #expect(machine.step(.wake, at: now) == [.connect(0)])
      }
    }
  }

  @Test("every sequence of events: a search ends once, connects and disconnects take turns")
  func exhaustive() {
    let events: [SentinelMachine.Event] = [
      .start, .find(avoiding: nil), .find(avoiding: a), .giveUp, .aim(b), .connected(0),
      .answered(0, .master(a)), .answered(0, .unknownName), .listening(0), .switched(1, to: b),
      .failed(0, .closedByPeer), .failed(1, .closedByPeer), .wake, .close,
    ]
    var sequences = 0
    func walk(
      _ machine: SentinelMachine, now: UInt64, depth: Int, connected: Set<Int>, searching: Bool
    ) {
      sequences += 1
      if depth == 0 { return }
      for event in events {
        // A loop starts once, and hears only from those it is connected to.
        if event == .start, sequences > 1, now > 0 { continue }
        if case .switched(let index, _) = event, !connected.contains(index) { continue }
        var machine = machine
        let next = event == .wake && machine.wakeAt < .max ? machine.wakeAt : now + 1
        var connected = connected
        var searching = searching
        switch event {
        case .find: searching = true
        case .giveUp, .aim, .close: searching = false
        default: break
        }
        for directive in machine.step(event, at: next) {
          switch directive {
          case .connect(let index):
            if !connected.insert(index).inserted { Issue.record("connect twice: \(event)") }
          case .disconnect(let index, _):
            if connected.remove(index) == nil { Issue.record("disconnect of nothing: \(event)") }
          case .greet(let index), .ask(let index), .ping(let index):
            if !connected.contains(index) { Issue.record("\(directive) to nobody") }
          case .found, .lost:
            if !searching { Issue.record("\(directive) without a search: \(event)") }
            searching = false
          case .follow:
            if searching { Issue.record("follow within a search: \(event)") }
          }
        }
        if event == .close, !connected.isEmpty { Issue.record("left open") }
        walk(machine, now: next, depth: depth - 1, connected: connected, searching: searching)
      }
    }
    walk(machine(2), now: 0, depth: 5, connected: [], searching: false)
    #expect(sequences > 200_000)
  }
}

@Suite struct SentinelSpeech {
  private let place = RedisSentinels(
    [RedisAddress(host: "s", port: 1)], master: "m", user: "u", password: "p")

  private func text(_ words: String...) -> RedisValue {
    .array(words.map { .bytes(Array($0.utf8)) })
  }

  @Test("greeting, question and confirmations are matched in order, switches between any of them")
  func order() throws {
    var talk = SentinelTalk(place)
    let greeting = String(decoding: talk.greet(), as: UTF8.self)
    #expect(greeting.contains("AUTH") && greeting.contains("SUBSCRIBE"))
    let switched = text("message", "+switch-master", "m 1.1.1.1 1 2.2.2.2 2")
    let two = RedisAddress(host: "2.2.2.2", port: 2)
    #expect(try talk.hear(.status("OK")) == nil)
    #expect(
      try talk.hear(text("1.1.1.1", "1"))
        == .answered(.master(RedisAddress(host: "1.1.1.1", port: 1))))
    #expect(try talk.hear(text("subscribe", "+switch-master", "1")) == .listening)
    _ = talk.askAgain()
    #expect(try talk.hear(switched) == .switched(to: two))
    #expect(try talk.hear(text("message", "+switch-master", "other 1.1.1.1 1 3 3")) == nil)
    #expect(try talk.hear(text("unsubscribe", "+switch-master", "0")) == nil)
    #expect(try talk.hear(.null) == .answered(.unknownName))
    #expect(try talk.hear(text("subscribe", "+switch-master", "1")) == .listening)
    _ = talk.ping()
    #expect(try talk.hear(text("pong", "")) == nil)
    #expect(throws: RedisFailure.self) { try talk.hear(text("pong", "")) }
  }

  @Test("what is no answer, or names no usable address, ends the connection")
  func refused() {
    for bad in [
      text("h", "0"), text("h", "70000"), text("", "1"), text("a b", "1"), text("h"),
      .integer(1), .status("OK"), text("message", "+switch-master", "m h 1"),
      text("message", "+switch-master", "m h 1 h x"), .error(RedisServerError(message: "ERR")),
    ] {
      var talk = SentinelTalk(RedisSentinels(place.addresses, master: "m"))
      _ = talk.greet()
      #expect(throws: RedisFailure.self, "\(bad)") { try talk.hear(bad) }
    }
  }
}

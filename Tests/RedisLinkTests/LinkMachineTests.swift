import Testing

@testable import RedisLink

@Suite struct Machine {
  private static let ms: UInt64 = 1_000_000
  private let ms = Machine.ms
  private let timing = LinkMachine.Timing(
    connectTimeout: 1000 * ms, backOffFirst: 50 * ms, backOffMost: 2000 * ms, pingAfter: 500 * ms,
    pingTimeout: 200 * ms)

  private func machine(seed: UInt64 = 1) -> LinkMachine { LinkMachine(timing: timing, seed: seed) }

  /// A machine that is up since 10 ms.
  private func risen() -> LinkMachine {
    var machine = machine()
    #expect(machine.step(.start, at: 0) == [.connect(attempt: 0)])
    #expect(machine.step(.connected, at: 5 * ms) == [.greet])
    #expect(machine.step(.greeted, at: 10 * ms) == [.report(.up(since: 10 * ms, generation: 1))])
    return machine
  }

  @Test("the pauses double up to the longest, and of each only the second half is random")
  func backOff() {
    for seed in 1...200 as ClosedRange<UInt64> {
      var machine = machine(seed: seed)
      _ = machine.step(.start, at: 0)
      var now: UInt64 = 0
      for whole in [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000] as [UInt64] {
        _ = machine.step(.failed(.closedByPeer), at: now)
        let pause = machine.wakeAt - now
        #expect(pause >= whole / 2 * ms && pause <= whole * ms)
        #expect(machine.step(.wake(busy: false), at: machine.wakeAt - 1) == [])
        now = machine.wakeAt
        #expect(machine.step(.wake(busy: false), at: now).count == 1)
      }
    }
  }

  @Test("two processes do not pause alike, not even after the first failure")
  func jitter() {
    let pauses = (1...50 as ClosedRange<UInt64>).map { seed in
      var machine = machine(seed: seed)
      _ = machine.step(.start, at: 0)
      _ = machine.step(.failed(.closedByPeer), at: 0)
      return machine.wakeAt
    }
    #expect(Set(pauses).count == 50)
  }

  @Test("an attempt that gets nowhere, or is not let in, is given up at the connect timeout")
  func connectTimeout() {
    for isConnected in [false, true] {
      var machine = machine()
      _ = machine.step(.start, at: 0)
      if isConnected { _ = machine.step(.connected, at: 600 * ms) }
      #expect(machine.wakeAt == 1000 * ms)
      #expect(
        machine.step(.wake(busy: false), at: 1000 * ms) == [
          .disconnect(.timeout), .report(.down(.timeout, since: 0, attempts: 1)),
        ])
    }
  }

  @Test("a silent connection is asked, and given up when nothing is heard in time")
  func halfOpen() {
    var machine = risen()
    #expect(machine.wakeAt == 510 * ms)
    #expect(machine.step(.wake(busy: false), at: 510 * ms) == [.ping])
    #expect(machine.wakeAt == 710 * ms)
    #expect(machine.step(.wake(busy: false), at: 709 * ms) == [])
    #expect(
      machine.step(.wake(busy: false), at: 710 * ms) == [
        .disconnect(.timeout), .report(.down(.timeout, since: 710 * ms, attempts: 0)),
      ])
  }

  @Test("anything heard answers the question")
  func heard() {
    var machine = risen()
    _ = machine.step(.wake(busy: false), at: 510 * ms)
    #expect(machine.step(.heard, at: 600 * ms) == [])
    #expect(machine.step(.wake(busy: false), at: 710 * ms) == [])
    #expect(machine.wakeAt == 1100 * ms)
  }

  @Test("while a command is owed its reply no question is asked: its timeout is the judge")
  func busy() {
    var machine = risen()
    #expect(machine.step(.wake(busy: true), at: 510 * ms) == [])
    #expect(machine.wakeAt == 1010 * ms)
    #expect(machine.step(.wake(busy: false), at: 1010 * ms) == [.ping])
  }

  @Test(
    "a connection that comes and goes is tried with growing pauses, one that lasted with the first")
  func flapping() {
    var machine = machine()
    var now: UInt64 = 0
    _ = machine.step(.start, at: now)
    for whole in [50, 100, 200, 400] as [UInt64] {
      _ = machine.step(.connected, at: now)
      _ = machine.step(.greeted, at: now)
      _ = machine.step(.failed(.closedByPeer), at: now + ms)
      #expect(machine.wakeAt - now - ms >= whole / 2 * ms)
      now = machine.wakeAt
      _ = machine.step(.wake(busy: false), at: now)
    }
    _ = machine.step(.connected, at: now)
    _ = machine.step(.greeted, at: now)
    now += 2000 * ms
    _ = machine.step(.failed(.closedByPeer), at: now)
    #expect(machine.wakeAt - now <= 50 * ms)
  }

  @Test("a link that is sent elsewhere goes at once, but not again and again without a pause")
  func moved() {
    var machine = risen()
    #expect(
      machine.step(.moved, at: 100 * ms) == [
        .disconnect(.moved), .report(.down(.moved, since: 100 * ms, attempts: 0)),
        .connect(attempt: 0),
      ])
    // On its way, and soon after.
    #expect(machine.step(.moved, at: 120 * ms).last.map { $0 != .connect(attempt: 0) } == true)
    #expect(machine.step(.moved, at: 121 * ms) == [])
    #expect(machine.wakeAt > 140 * ms && machine.wakeAt <= 170 * ms)
    // From rest, without having been sent a moment ago.
    var resting = risen()
    _ = resting.step(.failed(.closedByPeer), at: 100 * ms)
    #expect(resting.step(.moved, at: 101 * ms) == [.connect(attempt: 0)])
  }

  @Test("down says since when, why last, and after how many attempts")
  func report() {
    var machine = risen()
    #expect(
      machine.step(.failed(.closedByPeer), at: 100 * ms).last
        == .report(.down(.closedByPeer, since: 100 * ms, attempts: 0)))
    let retryAt = machine.wakeAt
    _ = machine.step(.wake(busy: false), at: retryAt)
    #expect(
      machine.step(.failed(.notYetConnected), at: retryAt + ms).last
        == .report(.down(.notYetConnected, since: 100 * ms, attempts: 1)))
  }

  @Test(
    "every sequence of events keeps connects and disconnects in turn, and nothing follows a close")
  func exhaustive() {
    let events: [LinkMachine.Event] = [
      .start, .connected, .greeted, .heard, .failed(.closedByPeer), .wake(busy: false),
      .wake(busy: true), .moved, .close,
    ]
    var sequences = 0
    func walk(_ machine: LinkMachine, now: UInt64, depth: Int, connected: Bool, closed: Bool) {
      sequences += 1
      if depth == 0 { return }
      for event in events {
        var machine = machine
        // To the next deadline, so that a wake means something.
        let next = event == .wake(busy: false) && machine.wakeAt < .max ? machine.wakeAt : now + 1
        var connected = connected
        var closed = closed
        for directive in machine.step(event, at: next) {
          if closed { Issue.record("\(directive) after close") }
          switch directive {
          case .connect:
            if connected { Issue.record("connect twice") }
            connected = true
          case .disconnect:
            if !connected { Issue.record("disconnect of nothing") }
            connected = false
          case .greet, .ping:
            if !connected { Issue.record("\(directive) to nobody") }
          case .report(.closed): closed = true
          case .report(let state):
            if state.isUp != connected { Issue.record("\(state) reported") }
          }
        }
        walk(machine, now: next, depth: depth - 1, connected: connected, closed: closed)
      }
    }
    walk(machine(), now: 0, depth: 6, connected: false, closed: false)
    #expect(
      sequences == (0...6).reduce(0) { sum, power in sum + (0..<power).reduce(1) { n, _ in n * 9 } }
    )
  }
}

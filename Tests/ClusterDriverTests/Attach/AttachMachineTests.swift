import Testing

@testable import ClusterDriver

@Suite("Attach machine")
struct AttachMachineTests {
  static let t0 = Moment(uptime: .now, utcMs: 1_700_000_000_000)

  static func at(_ offset: Duration) -> Moment {
    Moment(uptime: Self.t0.uptime.advanced(by: offset), utcMs: Self.t0.utcMs)
  }

  /// Steps to the end of the wait the machine asked for.
  static func waited(_ machine: inout AttachMachine, from now: Moment) -> (Duration, Moment)? {
    guard case .waiting(let until) = machine.state else { return nil }
    let later = Moment(uptime: until, utcMs: now.utcMs)
    _ = machine.step(.wake, at: later)
    return (until - now.uptime, later)
  }

  @Test("failures back off, doubled and jittered up to the maximum, and are reported once")
  func backoff() throws {
    var machine = AttachMachine(seed: 1)
    #expect(machine.step(.start, at: Self.t0) == [.open(attempt: 1)])
    var now = Self.t0
    var reports = 0
    for attempt in 1...12 {
      let directives = machine.step(
        .ended(attempt: UInt64(attempt), .broken("refused")), at: now)
      reports += directives.contains(.reportDown(.broken("refused"))) ? 1 : 0
      let (wait, later) = try #require(Self.waited(&machine, from: now))
      let full = min(Duration.milliseconds(100) * (1 << (attempt - 1)), .milliseconds(500))
      #expect(wait >= full / 2 && wait <= full)
      now = later
      #expect(machine.state == .opening(attempt: UInt64(attempt + 1)))
    }
    #expect(reports == 1)
    #expect(machine.down?.since == Self.t0)
    #expect(machine.step(.opened(attempt: 13), at: now) == [.reportUp])
    #expect(machine.down == nil)
  }

  @Test("a stream that was acknowledged on begins the back-off anew; one that only opened does not")
  func proving() throws {
    var machine = AttachMachine(seed: 1)
    _ = machine.step(.start, at: Self.t0)
    var now = Self.t0
    for attempt in 1...6 {
      _ = machine.step(.opened(attempt: UInt64(attempt)), at: now)
      _ = machine.step(.ended(attempt: UInt64(attempt), .broken("reset")), at: now)
      now = try #require(Self.waited(&machine, from: now)).1
    }
    #expect(machine.failures == 6)
    _ = machine.step(.opened(attempt: 7), at: now)
    _ = machine.step(.acknowledged(attempt: 7), at: now)
    _ = machine.step(.ended(attempt: 7, .broken("reset")), at: now)
    #expect(machine.failures == 1)
    #expect(try #require(Self.waited(&machine, from: now)).0 <= .milliseconds(100))
  }

  @Test("a broken protocol is answered with distance from the first time, and always reported")
  func violation() throws {
    var machine = AttachMachine(seed: 1)
    _ = machine.step(.start, at: Self.t0)
    _ = machine.step(.opened(attempt: 1), at: Self.t0)
    let ending = AttachMachine.Ending.violation("acknowledged 9 of 3")
    #expect(
      machine.step(.ended(attempt: 1, ending), at: Self.t0).first == .reportDown(ending))
    #expect(try #require(Self.waited(&machine, from: Self.t0)).0 >= .seconds(1))
  }

  @Test("what comes of an attempt that is over changes nothing")
  func stale() {
    var machine = AttachMachine(seed: 1)
    _ = machine.step(.start, at: Self.t0)
    _ = machine.step(.ended(attempt: 1, .broken("x")), at: Self.t0)
    _ = machine.step(.wake, at: Self.at(.seconds(1)))
    #expect(machine.state == .opening(attempt: 2))
    #expect(machine.step(.opened(attempt: 1), at: Self.at(.seconds(1))) == [])
    #expect(machine.step(.ended(attempt: 1, .broken("y")), at: Self.at(.seconds(1))) == [])
    #expect(machine.state == .opening(attempt: 2))
  }

  private static let symbols: [AttachMachine.Event] = [
    .start, .wake, .stop, .opened(attempt: 1), .opened(attempt: 2), .acknowledged(attempt: 1),
    .ended(attempt: 1, .broken("b")), .ended(attempt: 2, .violation("v")),
  ]

  @Test("in every sequence: one attempt at a time, numbered upwards, and none after stop")
  func exhaustive() {
    var failures: [String] = []
    func explore(
      _ machine: AttachMachine, opened: UInt64, stopped: Bool, at now: Duration, depth: Int
    ) {
      guard depth > 0, failures.isEmpty else { return }
      for symbol in Self.symbols {
        var next = machine
        let later = now + .seconds(3)
        var opened = opened
        var isStopped = stopped
        if case .stop = symbol { isStopped = true }
        for case .open(let attempt) in next.step(symbol, at: Self.at(later)) {
          if stopped { failures.append("opened after stop") }
          if attempt != opened + 1 { failures.append("attempt \(attempt) after \(opened)") }
          if next.state != .opening(attempt: attempt) { failures.append("not opening") }
          opened = attempt
        }
        if isStopped && next.state != .stopped { failures.append("goes on after stop") }
        explore(next, opened: opened, stopped: isStopped, at: later, depth: depth - 1)
      }
    }
    explore(AttachMachine(seed: 1), opened: 0, stopped: false, at: .zero, depth: 6)
    #expect(failures == [])
  }
}

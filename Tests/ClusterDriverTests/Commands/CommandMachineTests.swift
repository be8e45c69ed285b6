import Testing

@testable import ClusterDriver

@Suite("Command machine")
struct CommandMachineTests {
  static let t0 = Moment(uptime: .now, utcMs: 1_700_000_000_000)

  static func at(_ offset: Duration) -> Moment {
    Moment(
      uptime: Self.t0.uptime.advanced(by: offset),
      utcMs: Self.t0.utcMs + offset.microseconds / 1000)
  }

  static func command(
    _ id: UInt64, serial: UInt64 = 42, notAfter: Duration? = nil
  ) -> ControllerCommand {
    ControllerCommand(
      id: CommandID(high: 1, low: id), serial: serial, lane: 1,
      notAfterMs: notAfter.map { Self.at($0).utcMs } ?? 0, code: 6, body: [])
  }

  static func results(_ directives: [CommandMachine.Directive]) -> [FinishedCommand] {
    directives.compactMap { if case .finish(let result) = $0 { result } else { nil } }
  }

  static func posts(_ directives: [CommandMachine.Directive]) -> [CommandID] {
    directives.compactMap { if case .post(let command) = $0 { command.id } else { nil } }
  }

  static let done = CommandMachine.Event.result(
    CommandID(high: 1, low: 1), status: .done, reason: 0, index: 0, body: [7])

  @Test("a command that is sent and answered ends in the controller's result")
  func plain() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let command = Self.command(1)
    #expect(machine.step(.taken(command, .attach), at: Self.t0) == [.post(command)])
    #expect(machine.step(.sent(command.id, connection: 5), at: Self.t0) == [])
    let results = Self.results(machine.step(Self.done, at: Self.at(.milliseconds(3))))
    #expect(results.map(\.status) == [.done])
    #expect(results.first?.body == [7])
    #expect(results.first?.elapsedUs == 3000)
    #expect(machine.isIdle)
  }

  @Test("an id given again joins the one that runs, and later has the same result delivered again")
  func repeated() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    _ = machine.step(.taken(Self.command(1), .attach), at: Self.t0)
    #expect(machine.step(.taken(Self.command(1), .attach), at: Self.t0) == [])
    let result = Self.results(machine.step(Self.done, at: Self.t0))[0]
    #expect(machine.step(.taken(Self.command(1), .attach), at: Self.t0) == [.deliverAgain(result)])
    #expect(
      machine.step(.unacceptable(result.id, serial: 42, .admin, detail: "x"), at: Self.t0)
        == [.deliverAgain(result)])
  }

  @Test("a controller that nobody has seen is offline at once")
  func unknown() {
    var machine = CommandMachine()
    let command = Self.command(1)
    _ = machine.step(.taken(command, .attach), at: Self.t0)
    let results = Self.results(machine.step(.notPosted(command.id, .notConnected), at: Self.t0))
    #expect(results.map(\.status) == [.offline])
    #expect(results.first?.detail == CommandDetail.notConnected)
  }

  @Test("one that left a moment ago is waited for within the grace")
  func grace() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    _ = machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0)
    let command = Self.command(1)
    _ = machine.step(.taken(command, .attach), at: Self.at(.seconds(1)))
    #expect(
      machine.step(.notPosted(command.id, .notConnected), at: Self.at(.seconds(1))) == [])
    #expect(machine.step(.tick, at: Self.at(.milliseconds(1900))) == [])
    var back = machine
    #expect(
      back.step(.connected(serial: 42, connection: 6), at: Self.at(.milliseconds(1900)))
        == [.post(command)])
    let results = Self.results(machine.step(.tick, at: Self.at(.seconds(2))))
    #expect(results.map(\.status) == [.offline])
  }

  @Test("a session that ends after sent: the same id goes to the next session")
  func reposted() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let command = Self.command(1)
    _ = machine.step(.taken(command, .attach), at: Self.t0)
    _ = machine.step(.sent(command.id, connection: 5), at: Self.t0)
    #expect(machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0) == [])
    #expect(
      machine.step(.connected(serial: 42, connection: 6), at: Self.at(.seconds(20)))
        == [.post(command)])
  }

  @Test("a newer session that came before the end of the older was known gets it at once")
  func superseded() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let command = Self.command(1)
    _ = machine.step(.taken(command, .attach), at: Self.t0)
    _ = machine.step(.sent(command.id, connection: 5), at: Self.t0)
    #expect(machine.step(.connected(serial: 42, connection: 6), at: Self.t0) == [])
    #expect(
      machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0) == [.post(command)])
    _ = machine.step(.sent(command.id, connection: 6), at: Self.t0)
    #expect(Self.results(machine.step(Self.done, at: Self.t0)).count == 1)
  }

  @Test("a command that was sent and never answered is offline, and is never called expired")
  func neverAnswered() {
    for notAfter in [Duration.seconds(5), nil] {
      var machine = CommandMachine()
      _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
      let command = Self.command(1, notAfter: notAfter)
      _ = machine.step(.taken(command, .attach), at: Self.t0)
      _ = machine.step(.sent(command.id, connection: 5), at: Self.t0)
      _ = machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0)
      let early = machine.step(.tick, at: Self.at((notAfter ?? .seconds(30)) - .seconds(1)))
      #expect(early == [])
      let results = Self.results(machine.step(.tick, at: Self.at(notAfter ?? .seconds(30))))
      #expect(results.map(\.status) == [.offline])
      #expect(results.first?.detail == CommandDetail.noAnswer)
    }
  }

  @Test("a command that comes after its deadline may have been carried out: the controller says")
  func past() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    var command = Self.command(1)
    command.notAfterMs = Self.t0.utcMs
    #expect(machine.step(.taken(command, .attach), at: Self.t0) == [.post(command)])
    command.notAfterMs = ControllerCommand.notAfterPast
    #expect(machine.step(.expired(command.id), at: Self.t0) == [.post(command)])
    _ = machine.step(.sent(command.id, connection: 5), at: Self.t0)
    #expect(Self.results(machine.step(Self.done, at: Self.t0)).map(\.status) == [.done])
  }

  @Test("late, and no controller to ask: offline, which does not say that it was not carried out")
  func pastAndAway() {
    var machine = CommandMachine()
    var command = Self.command(1)
    command.notAfterMs = Self.t0.utcMs
    _ = machine.step(.taken(command, .attach), at: Self.t0)
    let results = Self.results(machine.step(.notPosted(command.id, .notConnected), at: Self.t0))
    #expect(results.map(\.status) == [.offline])
    #expect(results.first?.detail == CommandDetail.notAsked)
  }

  @Test("a command that came in time and was not sent by its deadline is expired")
  func expired() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let command = Self.command(1, notAfter: .seconds(1))
    _ = machine.step(.taken(command, .attach), at: Self.t0)
    let results = Self.results(machine.step(.expired(command.id), at: Self.at(.seconds(1))))
    #expect(results.map(\.status) == [.expired])
  }

  @Test("while older commands wait for a controller, new ones wait behind them")
  func order() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    _ = machine.step(.taken(Self.command(1), .attach), at: Self.t0)
    _ = machine.step(.sent(Self.command(1).id, connection: 5), at: Self.t0)
    _ = machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0)
    #expect(machine.step(.taken(Self.command(2), .attach), at: Self.t0) == [])
    #expect(machine.step(.taken(Self.command(3), .attach), at: Self.t0) == [])
    let directives = machine.step(.connected(serial: 42, connection: 6), at: Self.t0)
    #expect(Self.posts(directives).map(\.low) == [1, 2, 3])
  }

  @Test("limits, in all and for one controller, refuse with too_many_pending")
  func limits() {
    var settings = CommandMachine.Settings()
    settings.pendingMax = 3
    settings.pendingPerControllerMax = 2
    var machine = CommandMachine(settings: settings)
    for id in 1...2 { _ = machine.step(.taken(Self.command(UInt64(id)), .attach), at: Self.t0) }
    let third = Self.results(machine.step(.taken(Self.command(3), .attach), at: Self.t0))
    #expect(third.map(\.reason) == [DriverReason.tooManyPending])
    _ = machine.step(.taken(Self.command(4, serial: 43), .attach), at: Self.t0)
    let fifth = Self.results(
      machine.step(.taken(Self.command(5, serial: 44), .attach), at: Self.t0))
    #expect(fifth.map(\.detail) == [CommandDetail.tooManyOnNode])
    let full = Self.results(
      machine.step(.notPosted(Self.command(4).id, .queueFull), at: Self.t0))
    #expect(full.map(\.reason) == [DriverReason.tooManyPending])
  }

  @Test("stopping refuses what was not sent, takes nothing new, and waits for answers")
  func stop() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    _ = machine.step(.taken(Self.command(1), .attach), at: Self.t0)
    _ = machine.step(.sent(Self.command(1).id, connection: 5), at: Self.t0)
    _ = machine.step(.connected(serial: 43, connection: 7), at: Self.t0)
    _ = machine.step(.disconnected(serial: 43, connection: 7), at: Self.t0)
    _ = machine.step(.taken(Self.command(2, serial: 43), .attach), at: Self.t0)
    _ = machine.step(.notPosted(Self.command(2).id, .notConnected), at: Self.t0)
    let stopped = Self.results(machine.step(.stop, at: Self.t0))
    #expect(stopped.map(\.id.low) == [2])
    #expect(stopped.map(\.reason) == [DriverReason.stopping])
    #expect(
      Self.results(machine.step(.taken(Self.command(3), .attach), at: Self.t0)).map(\.reason)
        == [DriverReason.stopping])
    #expect(!machine.isIdle)
    #expect(Self.results(machine.step(Self.done, at: Self.t0)).map(\.status) == [.done])
    #expect(machine.isIdle)
  }

  @Test("recent results are bounded by number and by age")
  func recent() {
    var recent = RecentResults(max: 2, keep: .seconds(10))
    func result(_ id: UInt64) -> FinishedCommand {
      FinishedCommand(
        id: CommandID(high: 0, low: id), serial: 1, door: .admin, status: .done, atMs: 0,
        elapsedUs: 0)
    }
    for id in 1...3 { recent.insert(result(UInt64(id)), at: Self.t0.uptime) }
    #expect(recent.count == 2)
    #expect(recent.result(of: CommandID(high: 0, low: 1)) == nil)
    #expect(recent.result(of: CommandID(high: 0, low: 3)) == result(3))
    recent.insert(result(4), at: Self.at(.seconds(10)).uptime)
    #expect(recent.count == 1)
  }

  @Test("an answer to a command nobody knows is counted and nothing else")
  func unknownResult() {
    var machine = CommandMachine()
    #expect(machine.step(Self.done, at: Self.t0) == [])
    #expect(machine.unknownResults == 1)
  }

  @Test("a letter that would be offline, or refused for want of room, goes back without a result")
  func letters() {
    var machine = CommandMachine(settings: .init(pendingPerControllerMax: 1))
    let first = Self.command(1)
    _ = machine.step(.taken(first, .mailbox), at: Self.t0)
    #expect(
      machine.step(.notPosted(first.id, .notConnected), at: Self.t0) == [.putBack(first.id)])
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    #expect(machine.step(.taken(first, .mailbox), at: Self.t0) == [.post(first)])
    let second = Self.command(2)
    #expect(machine.step(.taken(second, .mailbox), at: Self.t0) == [.putBack(second.id)])
    _ = machine.step(.sent(first.id, connection: 5), at: Self.t0)
    _ = machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0)
    #expect(machine.step(.tick, at: Self.at(.seconds(31))) == [.putBack(first.id)])
    #expect(machine.isIdle && machine.finished == 0)
    _ = machine.step(.stop, at: Self.at(.seconds(31)))
    #expect(
      machine.step(.taken(first, .mailbox), at: Self.at(.seconds(31))) == [.putBack(first.id)])
  }

  @Test(
    "a step that cannot be carried out goes back, soon even if it was sent; its result is not kept")
  func steps() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let step = Self.command(1)
    #expect(machine.step(.taken(step, .sequence), at: Self.t0) == [.post(step)])
    _ = machine.step(.sent(step.id, connection: 5), at: Self.t0)
    #expect(machine.step(.disconnected(serial: 42, connection: 5), at: Self.t0) == [])
    #expect(machine.step(.tick, at: Self.at(.seconds(2))) == [.putBack(step.id)])
    #expect(machine.step(.taken(step, .sequence), at: Self.at(.seconds(3))) == [.post(step)])
    let failed = machine.step(.notPosted(step.id, .notConnected), at: Self.at(.seconds(3)))
    #expect(failed == [.putBack(step.id)])
    _ = machine.step(.connected(serial: 42, connection: 6), at: Self.at(.seconds(3)))
    for _ in 0..<2 {
      #expect(machine.step(.taken(step, .sequence), at: Self.at(.seconds(3))) == [.post(step)])
      _ = machine.step(.sent(step.id, connection: 6), at: Self.at(.seconds(3)))
      let results = Self.results(machine.step(Self.done, at: Self.at(.seconds(3))))
      #expect(results.map(\.door) == [.sequence])
    }
    #expect(machine.isIdle && machine.taken == 0 && machine.finished == 0)
    _ = machine.step(.stop, at: Self.at(.seconds(4)))
    #expect(machine.step(.taken(step, .sequence), at: Self.at(.seconds(4))) == [.putBack(step.id)])
  }

  @Test("letters that wait behind one that goes back go with it, and overtake nothing")
  func lettersBehind() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    let ids = (1...3 as ClosedRange<UInt64>).map { Self.command($0) }
    _ = machine.step(.taken(ids[0], .mailbox), at: Self.t0)
    #expect(machine.step(.notPosted(ids[0].id, .queueFull), at: Self.t0) == [])
    for (place, letter) in ids.enumerated().dropFirst() {
      #expect(machine.step(.taken(letter, .mailbox), at: Self.at(.milliseconds(place * 500))) == [])
    }
    #expect(machine.step(.tick, at: Self.at(.seconds(2))) == ids.map { .putBack($0.id) })
  }

  @Test("a letter that a former owner may have sent is never called expired here")
  func perhapsSent() {
    var machine = CommandMachine()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Self.t0)
    var letter = Self.command(1, notAfter: .seconds(1))
    letter.mayHaveBeenSent = true
    #expect(machine.step(.taken(letter, .mailbox), at: Self.t0) == [.post(letter)])
    // The controller is asked; when it is gone, the letter waits for it in the mailbox.
    var question = letter
    question.notAfterMs = ControllerCommand.notAfterPast
    #expect(machine.step(.expired(letter.id), at: Self.at(.seconds(1))) == [.post(question)])
    _ = machine.step(.disconnected(serial: 42, connection: 5), at: Self.at(.seconds(1)))
    #expect(machine.step(.notPosted(letter.id, .notConnected), at: Self.at(.seconds(1))) == [])
    #expect(machine.step(.tick, at: Self.at(.seconds(40))) == [.putBack(letter.id)])
    #expect(machine.isIdle && machine.finished == 0)
  }
}

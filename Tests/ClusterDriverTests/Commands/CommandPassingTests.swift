import Election
import Testing

@testable import ClusterDriver

@Suite("Commands that are passed on")
struct CommandPassingTests {
  typealias Machine = CommandMachineTests

  static let store = StoreIdentity("s")
  static let forever = Machine.at(.seconds(100_000)).uptime

  /// All serials are one range's, of that owner.
  static func owners(_ owner: String?, in store: StoreIdentity = Self.store) -> CommandMachine.Event
  {
    let record = RangeRecord(
      first: .lowest, last: .highest, owner: owner.map { Owner(NodeID($0), Incarnation(1)) },
      epoch: Epoch(1), store: store)
    return .owners([.lowest: record], Self.store)
  }

  static func acts(_ epoch: UInt64, until: ContinuousClock.Instant? = Self.forever)
    -> CommandMachine.Event
  {
    .acts([OwnedRange(first: .lowest, last: .highest, epoch: Epoch(epoch))], until: until)
  }

  /// Node "a"; "b" owns all.
  static func others(settings: CommandMachine.Settings = .init()) -> CommandMachine {
    var machine = CommandMachine(settings: settings, me: NodeID("a"))
    _ = machine.step(Self.owners("b"), at: Machine.t0)
    return machine
  }

  /// Node "a", which has owned all for a while.
  static func owner() -> CommandMachine {
    var machine = CommandMachine(me: NodeID("a"))
    _ = machine.step(Self.acts(1), at: Machine.at(.seconds(-10)))
    _ = machine.step(Self.owners("a"), at: Machine.at(.seconds(-10)))
    return machine
  }

  static func batches(_ directives: [CommandMachine.Directive]) -> [PassBatch] {
    directives.compactMap { if case .pass(let batch) = $0 { batch } else { nil } }
  }

  static func finished(_ id: UInt64, _ status: CommandStatus) -> FinishedCommand {
    FinishedCommand(
      id: CommandID(high: 1, low: id), serial: 42, door: .peer, status: status, atMs: 1,
      elapsedUs: 1)
  }

  @Test(
    "what reaches a node that is not the owner goes to the owner, in order, one batch at a time")
  func order() {
    var machine = Self.others()
    let first = Self.batches(machine.step(.taken(Machine.command(1), .attach), at: Machine.t0))
    #expect(first.map(\.to) == [NodeID("b")])
    for id in 2...3 {
      #expect(machine.step(.taken(Machine.command(UInt64(id)), .attach), at: Machine.t0) == [])
    }
    let next = Self.batches(
      machine.step(.passed(to: NodeID("b"), number: first[0].number, [.taken]), at: Machine.t0))
    #expect(next.map { $0.commands.map(\.command.id.low) } == [[2, 3]])
    #expect(
      machine.step(
        .passed(to: NodeID("b"), number: next[0].number, [.taken, .taken]), at: Machine.t0)
        == [])
    #expect(machine.isIdle)
  }

  @Test("a batch holds no more than a peer takes")
  func batchLimits() {
    var machine = Self.others()
    let first = Self.batches(machine.step(.taken(Machine.command(1), .attach), at: Machine.t0))
    for id in 2...100 {
      var command = Machine.command(UInt64(id), serial: UInt64(id))
      if id <= 20 { command.body = [UInt8](repeating: 0, count: 4000) }
      _ = machine.step(.taken(command, .attach), at: Machine.t0)
    }
    var sizes: [Int] = []
    var batch = first[0]
    while true {
      let answers = batch.commands.map { _ in PassAnswer.taken }
      let next = Self.batches(
        machine.step(.passed(to: batch.to, number: batch.number, answers), at: Machine.t0))
      guard let more = next.first else { break }
      batch = more
      sizes.append(batch.commands.count)
      #expect(batch.commands.reduce(0) { $0 + $1.command.body.count } <= PassBatch.bodyBytesMax)
    }
    #expect(sizes.reduce(0, +) == 99)
    #expect(sizes.allSatisfy { $0 <= PassBatch.commandsMax })
    #expect(machine.isIdle)
  }

  @Test("a command of which the owner is not known is held until it is")
  func unknownOwner() {
    var machine = CommandMachine(me: NodeID("a"))
    for other: CommandMachine.Event in [
      Self.owners(nil), Self.owners("b", in: StoreIdentity("old")),
    ] {
      _ = machine.step(other, at: Machine.t0)
    }
    #expect(machine.step(.taken(Machine.command(1), .redis), at: Machine.t0) == [])
    let batches = Self.batches(machine.step(Self.owners("b"), at: Machine.t0))
    #expect(batches.map(\.to) == [NodeID("b")])
    // Whoever owns it has heard it as well.
    #expect(batches[0].commands[0].isShared)
  }

  @Test(
    "without any owner it is given up at last, and not before, and it is said that it is not known")
  func noOwner() {
    var machine = CommandMachine(me: NodeID("a"))
    _ = machine.step(.taken(Machine.command(1, notAfter: .seconds(3)), .redis), at: Machine.t0)
    #expect(machine.step(.tick, at: Machine.at(.seconds(59))) == [])
    let results = Machine.results(machine.step(.tick, at: Machine.at(.seconds(60))))
    #expect(results.map(\.status) == [.offline])
    #expect(results.first?.detail == CommandDetail.noOwner)
    #expect(machine.isIdle)
  }

  @Test(
    "a peer that does not answer is asked again after a pause that grows, and may have taken it")
  func unanswered() {
    var machine = Self.others()
    var batch = Self.batches(machine.step(.taken(Machine.command(1), .attach), at: Machine.t0))[0]
    #expect(!batch.commands[0].isShared)
    var pauses: [Duration] = []
    var now = Duration.zero
    for _ in 0..<6 {
      let from = now
      #expect(
        machine.step(.passed(to: batch.to, number: batch.number, nil), at: Machine.at(now)) == [])
      var again: [PassBatch] = []
      while again.isEmpty, now < .seconds(10) {
        now += .milliseconds(10)
        again = Self.batches(machine.step(.tick, at: Machine.at(now)))
      }
      guard let next = again.first else { return #expect(Bool(false)) }
      batch = next
      pauses.append(now - from)
    }
    #expect(batch.commands[0].isShared)
    #expect(pauses == pauses.sorted() && pauses[5] >= .milliseconds(500))
    #expect(pauses[5] <= .milliseconds(560))
  }

  @Test("a peer that names another owner is believed twice, and then there is a pause")
  func hints() {
    var machine = Self.others()
    var batch = Self.batches(machine.step(.taken(Machine.command(1), .attach), at: Machine.t0))[0]
    var asked: [String] = []
    for other in ["c", "d", "e"] {
      asked.append(batch.to.name)
      let next = Self.batches(
        machine.step(
          .passed(to: batch.to, number: batch.number, [.notMine(NodeID(other))]), at: Machine.t0))
      guard let more = next.first else { break }
      batch = more
    }
    #expect(asked == ["b", "c", "d"])
    #expect(Self.batches(machine.step(.tick, at: Machine.at(.seconds(1)))).map(\.to.name) == ["b"])
    // Two that each take the other for the owner do not wear each other out.
    var stubborn = Self.others()
    let one = Self.batches(stubborn.step(.taken(Machine.command(1), .attach), at: Machine.t0))[0]
    #expect(
      stubborn.step(
        .passed(to: one.to, number: one.number, [.notMine(NodeID("a"))]), at: Machine.t0)
        == [])
  }

  @Test("without a lease nothing is ended: when it goes on, what was late is expired")
  func fenced() {
    var machine = Self.owner()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0)
    let command = Machine.command(1, notAfter: .seconds(1))
    #expect(machine.step(.taken(command, .redis), at: Machine.t0) == [.post(command)])
    _ = machine.step(.acts(nil, until: Machine.t0.uptime), at: Machine.t0)
    #expect(machine.step(.expired(command.id), at: Machine.at(.seconds(1))) == [])
    var other = machine
    let results = Machine.results(
      machine.step(.acts(nil, until: Self.forever), at: Machine.at(.seconds(2))))
    #expect(results.map(\.status) == [.expired])
    // Unless another has it by then: that one says how it ended.
    _ = other.step(.acts([], until: Self.forever), at: Machine.at(.seconds(2)))
    #expect(Self.batches(other.step(Self.owners("b"), at: Machine.at(.seconds(2)))).count == 1)
  }

  @Test("what was sent and not answered goes to the next owner, which is told so")
  func sent() {
    var machine = Self.owner()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0)
    let command = Machine.command(1, notAfter: .seconds(3))
    _ = machine.step(.taken(command, .attach), at: Machine.t0)
    _ = machine.step(.sent(command.id, connection: 5), at: Machine.t0)
    _ = machine.step(.acts([], until: Self.forever), at: Machine.t0)
    _ = machine.step(Self.owners("b"), at: Machine.t0)
    let batches = Self.batches(
      machine.step(.disconnected(serial: 42, connection: 5), at: Machine.t0))
    #expect(batches.map { $0.commands.map(\.wasSent) } == [[true]])
    // Its answer may have been on its way here: then it has ended.
    let results = Machine.results(machine.step(Machine.done, at: Machine.t0))
    #expect(results.map(\.status) == [.done])
    #expect(
      machine.step(.passed(to: NodeID("b"), number: batches[0].number, [.taken]), at: Machine.t0)
        == [])
    #expect(machine.isIdle)
  }

  @Test("the owner takes what is passed on once, and says how it ended if it has")
  func receiving() {
    var machine = Self.owner()
    _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0)
    let command = Machine.command(1)
    let passed = PassedCommand(command: command)
    var (answer, directives) = machine.receive(passed, at: Machine.t0)
    #expect(answer == .taken && directives == [.post(command)])
    (answer, directives) = machine.receive(passed, at: Machine.t0)
    #expect(answer == .taken && directives == [])
    let result = Machine.results(machine.step(Machine.done, at: Machine.t0))[0]
    (answer, directives) = machine.receive(passed, at: Machine.t0)
    #expect(answer == .ended(result) && directives == [])
    (answer, directives) = machine.receive(
      PassedCommand(command: command, tellAgain: true), at: Machine.t0)
    #expect(answer == .ended(result) && directives == [.deliverAgain(result)])
  }

  @Test("late, and another may have had it carried out: the owner asks the controller")
  func shared() {
    for isShared in [false, true] {
      var machine = Self.owner()
      _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0)
      var command = Machine.command(1, notAfter: .seconds(1))
      _ = machine.receive(PassedCommand(command: command, isShared: isShared), at: Machine.t0)
      let directives = machine.step(.expired(command.id), at: Machine.at(.seconds(1)))
      command.notAfterMs = ControllerCommand.notAfterPast
      #expect(directives == [.post(command)] || !isShared)
      #expect(Machine.results(directives).map(\.status) == (isShared ? [] : [.expired]))
    }
  }

  @Test("what comes just after its range did may have been heard by the former owner as well")
  func gained() {
    var machine = CommandMachine(me: NodeID("a"))
    _ = machine.step(Self.acts(1), at: Machine.t0)
    _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0)
    var command = Machine.command(1, notAfter: .seconds(1))
    _ = machine.step(.taken(command, .redis), at: Machine.t0)
    let directives = machine.step(.expired(command.id), at: Machine.at(.seconds(1)))
    command.notAfterMs = ControllerCommand.notAfterPast
    #expect(directives == [.post(command)])
  }

  /// Found under faults: the owner said offline at the deadline; the former owner, cut off from it until
  /// the range came back, asked the controller, and that said expired.
  @Test(
    "what the former owner may have heard, too, is not ended before its controller was waited for")
  func heardByTwo() {
    for (door, wasSent, end) in [
      (CommandDoor.redis, true, Duration.seconds(32)), (.redis, false, .seconds(31)),
      (.attach, true, .seconds(4)), (.attach, false, .seconds(2)),
    ] {
      var machine = CommandMachine(me: NodeID("a"))
      _ = machine.step(Self.acts(1), at: Machine.t0)
      let command = Machine.command(1, notAfter: .seconds(4))
      if wasSent { _ = machine.step(.connected(serial: 42, connection: 5), at: Machine.t0) }
      _ = machine.step(.taken(command, door), at: Machine.at(.seconds(1)))
      if wasSent {
        _ = machine.step(.sent(command.id, connection: 5), at: Machine.at(.seconds(1)))
        _ = machine.step(
          .disconnected(serial: 42, connection: 5), at: Machine.at(.seconds(2)))
      } else {
        _ = machine.step(.notPosted(command.id, .notConnected), at: Machine.at(.seconds(1)))
      }
      let early = Machine.at(end - .milliseconds(100))
      #expect(machine.step(.tick, at: early) == [], "\(door) \(wasSent)")
      if door == .redis {
        var back = machine
        #expect(
          Machine.posts(back.step(.connected(serial: 42, connection: 6), at: early)).count == 1)
      }
      let late = Machine.results(machine.step(.tick, at: Machine.at(end + .milliseconds(1))))
      #expect(late.map(\.status) == [.offline], "\(door) \(wasSent)")
    }
  }

  @Test("a command that comes back while its result is waited for there is carried out here")
  func comesBack() {
    var machine = Self.others()
    let command = Machine.command(1)
    let batch = Self.batches(machine.step(.taken(command, .admin), at: Machine.t0))[0]
    _ = machine.step(.passed(to: NodeID("b"), number: batch.number, [.taken]), at: Machine.t0)
    _ = machine.step(Self.acts(2), at: Machine.t0)
    #expect(machine.step(.connected(serial: 42, connection: 5), at: Machine.t0) == [])
    let (answer, directives) = machine.receive(PassedCommand(command: command), at: Machine.t0)
    #expect(answer == .taken && directives == [.post(command)])
  }

  @Test("who is not the owner takes nothing, and says who is; who is not sure says that")
  func refusing() {
    let passed = PassedCommand(command: Machine.command(1))
    var other = Self.others()
    #expect(other.receive(passed, at: Machine.t0).answer == .notMine(NodeID("b")))
    var nobody = CommandMachine(me: NodeID("a"))
    #expect(nobody.receive(passed, at: Machine.t0).answer == .notMine(nil))
    var fenced = Self.owner()
    _ = fenced.step(.acts(nil, until: Machine.t0.uptime), at: Machine.t0)
    #expect(fenced.receive(passed, at: Machine.t0).answer == .busy)
    var stopping = Self.owner()
    _ = stopping.step(.stop, at: Machine.t0)
    #expect(stopping.receive(passed, at: Machine.t0).answer == .busy)
    for machine in [other, nobody, fenced, stopping] { #expect(machine.isIdle) }
  }

  @Test("a node that stops still passes on what is not its own")
  func stopping() {
    var machine = Self.others()
    _ = machine.step(.stop, at: Machine.t0)
    #expect(
      Self.batches(machine.step(.taken(Machine.command(1), .redis), at: Machine.t0)).count == 1)
    let results = Machine.results(machine.step(.end, at: Machine.t0))
    #expect(results.map(\.status) == [.offline] && machine.isIdle)
  }

  @Test(
    "an operator at another node has the owner's result, of which the vendor app hears from the owner"
  )
  func operators() {
    var machine = Self.others()
    let command = Machine.command(1)
    let batch = Self.batches(machine.step(.taken(command, .admin), at: Machine.t0))[0]
    let b = NodeID("b")
    #expect(
      machine.step(.passed(to: b, number: batch.number, [.taken]), at: Machine.t0)
        == [.awaitResult(command.id, at: b)])
    var other = machine
    let result = Self.finished(1, .done)
    #expect(machine.step(.awaited(command.id, at: b, result), at: Machine.t0) == [.tell(result)])
    #expect(machine.isIdle)
    // A peer that does not know of it any more is asked again after a pause.
    #expect(other.step(.awaited(command.id, at: b, nil), at: Machine.t0) == [])
    #expect(Self.batches(other.step(.tick, at: Machine.at(.seconds(1)))).count == 1)
  }

  @Test("whoever waits for what is not known is told so")
  func missing() {
    var machine = Self.owner()
    let id = Machine.command(1).id
    #expect(machine.step(.wanted(id), at: Machine.t0) == [.tellMissing(id)])
  }

  @Test("what is not this node's is bounded by number")
  func limit() {
    var settings = CommandMachine.Settings()
    settings.awayMax = 2
    var machine = Self.others(settings: settings)
    for id in 1...2 {
      _ = machine.step(.taken(Machine.command(UInt64(id)), .redis), at: Machine.t0)
    }
    let results = Machine.results(
      machine.step(.taken(Machine.command(3), .redis), at: Machine.t0))
    #expect(results.map(\.detail) == [CommandDetail.tooManyAway])
    #expect(machine.awayCount == 2)
  }

  @Test("a controller whose range came a moment ago is waited for")
  func fresh() {
    var machine = CommandMachine(me: NodeID("a"))
    _ = machine.step(Self.acts(1), at: Machine.t0)
    let command = Machine.command(1)
    _ = machine.step(.taken(command, .attach), at: Machine.t0)
    #expect(machine.step(.notPosted(command.id, .notConnected), at: Machine.t0) == [])
    #expect(
      machine.step(.connected(serial: 42, connection: 5), at: Machine.at(.seconds(1)))
        == [.post(command)])
  }
}

@Suite("Owners as a node knows them")
struct OwnerTableTests {
  @Test("a serial is of the range it lies in, and of no other")
  func ranges() {
    let now = ContinuousClock.now
    var table = OwnerTable(me: NodeID("a"))
    let store = StoreIdentity("s")
    #expect(table.standing(of: 5, at: now) == .unknown)
    _ = table.act(
      for: [
        OwnedRange(first: Serial(10), last: Serial(19), epoch: Epoch(3)),
        OwnedRange(first: Serial(30), last: Serial(39), epoch: Epoch(4)),
      ], until: now.advanced(by: .seconds(1)))
    table.see(
      [
        Serial(20): RangeRecord(
          first: Serial(20), last: Serial(25), owner: Owner(NodeID("b"), Incarnation(1)),
          epoch: Epoch(9), store: store),
        Serial(50): RangeRecord(
          first: Serial(50), last: Serial(59), owner: Owner(NodeID("a"), Incarnation(1)),
          epoch: Epoch(9), store: store),
        Serial(60): RangeRecord(first: Serial(60), last: Serial(69), epoch: Epoch(9), store: store),
      ], in: store)
    for (serial, standing): (UInt64, OwnerTable.Standing) in [
      (9, .unknown), (10, .mine(Epoch(3))), (19, .mine(Epoch(3))), (20, .others(NodeID("b"))),
      (25, .others(NodeID("b"))), (26, .unknown), (39, .mine(Epoch(4))), (40, .unknown),
      (55, .unknown), (65, .unknown), (.max - 1, .unknown),
    ] {
      #expect(table.standing(of: serial, at: now) == standing, "\(serial)")
    }
    let late = now.advanced(by: .seconds(1))
    #expect(table.standing(of: 10, at: late) == .fenced)
    #expect(table.standing(of: 20, at: late) == .others(NodeID("b")))
    table.see([:], in: StoreIdentity("t"))
    #expect(table.standing(of: 20, at: now) == .unknown)
  }
}

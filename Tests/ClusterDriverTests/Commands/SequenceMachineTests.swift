import Testing

@testable import ClusterDriver

@Suite("Sequence machine")
struct SequenceMachineTests {
  typealias Machine = SequenceMachine

  static let t0 = CommandMachineTests.t0
  static func at(_ offset: Duration) -> Moment { CommandMachineTests.at(offset) }

  static func id(_ number: UInt64) -> CommandID { CommandID(high: 7, low: number) }

  static func list(
    _ number: UInt64 = 1, serial: UInt64 = 42, of count: Int = 3, done: Int = 0
  ) -> ControllerCommand {
    let id = Self.id(number)
    let steps = (0..<count).map {
      ControllerCommand(
        id: id.step(UInt32($0)), serial: serial, lane: 1, notAfterMs: 0, code: 6, body: [UInt8($0)])
    }
    return ControllerCommand(
      id: id, serial: serial, lane: 1, notAfterMs: 0, code: 0, body: [],
      sequence: .list(steps, done: done))
  }

  static func configuration(
    _ number: UInt64 = 1, serial: UInt64 = 42, bytes: Int = 10
  ) -> ControllerCommand {
    ControllerCommand(
      id: Self.id(number), serial: serial, lane: 2, notAfterMs: 9_000_000_000_000, code: 0,
      body: [],
      sequence: .configuration(
        ControllerConfiguration((0..<bytes).map { UInt8(truncatingIfNeeded: $0) })))
  }

  static func result(
    _ id: CommandID, _ status: CommandStatus = .done, reason: UInt32 = 0, offset: Int? = nil,
    detail: String = ""
  ) -> Machine.Event {
    var body = BigEndianBytes()
    if let offset { body.append(UInt32(offset)) }
    return .ended(
      FinishedCommand(
        id: id, serial: 42, door: .sequence, status: status, reason: reason, body: body.bytes,
        detail: detail, atMs: 0, elapsedUs: 0))
  }

  static func given(_ directives: [Machine.Directive]) -> [ControllerCommand] {
    directives.compactMap { if case .give(let command) = $0 { command } else { nil } }
  }

  static func finished(_ directives: [Machine.Directive]) -> [FinishedCommand] {
    directives.compactMap { if case .finish(let result) = $0 { result } else { nil } }
  }

  static func told(_ directives: [Machine.Directive]) -> [Int] {
    directives.compactMap { if case .tell(let standing) = $0 { standing.done } else { nil } }
  }

  static func returned(_ directives: [Machine.Directive]) -> [CommandID] {
    directives.compactMap { if case .giveBack(let standing, _) = $0 { standing.id } else { nil } }
  }

  /// Chunks of 4 bytes, as quickly as they can be given.
  static func machine(_ change: (inout Machine.Settings) -> Void = { _ in }) -> Machine {
    var settings = Machine.Settings()
    settings.chunkBytes = 4
    settings.chunkEvery = .zero
    change(&settings)
    return Machine(settings: settings)
  }

  // MARK: Lists

  @Test("a list's next command is given when the one before is done, and its end is one result")
  func inOrder() {
    var machine = Self.machine()
    let list = Self.list()
    var directives = machine.step(.taken(list, .mailbox), at: Self.t0)
    for index in 0..<3 {
      let given = Self.given(directives)
      #expect(given.map(\.body) == [[UInt8(index)]])
      #expect(given.first?.id == list.id.step(UInt32(index)))
      #expect(Self.finished(directives).isEmpty)
      directives = machine.step(Self.result(given[0].id), at: Self.at(.milliseconds(index)))
    }
    let results = Self.finished(directives)
    #expect(results.map(\.status) == [.done])
    #expect(results.first?.id == list.id)
    #expect(results.first?.door == .mailbox)
    #expect(results.first?.elapsedUs == 2000)
    #expect(machine.isIdle && machine.bytes == 0 && machine.steps.isEmpty)
    #expect(
      machine.step(.taken(list, .attach), at: Self.t0) == [.deliverAgain(results[0])])
  }

  @Test(
    "the first that is not done ends the list, with its place and its reason",
    arguments: [CommandStatus.refused, .expired, .offline])
  func stops(status: CommandStatus) {
    var machine = Self.machine()
    let list = Self.list()
    _ = machine.step(.taken(list, .mailbox), at: Self.t0)
    _ = machine.step(Self.result(list.id.step(0)), at: Self.t0)
    let directives = machine.step(
      Self.result(list.id.step(1), status, reason: 3, detail: "no such door"), at: Self.t0)
    #expect(Self.given(directives).isEmpty)
    let results = Self.finished(directives)
    #expect(results.map(\.status) == [status])
    #expect(results.first?.index == 1)
    #expect(results.first?.reason == 3)
    #expect(results.first?.detail.contains("command 1 of 3") == true)
    #expect(results.first?.detail.contains("no such door") == true)
  }

  @Test("a list that is given again goes on behind what was done, and one that was done is done")
  func resumes() {
    var machine = Self.machine()
    let given = Self.given(machine.step(.taken(Self.list(of: 5, done: 3), .attach), at: Self.t0))
    #expect(given.map(\.body) == [[3]])
    let whole = machine.step(.taken(Self.list(2, serial: 43, of: 5, done: 5), .attach), at: Self.t0)
    #expect(Self.given(whole).isEmpty)
    #expect(Self.finished(whole).map(\.status) == [.done])
  }

  @Test("of a list that may have been given before, the controller's word alone counts")
  func mayHaveBeenSent() {
    var machine = Self.machine()
    let attached = Self.given(machine.step(.taken(Self.list(), .attach), at: Self.t0))
    #expect(attached.first?.mayHaveBeenSent == true)
    let fresh = Self.given(machine.step(.taken(Self.list(2, serial: 43), .mailbox), at: Self.t0))
    #expect(fresh.first?.mayHaveBeenSent == false)
    var marked = Self.list(3, serial: 44)
    marked.mayHaveBeenSent = true
    let again = Self.given(machine.step(.taken(marked, .mailbox), at: Self.t0))
    #expect(again.first?.mayHaveBeenSent == true)
  }

  @Test("a list stays within what the controller remembers of what its holder has kept")
  func ahead() {
    var machine = Self.machine()
    let list = Self.list(of: 40)
    var directives = machine.step(.taken(list, .mailbox), at: Self.t0)
    var told: [Int] = []
    var done = 0
    while let next = Self.given(directives).first {
      directives = machine.step(Self.result(next.id), at: Self.t0)
      told += Self.told(directives)
      done += 1
    }
    #expect(done == machine.settings.aheadMax)
    #expect(told == [1, 9])
    #expect(machine.step(.kept(list.id, done: 0), at: Self.t0).isEmpty)
    #expect(Self.given(machine.step(.kept(list.id, done: 9), at: Self.t0)).map(\.body) == [[16]])
    // What is kept while a command is under way gives no second one.
    #expect(machine.step(.kept(list.id, done: 10), at: Self.t0).isEmpty)
    #expect(machine.step(.kept(Self.id(99), done: 5), at: Self.t0).isEmpty)
  }

  // MARK: Configurations

  @Test("a configuration is begun, sent from where the controller has it, and committed")
  func transfer() {
    var machine = Self.machine()
    let sequence = Self.configuration()
    guard case .configuration(let configuration) = sequence.sequence else { return }
    var given = Self.given(machine.step(.taken(sequence, .attach), at: Self.t0))
    #expect(given.map(\.code) == [16])
    #expect(given[0].body == configuration.digest + [0, 0, 0, 10])
    #expect(given[0].lane == 2 && given[0].notAfterMs == sequence.notAfterMs)
    given = Self.given(machine.step(Self.result(given[0].id, offset: 1), at: Self.t0))
    #expect(given.map(\.code) == [17, 17])
    #expect(given[0].body == configuration.digest + [0, 0, 0, 1] + [1, 2, 3, 4])
    #expect(given[1].body == configuration.digest + [0, 0, 0, 5] + [5, 6, 7, 8])
    let (first, second) = (given[0].id, given[1].id)
    given = Self.given(machine.step(Self.result(first, offset: 5), at: Self.t0))
    #expect(given.map(\.body) == [configuration.digest + [0, 0, 0, 9] + [9]])
    let third = given[0].id
    #expect(Self.given(machine.step(Self.result(second, offset: 9), at: Self.t0)).isEmpty)
    given = Self.given(machine.step(Self.result(third, offset: 10), at: Self.t0))
    #expect(given.map(\.code) == [18])
    #expect(given[0].body == configuration.digest)
    #expect(given[0].mayHaveBeenSent)
    let results = Self.finished(machine.step(Self.result(given[0].id), at: Self.t0))
    #expect(results.map(\.status) == [.done])
    #expect(results[0].index == 0)
  }

  @Test("what is in force already is committed without a byte")
  func inForce() {
    var machine = Self.machine()
    var given = Self.given(machine.step(.taken(Self.configuration(), .attach), at: Self.t0))
    given = Self.given(machine.step(Self.result(given[0].id, offset: 10), at: Self.t0))
    #expect(given.map(\.code) == [18])
  }

  @Test(
    "a controller that is elsewhere than thought is asked again, when nothing is under way",
    arguments: [UInt32(6), 7])
  func elsewhere(reason: UInt32) {
    var machine = Self.machine()
    var given = Self.given(machine.step(.taken(Self.configuration(), .attach), at: Self.t0))
    let begin = given[0].id
    given = Self.given(machine.step(Self.result(begin, offset: 0), at: Self.t0))
    let refused = machine.step(
      Self.result(given[0].id, .refused, reason: reason), at: Self.t0)
    #expect(refused.isEmpty)
    let again = Self.given(
      machine.step(Self.result(given[1].id, .refused, reason: 6), at: Self.t0))
    #expect(again.map(\.code) == [16])
    #expect(again[0].id != begin)
    // It goes on from what it says now.
    given = Self.given(machine.step(Self.result(again[0].id, offset: 9), at: Self.t0))
    #expect(given.map { $0.body.last } == [9])
  }

  @Test("other refusals end it, with the bytes the controller has")
  func refused() {
    var machine = Self.machine()
    let sequence = Self.configuration(bytes: 20)
    let begin = Self.given(machine.step(.taken(sequence, .attach), at: Self.t0))[0]
    let chunks = Self.given(machine.step(Self.result(begin.id, offset: 2), at: Self.t0))
    let third = Self.given(machine.step(Self.result(chunks[0].id, offset: 6), at: Self.t0))[0]
    #expect(machine.step(Self.result(chunks[1].id, .refused, reason: 5), at: Self.t0).isEmpty)
    // What comes after the refusal changes nothing of it.
    let results = Self.finished(
      machine.step(Self.result(third.id, .refused, reason: 6), at: Self.t0))
    #expect(results.map(\.status) == [.refused])
    #expect(results.map(\.reason) == [5])
    #expect(results.map(\.index) == [6])
    #expect(results[0].detail.contains("byte 6 of 20"))
  }

  @Test("a controller that goes on asking for the beginning is refused in the end")
  func endless() {
    var machine = Self.machine { $0.beginsMax = 3 }
    var directives = machine.step(.taken(Self.configuration(bytes: 3), .attach), at: Self.t0)
    var begins = 0
    while Self.finished(directives).isEmpty {
      begins += 1
      let begin = Self.given(directives)[0]
      let chunk = Self.given(machine.step(Self.result(begin.id, offset: 0), at: Self.t0))[0]
      directives = machine.step(Self.result(chunk.id, .refused, reason: 7), at: Self.t0)
    }
    #expect(begins == 3)
    #expect(Self.finished(directives).map(\.reason) == [DriverReason.badTransfer])
  }

  @Test("an answer to begin that is none ends it", arguments: [nil, 11])
  func badOffset(offset: Int?) {
    var machine = Self.machine()
    let begin = Self.given(machine.step(.taken(Self.configuration(), .attach), at: Self.t0))[0]
    let results = Self.finished(machine.step(Self.result(begin.id, offset: offset), at: Self.t0))
    #expect(results.map(\.reason) == [DriverReason.badTransfer])
  }

  @Test("progress is told when it begins, and then once a second")
  func progress() {
    var machine = Self.machine { $0.window = 1 }
    let begin = Self.given(
      machine.step(.taken(Self.configuration(bytes: 40), .attach), at: Self.t0))[0]
    var directives = machine.step(Self.result(begin.id, offset: 0), at: Self.t0)
    #expect(Self.told(directives) == [0])
    var told: [Int] = []
    for tick in 1...8 {
      let chunk = Self.given(directives)[0]
      directives = machine.step(
        Self.result(chunk.id, offset: 4 * tick), at: Self.at(.milliseconds(300 * tick)))
      told += Self.told(directives)
    }
    #expect(told == [16, 32])
  }

  @Test("chunks of all transfers together keep a pace, and take turns")
  func pace() {
    var machine = Self.machine {
      $0.chunkEvery = .milliseconds(10)
      $0.chunksAtOnce = 3
    }
    var chunks: [CommandID] = []
    for number in 1...3 as ClosedRange<UInt64> {
      let sequence = Self.configuration(number, serial: number, bytes: 40)
      let begin = Self.given(machine.step(.taken(sequence, .attach), at: Self.t0))[0]
      chunks += Self.given(machine.step(Self.result(begin.id, offset: 0), at: Self.t0)).map(\.id)
    }
    #expect(chunks == [(1, 0), (1, 4), (2, 0), (2, 4)].map { Self.id($0.0).step($0.1) })
    #expect(machine.wakeAt == Self.at(.milliseconds(40)).uptime)
    // What is done in the meantime does not get another its turn.
    #expect(machine.step(Self.result(chunks[0], offset: 4), at: Self.at(.milliseconds(5))) == [])
    #expect(Self.given(machine.step(.tick, at: Self.at(.milliseconds(9)))).isEmpty)
    let next = Self.given(machine.step(.tick, at: Self.at(.milliseconds(40))))
    #expect(next.map(\.id) == [(3, 0), (3, 4), (1, 8)].map { Self.id($0.0).step($0.1) })
    #expect(machine.wakeAt == nil)
    // One that is given back waits no longer.
    let last = Self.given(
      machine.step(Self.result(next[0].id, offset: 4), at: Self.at(.milliseconds(41))))
    #expect(machine.step(Self.result(next[1].id, offset: 8), at: Self.at(.milliseconds(41))) == [])
    #expect(machine.wakeAt != nil)
    #expect(machine.step(.leave(3...3), at: Self.at(.milliseconds(42))).isEmpty)
    let end = machine.step(Self.result(last[0].id, offset: 12), at: Self.at(.milliseconds(43)))
    #expect(Self.returned(end) == [Self.id(3)])
    #expect(machine.step(.tick, at: Self.at(.seconds(1))).isEmpty)
    #expect(machine.wakeAt == nil)
  }

  // MARK: Giving back

  @Test("a step that is put back gives the sequence back, once nothing of it is under way")
  func putBack() {
    var machine = Self.machine()
    let sequence = Self.configuration()
    let begin = Self.given(machine.step(.taken(sequence, .attach), at: Self.t0))[0]
    let chunks = Self.given(machine.step(Self.result(begin.id, offset: 0), at: Self.t0))
    #expect(machine.step(.putBack(chunks[1].id), at: Self.t0).isEmpty)
    let directives = machine.step(Self.result(chunks[0].id, offset: 4), at: Self.t0)
    let standing = SequenceStanding(
      id: sequence.id, serial: 42, done: 4, total: 10, atMs: Self.t0.utcMs)
    #expect(directives == [.giveBack(standing, isAttached: true)])
    #expect(machine.isIdle)
    // Given again it begins by asking.
    #expect(Self.given(machine.step(.taken(sequence, .attach), at: Self.t0)).map(\.code) == [16])
  }

  @Test("a commit that is done is done, whatever else was to become of it")
  func doneAfterAll() {
    var machine = Self.machine()
    let begin = Self.given(machine.step(.taken(Self.configuration(), .attach), at: Self.t0))[0]
    let commit = Self.given(machine.step(Self.result(begin.id, offset: 10), at: Self.t0))[0]
    #expect(machine.step(.leave(1...100), at: Self.t0).isEmpty)
    #expect(
      Self.finished(machine.step(Self.result(commit.id), at: Self.t0)).map(\.status) == [.done])
  }

  @Test("what is about to be another node's is given back, and nothing else")
  func leaves() {
    var machine = Self.machine()
    let running = Self.given(machine.step(.taken(Self.list(1, serial: 5), .attach), at: Self.t0))[0]
    _ = machine.step(.taken(Self.list(2, serial: 5), .mailbox), at: Self.t0)
    _ = machine.step(.taken(Self.list(3, serial: 50), .mailbox), at: Self.t0)
    #expect(Self.returned(machine.step(.leave(1...9), at: Self.t0)) == [Self.id(2)])
    #expect(Self.returned(machine.step(Self.result(running.id), at: Self.t0)) == [Self.id(1)])
    #expect(Array(machine.held.keys) == [Self.id(3)])
    #expect(machine.givenBack == 2)
  }

  @Test("a node that stops gives all of them back, and takes none")
  func stopping() {
    var machine = Self.machine()
    let running = Self.given(machine.step(.taken(Self.list(), .attach), at: Self.t0))[0]
    _ = machine.step(.taken(Self.list(2), .attach), at: Self.t0)
    #expect(Self.returned(machine.step(.stop, at: Self.t0)) == [Self.id(2)])
    let last = machine.step(Self.result(running.id), at: Self.t0)
    #expect(Self.returned(last) == [Self.id(1)])
    #expect(Self.returned(machine.step(.taken(Self.list(3), .attach), at: Self.t0)) == [Self.id(3)])
    #expect(machine.isIdle)
  }

  // MARK: Limits

  @Test(
    "no two run for one controller, and no more than so many at all; the others wait their turn")
  func turns() {
    var machine = Self.machine { $0.runningMax = 2 }
    let first = Self.given(
      machine.step(.taken(Self.list(1, serial: 1, of: 1), .attach), at: Self.t0))
    #expect(machine.step(.taken(Self.list(2, serial: 1, of: 1), .attach), at: Self.t0).isEmpty)
    #expect(!machine.step(.taken(Self.list(3, serial: 2, of: 1), .attach), at: Self.t0).isEmpty)
    #expect(machine.step(.taken(Self.list(4, serial: 3, of: 1), .attach), at: Self.t0).isEmpty)
    let next = machine.step(Self.result(first[0].id), at: Self.t0)
    #expect(Self.finished(next).map(\.id) == [Self.id(1)])
    #expect(Self.given(next).map(\.id) == [Self.id(2).step(0)])
    let last = machine.step(Self.result(Self.id(2).step(0)), at: Self.t0)
    #expect(Self.given(last).map(\.id) == [Self.id(4).step(0)])
  }

  @Test("what is too much is given back at once: in all, for one controller, and in bytes")
  func limits() {
    var machine = Self.machine {
      $0.heldMax = 3
      $0.heldPerControllerMax = 2
      $0.bytesMax = 1000
    }
    _ = machine.step(.taken(Self.list(1), .attach), at: Self.t0)
    _ = machine.step(.taken(Self.list(2), .attach), at: Self.t0)
    #expect(Self.returned(machine.step(.taken(Self.list(3), .attach), at: Self.t0)) == [Self.id(3)])
    let large = Self.configuration(4, serial: 43, bytes: 600)
    #expect(Self.returned(machine.step(.taken(large, .attach), at: Self.t0)) == [Self.id(4)])
    _ = machine.step(.taken(Self.configuration(5, serial: 43), .attach), at: Self.t0)
    let more = machine.step(.taken(Self.configuration(6, serial: 44), .attach), at: Self.t0)
    #expect(Self.returned(more) == [Self.id(6)])
    #expect(machine.held.count == 3)
  }

  @Test("an id given again joins the one that runs, and whoever gave it is told as well")
  func joins() {
    var machine = Self.machine()
    let step = Self.given(machine.step(.taken(Self.list(), .mailbox), at: Self.t0))[0]
    #expect(machine.step(.taken(Self.list(), .attach), at: Self.t0).isEmpty)
    guard
      case .giveBack(_, let isAttached)? = machine.step(.putBack(step.id), at: Self.t0).first
    else {
      Issue.record("not given back")
      return
    }
    #expect(isAttached)
  }

  @Test("what is said of a step nobody knows changes nothing")
  func unknown() {
    var machine = Self.machine()
    _ = machine.step(.taken(Self.list(), .attach), at: Self.t0)
    #expect(machine.step(Self.result(Self.id(8)), at: Self.t0).isEmpty)
    #expect(machine.step(.putBack(Self.id(8)), at: Self.t0).isEmpty)
    #expect(machine.step(.taken(CommandMachineTests.command(1), .attach), at: Self.t0).isEmpty)
    #expect(machine.held.count == 1)
  }
}

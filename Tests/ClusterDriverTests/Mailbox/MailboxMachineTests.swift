import DriverProtocol
import Election
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Mailbox machine")
struct MailboxMachineTests {
  static let t0 = Moment(uptime: .now, utcMs: 1_700_000_000_000)
  static let range = OwnedRange(first: Serial(1), last: Serial(1000), epoch: Epoch(4))

  static func at(_ offset: Duration) -> Moment {
    Moment(
      uptime: Self.t0.uptime.advanced(by: offset),
      utcMs: Self.t0.utcMs + offset.microseconds / 1000)
  }

  static func letter(_ id: UInt64, serial: UInt64 = 42) -> Letter {
    Letter(
      serial: serial, number: Self.t0.utcMs * 1000 + id, id: CommandID(high: 9, low: id))
  }

  static func opened(
    _ id: UInt64, serial: UInt64 = 42, notAfter: Duration? = .seconds(5),
    mark: OpenedLetter.Mark = .none
  ) -> OpenedLetter {
    var command = Clusterdriver_V1_Command()
    command.queryStatus = Clusterdriver_V1_QueryStatus()
    command.notAfterMs = notAfter.map { Self.at($0).utcMs } ?? 0
    return OpenedLetter(
      text: Array(Self.letter(id, serial: serial).text.utf8), body: command.wireBytes(), mark: mark)
  }

  static func calls(_ directives: [MailboxMachine.Directive]) -> [(UInt64, MailboxCall)] {
    directives.compactMap {
      if case .call(let number, let call) = $0 { (number, call) } else { nil }
    }
  }

  static func statuses(_ directives: [MailboxMachine.Directive]) -> [CommandStatus] {
    directives.flatMap { directive -> [CommandStatus] in
      guard case .send(_, let results) = directive else { return [] }
      return results.map { Self.status($0) }
    }
  }

  static func status(_ result: [UInt8]) -> CommandStatus {
    let result = try? Clusterdriver_V1_CommandResult(serializedBytes: result)
    return CommandStatus(rawValue: UInt8(result?.status.rawValue ?? 0)) ?? .superseded
  }

  static func result(_ id: UInt64, _ status: CommandStatus = .done) -> FinishedCommand {
    FinishedCommand(
      id: CommandID(high: 9, low: id), serial: 42, door: .mailbox, status: status, atMs: 1,
      elapsedUs: 1)
  }

  /// Acts for serials 1 … 1000 and has found nothing in the mailbox.
  static func machine(here: [UInt64] = []) -> MailboxMachine {
    var machine = MailboxMachine()
    let scan = Self.calls(machine.step(.acting([Self.range]), at: Self.t0))
    #expect(scan.map(\.1) == [.scan(MailboxScan(first: 1, last: 1000))])
    _ = machine.step(.replied(scan[0].0, .scanned([])), at: Self.t0)
    let sessions = here.map { SessionChange(serial: $0, connection: $0, isConnected: true) }
    _ = machine.step(.sessions(sessions), at: Self.t0)
    return machine
  }

  @Test("a letter is given, decided, sent, and removed only when the vendor app has its result")
  func life() throws {
    var machine = Self.machine(here: [42])
    var calls = Self.calls(machine.step(.rang([42]), at: Self.t0))
    #expect(
      calls.map(\.1) == [
        .open([MailboxOpening(serial: 42, after: 0, count: 32, marks: true)], by: Self.range)
      ])
    let given = machine.step(
      .replied(calls[0].0, .opened([Self.opened(1)], read: 1)), at: Self.t0)
    guard case .give(let commands) = given.first else {
      Issue.record("not given: \(given)")
      return
    }
    #expect(commands.map(\.id) == [CommandID(high: 9, low: 1)])
    #expect(commands.allSatisfy { !$0.mayHaveBeenSent && $0.serial == 42 })
    calls = Self.calls(machine.step(.pipeline(.ended(Self.result(1))), at: Self.t0))
    let bytes = Self.result(1).wireBytes
    #expect(calls.map(\.1) == [.decide([Self.letter(1)], results: [bytes], by: Self.range)])
    let sent = machine.step(.replied(calls[0].0, .decided([.taken])), at: Self.t0)
    #expect(sent == [.send([CommandID(high: 9, low: 1)], [bytes])])
    #expect(machine.step(.sent([CommandID(high: 9, low: 1)], message: 7), at: Self.t0).isEmpty)
    #expect(machine.step(.acked(through: 6), at: Self.t0).isEmpty)
    calls = Self.calls(machine.step(.acked(through: 7), at: Self.t0))
    #expect(calls.map(\.1) == [.remove([Array(Self.letter(1).text.utf8)], by: Self.range)])
    #expect(!machine.isIdle)
    #expect(machine.step(.replied(calls[0].0, .removed), at: Self.t0).isEmpty)
    #expect(machine.isIdle && machine.boxes.isEmpty)
  }

  @Test(
    "how far a list has come is noted, the pipeline told when it is, and a list goes on from there")
  func lists() throws {
    var machine = Self.machine(here: [42])
    let id = CommandID(high: 9, low: 1)
    var command = Clusterdriver_V1_Command()
    command.list.commands = [Clusterdriver_V1_Command](
      repeating: .with { $0.queryStatus = .init() }, count: 30)
    var opened = Self.opened(1)
    opened.body = command.wireBytes()
    opened.mark = .given(done: 12)
    var calls = Self.calls(machine.step(.rang([42]), at: Self.t0))
    let given = machine.step(.replied(calls[0].0, .opened([opened], read: 1)), at: Self.t0)
    guard case .give(let commands) = given.first, case .list(_, let done)? = commands[0].sequence
    else {
      Issue.record("not given: \(given)")
      return
    }
    #expect(done == 12 && commands[0].mayHaveBeenSent)
    calls = Self.calls(machine.step(.pipeline(.came(id, done: 20)), at: Self.t0))
    let note = MailboxCall.note([Self.letter(1)], done: [20], by: Self.range)
    #expect(calls.map(\.1) == [note])
    // It is asked again when it failed, unless there is news meanwhile.
    #expect(machine.step(.replied(calls[0].0, .failed), at: Self.t0).isEmpty)
    #expect(machine.step(.pipeline(.came(id, done: 28)), at: Self.t0).isEmpty)
    calls = Self.calls(machine.step(.tick, at: Self.at(.seconds(1))))
    #expect(calls.map(\.1) == [.note([Self.letter(1)], done: [28], by: Self.range)])
    let noted = machine.step(.replied(calls[0].0, .noted), at: Self.at(.seconds(1)))
    #expect(noted == [.noted([id], done: [28])])
    // Of one that has ended there is nothing to note.
    _ = machine.step(.pipeline(.ended(Self.result(1))), at: Self.at(.seconds(1)))
    #expect(machine.step(.pipeline(.came(id, done: 29)), at: Self.at(.seconds(1))).isEmpty)
    #expect(machine.toNote.isEmpty)
  }

  @Test(
    "for a controller that is away it is looked at only; it expires at its deadline, not before")
  func away() {
    var machine = Self.machine()
    var calls = Self.calls(machine.step(.rang([42]), at: Self.t0))
    let look = MailboxOpening(serial: 42, after: 0, count: 64, marks: false)
    #expect(calls.map(\.1) == [.open([look], by: nil)])
    #expect(
      machine.step(.replied(calls[0].0, .opened([Self.opened(1)], read: 1)), at: Self.t0).isEmpty)
    #expect(machine.step(.tick, at: Self.at(.milliseconds(4999))).isEmpty)
    let end = Self.at(.seconds(5))
    #expect(machine.wakeAt(Self.t0).map { $0 <= end.uptime } == true)
    calls = Self.calls(machine.step(.tick, at: end))
    #expect(calls.map(\.1) == [.open([look], by: nil)])
    calls = Self.calls(
      machine.step(.replied(calls[0].0, .opened([Self.opened(1)], read: 1)), at: end))
    guard case .decide(_, let results, _) = calls.first?.1 else {
      Issue.record("not decided: \(calls)")
      return
    }
    #expect(results.map(Self.status) == [.expired])
  }

  @Test(
    "past its deadline one with another owner's mark is offline: it may have been carried out",
    arguments: [(OpenedLetter.Mark.none, CommandStatus.expired), (.given(done: 0), .offline)])
  func marked(mark: OpenedLetter.Mark, status: CommandStatus) {
    var machine = Self.machine(here: [42])
    let calls = Self.calls(machine.step(.rang([42]), at: Self.at(.seconds(6))))
    let next = Self.calls(
      machine.step(
        .replied(calls[0].0, .opened([Self.opened(1, mark: mark)], read: 1)),
        at: Self.at(.seconds(6))))
    guard case .decide(_, let results, _) = next.first?.1 else {
      Issue.record("not decided: \(next)")
      return
    }
    #expect(results.map(Self.status) == [status])
  }

  @Test("a result that was decided by another owner goes on as it is, and no other is made")
  func decidedBefore() {
    var machine = Self.machine(here: [42])
    let calls = Self.calls(machine.step(.rang([42]), at: Self.t0))
    let former = Self.result(1, .refused).wireBytes
    let sent = machine.step(
      .replied(calls[0].0, .opened([Self.opened(1, mark: .result(former))], read: 1)), at: Self.t0)
    #expect(sent == [.send([CommandID(high: 9, low: 1)], [former])])
    var late = Self.machine(here: [42])
    let opening = Self.calls(late.step(.rang([42]), at: Self.t0))[0].0
    _ = late.step(.replied(opening, .opened([Self.opened(1)], read: 1)), at: Self.t0)
    let decision = Self.calls(late.step(.pipeline(.ended(Self.result(1))), at: Self.t0))[0].0
    let told = late.step(.replied(decision, .decided([.was(former)])), at: Self.t0)
    #expect(Self.statuses(told) == [.refused])
  }

  @Test("without a deadline it waits for seven days, and is offline then")
  func sevenDays() {
    for (days, isOver) in [(6, false), (8, true)] {
      var machine = Self.machine()
      let then = Self.at(.seconds(days * 86_400))
      let calls = Self.calls(machine.step(.rang([42]), at: then))
      let opening = calls.first { if case .open = $0.1 { true } else { false } }!
      let next = Self.calls(
        machine.step(
          .replied(opening.0, .opened([Self.opened(1, notAfter: nil)], read: 1)), at: then))
      let decided = next.compactMap { call -> [CommandStatus]? in
        guard case .decide(_, let results, _) = call.1 else { return nil }
        return results.map(Self.status)
      }
      #expect(decided == (isOver ? [[.offline]] : []))
    }
  }

  @Test("what rings for others' controllers costs nothing")
  func others() {
    var machine = Self.machine()
    #expect(machine.step(.rang([1001, 5000]), at: Self.t0).isEmpty)
    #expect(machine.boxes.isEmpty)
  }

  @Test("a range that is lost takes its letters along; a result that comes then is nobody's here")
  func lost() {
    var machine = Self.machine(here: [42])
    let calls = Self.calls(machine.step(.rang([42]), at: Self.t0))
    _ = machine.step(.replied(calls[0].0, .opened([Self.opened(1)], read: 1)), at: Self.t0)
    #expect(machine.step(.acting([]), at: Self.t0).isEmpty)
    #expect(machine.isIdle && machine.boxes.isEmpty)
    #expect(machine.step(.pipeline(.ended(Self.result(1))), at: Self.t0).isEmpty)
  }

  @Test("a call that failed is made again after a pause that doubles; nothing is asked meanwhile")
  func pauses() {
    var machine = Self.machine(here: [42])
    var number = Self.calls(machine.step(.rang([42]), at: Self.t0))[0].0
    var at = Duration.zero
    for pause in [100, 200, 400, 800, 1600, 2000, 2000] {
      #expect(machine.step(.replied(number, .failed), at: Self.at(at)).isEmpty)
      #expect(machine.step(.rang([42, 43]), at: Self.at(at + .milliseconds(pause - 1))).isEmpty)
      at += .milliseconds(pause)
      let again = Self.calls(machine.step(.tick, at: Self.at(at)))
      #expect(again.count == 1)
      number = again.first?.0 ?? 0
    }
  }

  @Test("however many controllers have letters, eight calls are under way at most")
  func calls() {
    var machine = Self.machine()
    var open = Self.calls(machine.step(.rang(Array(1...1000)), at: Self.t0))
    var most = open.count
    var controllers = 0
    while !open.isEmpty {
      let (number, call) = open.removeFirst()
      guard case .open(let openings, _) = call else {
        Issue.record("another call: \(call)")
        return
      }
      controllers += openings.count
      open += Self.calls(
        machine.step(.replied(number, .opened([], read: openings.count)), at: Self.t0))
      most = max(most, open.count)
    }
    #expect(most == 8 && controllers == 1000)
    #expect(machine.boxes.isEmpty)
  }

  @Test("of one controller 32 are given at a time, and as they end the next, in their order")
  func flow() {
    var machine = Self.machine(here: [42])
    let all = (1...100 as ClosedRange<UInt64>).map { Self.opened($0) }
    var given: [UInt64] = []
    var open = Self.calls(machine.step(.rang([42]), at: Self.t0))
    var under = 0
    var ended: UInt64 = 0
    for _ in 0..<2000 where ended < 100 {
      var directives: [MailboxMachine.Directive] = []
      if open.isEmpty {
        ended += 1
        under -= 1
        directives = machine.step(.pipeline(.ended(Self.result(ended))), at: Self.t0)
      } else {
        let (number, call) = open.removeFirst()
        guard case .open(let openings, _) = call else {
          // A result is being decided.
          open += Self.calls(machine.step(.replied(number, .decided([.ended])), at: Self.t0))
          continue
        }
        let base = Self.t0.utcMs * 1000
        let page = all.dropFirst(Int(openings[0].after > base ? openings[0].after - base : 0))
        directives = machine.step(
          .replied(number, .opened(Array(page.prefix(openings[0].count)), read: 1)), at: Self.t0)
      }
      for case .give(let commands) in directives {
        given += commands.map(\.id.low)
        under += commands.count
      }
      #expect(under <= 32)
      open += Self.calls(directives)
    }
    #expect(given == Array(1...100))
  }

  @Test("what is no letter is removed, and the letters behind it are read when it is gone")
  func junk() {
    var machine = Self.machine(here: [42])
    let text = Array("00000000000000000042 rubbish".utf8)
    let open = Self.calls(machine.step(.rang([42]), at: Self.t0))[0].0
    let reply = MailboxReply.opened([OpenedLetter(text: text, body: [], mark: .none)], read: 1)
    let calls = Self.calls(machine.step(.replied(open, reply), at: Self.t0))
    #expect(calls.map(\.1) == [.remove([text], by: Self.range)])
    _ = machine.step(.replied(calls[0].0, .removed), at: Self.t0)
    let again = Self.calls(machine.step(.tick, at: Self.at(.seconds(1))))
    #expect(
      again.map(\.1) == [
        .open([MailboxOpening(serial: 42, after: 0, count: 32, marks: true)], by: Self.range)
      ])
    _ = machine.step(.replied(again[0].0, .opened([], read: 1)), at: Self.at(.seconds(1)))
    #expect(machine.boxes.isEmpty && machine.counts.malformed == 1)
  }

  @Test("a letter's text is its place; what is none is no letter")
  func texts() {
    for (serial, number) in [(1, 0), (UInt64.max - 1, 9_999_999_999_999_999)] as [(UInt64, UInt64)]
    {
      let letter = Letter(serial: serial, number: number, id: CommandID(high: 0, low: 0xAB))
      #expect(letter.text.utf8.count == Letter.textBytes)
      #expect(Letter(text: Array(letter.text.utf8)) == letter)
    }
    let good = Self.letter(1).text
    for bad in [
      "", String(good.dropLast()), good + "0", good.replacing(" ", with: "_"),
      "x" + good.dropFirst(),
      good.dropLast() + "g", String(repeating: "0", count: 20) + good.dropFirst(20),
      String(repeating: "9", count: 20) + good.dropFirst(20),
    ] {
      #expect(Letter(text: Array(bad.utf8)) == nil, "\(bad)")
    }
  }
}

import Testing

@testable import ClusterDriver

/// The sequence machine with a model of what is around it: a controller that keeps Docs/PROTOCOL.md and
/// remembers no more results than it must, a holder that gives the sequence again, and nodes that die.
private struct SequenceWorld {
  enum Step: CaseIterable {
    /// The holder gives the sequence, with what it has kept; and it keeps what it was last told.
    case give, keep
    /// The controller does what was given first; and its oldest answer arrives.
    case act, answer
    /// What was given last does not reach the controller.
    case putBack
    case leave
    /// The node dies and another takes its place; the controller restarts.
    case die, restart
  }

  private struct Controller {
    var remembered: [(id: CommandID, body: [UInt8])] = []
    var carriedOut: [UInt8] = []
    var digest: [UInt8] = []
    var received: [UInt8] = []
    var inForce: [UInt8] = []
    var applied = 0
  }

  static let aheadMax = 2
  let sequence: ControllerCommand
  private var machine: SequenceMachine
  private var controller = Controller()
  private var posted: [ControllerCommand] = []
  private var answers: [FinishedCommand] = []
  private var kept = 0
  private var told = 0
  private(set) var finished: [FinishedCommand] = []
  private(set) var broken: String?

  init(_ sequence: ControllerCommand) {
    self.sequence = sequence
    self.machine = Self.machine()
  }

  static func machine() -> SequenceMachine {
    SequenceMachineTests.machine {
      $0.aheadMax = Self.aheadMax
      $0.tellAfter = 1
      $0.beginsMax = 1000
    }
  }

  mutating func apply(_ step: Step) {
    switch step {
    case .give:
      var command = self.sequence
      command.sequence?.resume(at: self.kept)
      self.happen(.taken(command, .attach))
    case .keep:
      self.kept = max(self.kept, self.told)
      self.happen(.kept(self.sequence.id, done: self.kept))
    case .act:
      guard !self.posted.isEmpty else { return }
      self.act(self.posted.removeFirst())
    case .answer:
      guard !self.answers.isEmpty else { return }
      self.happen(.ended(self.answers.removeFirst()))
    case .putBack:
      guard let last = self.posted.popLast() else { return }
      self.happen(.putBack(last.id))
    case .leave:
      self.happen(.leave(1...100))
    case .die:
      self.machine = Self.machine()
      self.posted = []
      self.answers = []
    case .restart:
      self.controller.digest = []
      self.controller.received = []
    }
  }

  private mutating func happen(_ event: SequenceMachine.Event) {
    for directive in self.machine.step(event, at: SequenceMachineTests.t0) {
      switch directive {
      case .give(let command):
        if self.posted.contains(where: { $0.id == command.id }) {
          self.broken = "given twice at once"
        }
        self.posted.append(command)
      case .finish(let result), .deliverAgain(let result):
        if !self.posted.isEmpty || !self.answers.isEmpty {
          self.broken = "ended with a step under way"
        }
        self.finished.append(result)
      case .tell(let standing):
        self.told = standing.done
      case .giveBack:
        if !self.posted.isEmpty || !self.answers.isEmpty { self.broken = "given back too early" }
      }
    }
    self.check()
  }

  /// As the protocol says it.
  private mutating func act(_ command: ControllerCommand) {
    var reason: UInt32 = 0
    var body = BigEndianBytes()
    let digest = Array(command.body.prefix(16))
    switch command.code {
    case 16:
      if digest == self.controller.inForce {
        body.append(UInt32(10))
        break
      }
      if digest != self.controller.digest {
        self.controller.digest = digest
        self.controller.received = []
      }
      body.append(UInt32(self.controller.received.count))
    case 17:
      let offset = command.body[16..<20].reduce(0) { $0 << 8 | Int($1) }
      let bytes = command.body[20...]
      if digest != self.controller.digest {
        reason = 7
      } else if offset + bytes.count > self.controller.received.count {
        if offset == self.controller.received.count {
          self.controller.received += bytes
        } else {
          reason = 6
        }
      }
      body.append(UInt32(self.controller.received.count))
    case 18:
      if digest == self.controller.inForce { break }
      if digest != self.controller.digest {
        reason = 7
      } else if self.controller.received.count < 10 {
        reason = 6
      } else {
        self.controller.inForce = digest
        self.controller.applied += 1
      }
    default:
      if !self.controller.remembered.contains(where: { $0.id == command.id }) {
        self.controller.carriedOut += command.body
        self.controller.remembered.append((command.id, []))
        if self.controller.remembered.count > Self.aheadMax {
          self.controller.remembered.removeFirst()
        }
      }
    }
    self.answers.append(
      FinishedCommand(
        id: command.id, serial: 42, door: .sequence, status: reason == 0 ? .done : .refused,
        reason: reason, body: body.bytes, atMs: 0, elapsedUs: 0))
  }

  private mutating func check() {
    let isInOrder =
      self.controller.carriedOut == (0..<self.controller.carriedOut.count).map { UInt8($0) }
    if !isInOrder { self.broken = "carried out \(self.controller.carriedOut)" }
    if self.controller.applied > 1 { self.broken = "applied twice" }
    for result in self.finished {
      guard result.status == .done else {
        self.broken = "\(result.status) for a reason that is none: \(result.reason)"
        continue
      }
      switch self.sequence.sequence {
      case .configuration(let configuration):
        if self.controller.inForce != configuration.digest {
          self.broken = "done, and not in force"
        }
      case .list(let commands, _):
        if self.controller.carriedOut.count < commands.count {
          self.broken = "done, and not all is"
        }
      case nil: break
      }
    }
    let counted = self.machine.held.values.reduce(0) { $0 + $1.underWay }
    if counted != self.machine.steps.count || counted != self.posted.count + self.answers.count {
      self.broken = "\(counted) steps under way by its count"
    }
  }

  /// When nothing more goes wrong.
  mutating func drain() {
    let before = self.finished.count
    for _ in 0..<100 where self.finished.count == before {
      for step in [Step.act, .answer, .keep, .give] { self.apply(step) }
    }
    if self.finished.count == before { self.broken = "it does not end" }
  }
}

@Suite("Sequences, in a world that goes wrong")
struct SequenceWorldTests {
  static let sequences = [
    SequenceMachineTests.list(of: 5), SequenceMachineTests.configuration(bytes: 10),
  ]

  @Test(
    "whatever happens in whatever order, what is done is done once and in order, and it ends",
    arguments: 0..<2)
  func exhaustive(kind: Int) {
    var worlds = 0
    func explore(_ world: SequenceWorld, _ path: [SequenceWorld.Step], depth: Int) {
      worlds += 1
      var end = world
      end.drain()
      if let broken = end.broken { Issue.record("\(path): \(broken)") }
      guard depth > 0 else { return }
      for step in SequenceWorld.Step.allCases {
        var next = world
        next.apply(step)
        if let broken = next.broken {
          Issue.record("\(path + [step]): \(broken)")
          continue
        }
        explore(next, path + [step], depth: depth - 1)
      }
    }
    var world = SequenceWorld(Self.sequences[kind])
    world.apply(.give)
    explore(world, [.give], depth: 4)
    #expect(worlds == 4681)
  }

  @Test("so it does on long ways, too", arguments: 0..<2)
  func random(kind: Int) {
    var dice = SplitMix64(seed: 42)
    for way in 0..<400 {
      var world = SequenceWorld(Self.sequences[kind])
      var path: [SequenceWorld.Step] = []
      for _ in 0..<80 {
        let common: [SequenceWorld.Step] = [.act, .answer, .act, .answer, .keep, .give]
        let step =
          UInt8.random(in: 0..<10, using: &dice) < 7
          ? common.randomElement(using: &dice)!
          : SequenceWorld.Step.allCases.randomElement(using: &dice)!
        path.append(step)
        world.apply(step)
        if world.broken != nil { break }
      }
      world.drain()
      if let broken = world.broken {
        Issue.record("way \(way), \(path): \(broken)")
        return
      }
    }
  }
}

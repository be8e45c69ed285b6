import Election
import Testing

@testable import ClusterDriver

/// Two nodes' command machines with a model of what is around them: a controller that is one node's at a
/// time and remembers what it answered, controller layers that keep their contract, leases that never
/// overlap, and a way between the nodes that loses questions and answers.
private struct CommandCluster {
  enum Step: CaseIterable {
    /// A command that both nodes hear, that one hears, that one will hear when it wakes.
    case publish, publishA, publishB, publishSleepingA, wakeA
    /// A's lease runs out: it does not know more. The controller becomes the other's; the former owner
    /// hears of it later, or at once.
    case fence, fail, move, tell
    case connect, disconnect
    case sends, expires, answers
    case passed, passLost, passAnswerLost
    case seconds
  }

  struct Node {
    var machine: CommandMachine
    var epoch: UInt64?
    var session: UInt64?
    var posted: [ControllerCommand] = []
    var sent: [(id: CommandID, answer: CommandStatus)] = []
    var batches: [PassBatch] = []
  }

  static let names = [NodeID("a"), NodeID("b")]
  static let start = CommandMachineTests.t0
  /// Of every command.
  static let notAfter = Self.start.utcMs + 3000

  var nodes: [Node]
  var now = Self.start
  var owner = 0
  var epoch: UInt64 = 1
  var sessions: UInt64 = 0
  var nextID: UInt64 = 0
  var sleeping: [ControllerCommand] = []
  /// What the controller answered to an id for the first time.
  var memory: [CommandID: CommandStatus] = [:]
  var carriedOut: [CommandID: Int] = [:]
  var given: Set<CommandID> = []
  /// By whom a command was ended, how, and under how manieth owner.
  var ends: [CommandID: [(node: Int, result: FinishedCommand, epoch: UInt64)]] = [:]
  var broken: String?

  init() {
    self.nodes = Self.names.map { Node(machine: CommandMachine(me: $0)) }
    self.own(0)
    self.tell()
  }

  // MARK: Owners

  mutating func own(_ i: Int) {
    self.owner = i
    self.nodes[i].epoch = self.epoch
    let range = OwnedRange(first: .lowest, last: .highest, epoch: Epoch(self.epoch))
    self.apply(.acts([range], until: self.now.uptime.advanced(by: .seconds(1000))), at: i)
  }

  /// Everybody sees what the store has.
  mutating func tell() {
    let former = 1 - self.owner
    if self.nodes[former].epoch != nil { self.lose(former) }
    for i in self.nodes.indices {
      if i == self.owner {
        self.apply(.acts(nil, until: self.now.uptime.advanced(by: .seconds(1000))), at: i)
      }
      let store = StoreIdentity("s")
      let record = RangeRecord(
        first: .lowest, last: .highest, owner: Owner(Self.names[self.owner], Incarnation(1)),
        epoch: Epoch(self.epoch), load: RangeLoad(), successors: [], move: nil, store: store,
        changed: self.epoch)
      self.apply(.owners([.lowest: record], store), at: i)
    }
  }

  mutating func lose(_ i: Int) {
    self.nodes[i].epoch = nil
    self.apply(.acts([], until: self.now.uptime.advanced(by: .seconds(1000))), at: i)
    self.endSession(of: i)
  }

  mutating func endSession(of i: Int) {
    guard let session = self.nodes[i].session else { return }
    self.nodes[i].session = nil
    let unsent = self.nodes[i].posted.map(\.id)
    self.nodes[i].posted = []
    self.nodes[i].sent = []
    for id in unsent { self.apply(.unsent(id, connection: session), at: i) }
    self.apply(.disconnected(serial: 42, connection: session), at: i)
  }

  // MARK: Machines

  mutating func apply(_ event: CommandMachine.Event, at i: Int) {
    self.perform(self.nodes[i].machine.step(event, at: self.now), at: i)
  }

  mutating func perform(_ directives: [CommandMachine.Directive], at i: Int) {
    for directive in directives {
      switch directive {
      case .post(let command):
        if self.nodes[i].posted.contains(where: { $0.id == command.id }) {
          self.broken = "posted twice at once"
        }
        if self.nodes[i].session == nil {
          self.apply(.notPosted(command.id, .notConnected), at: i)
        } else {
          self.nodes[i].posted.append(command)
        }
      case .finish(let result): self.ended(result, at: i)
      case .deliverAgain(let result):
        if !(self.ends[result.id] ?? []).contains(where: { $0.result == result }) {
          self.broken = "delivered again what was not delivered"
        }
      case .pass(let batch):
        if self.nodes[i].batches.contains(where: { $0.to == batch.to }) {
          self.broken = "two batches to one peer at once"
        }
        self.nodes[i].batches.append(batch)
      case .putBack: self.broken = "put back, and it is no letter"
      case .awaitResult, .tell, .tellMissing: break
      }
    }
  }

  mutating func ended(_ result: FinishedCommand, at i: Int) {
    let id = result.id
    for former in self.ends[id] ?? [] where former.result.status != result.status {
      // An owner that ends a command without its controller's word, and then loses the controller
      // before the deadline, cannot keep the next one from carrying out another copy of it.
      if former.result.status == .offline, former.epoch != self.epoch { continue }
      self.broken =
        "\(former.result.status) by \(former.node), \(result.status) by \(i)"
    }
    self.ends[id, default: []].append((i, result, self.epoch))
    if result.status == .done, self.carriedOut[id] == nil {
      self.broken = "done, yet nobody did it"
    }
    if result.status == .expired || result.status == .refused, self.carriedOut[id] != nil {
      self.broken = "\(result.status), yet it was carried out"
    }
    if self.nodes[i].machine.owners?.standing(of: 42, at: self.now.uptime)
      != .mine(Epoch(self.epoch)),
      result.status != .done, result.detail != CommandDetail.noOwner
    {
      self.broken = "ended as \(result.status) by one that is not its owner"
    }
  }

  // MARK: Steps

  mutating func publish() -> ControllerCommand {
    self.nextID += 1
    var command = CommandMachineTests.command(self.nextID)
    command.notAfterMs = Self.notAfter
    self.given.insert(command.id)
    return command
  }

  mutating func advance(_ duration: Duration) {
    // Whoever sleeps owns nothing for long.
    if self.owner == 0 { _ = self.take(.wakeA) }
    self.now = Moment(
      uptime: self.now.uptime.advanced(by: duration),
      utcMs: self.now.utcMs + duration.microseconds / 1000)
    for i in self.nodes.indices { self.apply(.tick, at: i) }
  }

  /// The layer of the owner, while its lease runs.
  func mayAct(_ i: Int) -> Bool {
    if case .mine = self.nodes[i].machine.standing(of: 42, at: self.now) { return i == self.owner }
    return false
  }

  /// False: the step cannot happen now.
  mutating func take(_ step: Step) -> Bool {
    switch step {
    case .publish, .publishA, .publishB, .publishSleepingA:
      guard self.nextID < 2 else { return false }
      let command = self.publish()
      if step == .publish || step == .publishA { self.apply(.taken(command, .redis), at: 0) }
      if step == .publishSleepingA { self.sleeping.append(command) }
      if step != .publishA { self.apply(.taken(command, .redis), at: 1) }
    case .wakeA:
      guard !self.sleeping.isEmpty else { return false }
      for command in self.sleeping { self.apply(.taken(command, .redis), at: 0) }
      self.sleeping = []
    case .fence:
      guard self.mayAct(self.owner) else { return false }
      self.apply(.acts(nil, until: self.now.uptime), at: self.owner)
    case .fail:
      // The former owner's lease has run out before, and it does not know more.
      guard self.nodes[1 - self.owner].epoch == nil else { return false }
      self.apply(.acts(nil, until: self.now.uptime), at: self.owner)
      self.epoch += 1
      self.own(1 - self.owner)
    case .move:
      guard self.nodes[1 - self.owner].epoch == nil else { return false }
      self.lose(self.owner)
      self.epoch += 1
      self.own(1 - self.owner)
    case .tell: self.tell()
    case .connect:
      guard self.mayAct(self.owner), self.nodes[self.owner].session == nil else { return false }
      self.endSession(of: 1 - self.owner)
      self.sessions += 1
      self.nodes[self.owner].session = self.sessions
      self.apply(.connected(serial: 42, connection: self.sessions), at: self.owner)
    case .disconnect:
      guard self.nodes[self.owner].session != nil else { return false }
      self.endSession(of: self.owner)
    case .sends: return self.send()
    case .expires:
      guard
        let i = self.nodes.indices.first(where: { i in
          self.nodes[i].posted.first.map { self.isLate($0) } ?? false
        })
      else { return false }
      let command = self.nodes[i].posted.removeFirst()
      self.apply(.expired(command.id), at: i)
    case .answers:
      guard let (id, status) = self.nodes[self.owner].sent.first else { return false }
      self.nodes[self.owner].sent.removeFirst()
      self.apply(.result(id, status: status, reason: 0, index: 0, body: []), at: self.owner)
    case .passed, .passLost, .passAnswerLost: return self.pass(step)
    case .seconds: self.advance(.seconds(2))
    }
    return true
  }

  func isLate(_ command: ControllerCommand) -> Bool {
    command.notAfterMs > ControllerCommand.notAfterPast && command.notAfterMs <= self.now.utcMs
  }

  mutating func send() -> Bool {
    let i = self.owner
    guard self.mayAct(i), let session = self.nodes[i].session,
      let command = self.nodes[i].posted.first, !self.isLate(command)
    else { return false }
    self.nodes[i].posted.removeFirst()
    if self.memory[command.id] == nil {
      let isPast = command.notAfterMs <= self.now.utcMs
      self.memory[command.id] = isPast ? .expired : .done
      if !isPast { self.carriedOut[command.id, default: 0] += 1 }
    }
    self.nodes[i].sent.append((command.id, self.memory[command.id]!))
    self.apply(.sent(command.id, connection: session), at: i)
    return true
  }

  mutating func pass(_ step: Step) -> Bool {
    guard let i = self.nodes.indices.first(where: { !self.nodes[$0].batches.isEmpty }) else {
      return false
    }
    let batch = self.nodes[i].batches.removeFirst()
    let peer = 1 - i
    if batch.to != Self.names[peer] { self.broken = "passed on to itself" }
    var answers: [PassAnswer] = []
    if step != .passLost {
      for command in batch.commands {
        let (answer, directives) = self.nodes[peer].machine.receive(command, at: self.now)
        answers.append(answer)
        self.perform(directives, at: peer)
      }
    }
    self.apply(
      .passed(to: batch.to, number: batch.number, step == .passed ? answers : nil), at: i)
    return true
  }

  /// Whatever happened: let everything come together and end, and see whether each command has its
  /// result.
  func brokenInTheEnd() -> String? {
    var world = self
    _ = world.take(.wakeA)
    world.tell()
    _ = world.take(.connect)
    for _ in 0..<12 {
      while world.take(.passed) || world.take(.expires) || world.take(.sends)
        || world.take(.answers)
      {
        if let broken = world.broken { return broken }
      }
      world.advance(.seconds(1))
      if let broken = world.broken { return broken }
    }
    if world.given != Set(world.ends.keys) { return "a command without a result" }
    if !world.nodes.allSatisfy(\.machine.isIdle) { return "something is pending for ever" }
    if let twice = world.carriedOut.first(where: { $0.value > 1 }) {
      return "\(twice.key) was carried out \(twice.value) times"
    }
    return nil
  }
}

@Suite("Command machines of two nodes")
struct CommandClusterTests {
  fileprivate typealias Step = CommandCluster.Step

  /// From where every sequence begins: with nothing, with a command that both have heard, with one that
  /// was sent, and with one that the former owner has yet to hear.
  fileprivate static let beginnings: [[Step]] = [
    [], [.connect, .publish], [.connect, .publishA, .sends], [.publishSleepingA, .fail, .connect],
  ]

  @Test("in every sequence of steps each command ends in one result, a true one, by its owner")
  func exhaustive() {
    var failures: [String] = []
    var count = 0
    func explore(_ world: CommandCluster, depth: Int, path: [Step]) {
      guard failures.isEmpty else { return }
      count += 1
      if let broken = world.broken ?? world.brokenInTheEnd() {
        failures.append("\(path.map { "\($0)" }): \(broken)")
        return
      }
      guard depth > 0 else { return }
      for step in Step.allCases {
        var next = world
        if next.take(step) { explore(next, depth: depth - 1, path: path + [step]) }
      }
    }
    for beginning in Self.beginnings {
      var world = CommandCluster()
      let isPossible = beginning.allSatisfy { world.take($0) }
      #expect(isPossible, "\(beginning.map { "\($0)" })")
      explore(world, depth: 3, path: beginning)
    }
    #expect(failures == [])
    #expect(count > 5_000)
  }

  @Test("so do long random runs", arguments: 0..<8)
  func random(seed: Int) {
    var random = SplitMix64(seed: UInt64(seed))
    for run in 0..<100 {
      var world = CommandCluster()
      var path: [Step] = []
      for _ in 0..<40 where world.broken == nil {
        let step = Step.allCases.randomElement(using: &random)!
        if world.take(step) { path.append(step) }
      }
      let broken = world.broken ?? world.brokenInTheEnd()
      #expect(broken == nil, "seed \(seed) run \(run): \(path.map { "\($0)" })")
      if broken != nil { return }
    }
  }
}

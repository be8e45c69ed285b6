import Testing

@testable import ClusterDriver

/// The command machine with a model of what is around it: a controller layer that keeps its contract,
/// and a controller that remembers what it carried out.
private struct CommandWorld {
  enum Step: CaseIterable {
    case takeA, takeB, connect, disconnect, disconnectLate, layerSends, layerExpires, answer
    case second, minute, stop
  }

  static let ids = [CommandID(high: 0, low: 1), CommandID(high: 0, low: 2)]

  var machine = CommandMachine()
  var now = CommandMachineTests.t0
  var session: UInt64?
  var sessions: UInt64 = 0
  var posted: [ControllerCommand] = []
  /// Sent, with what the controller answers.
  var sent: [(id: CommandID, answer: CommandStatus)] = []
  var carriedOut: Set<CommandID> = []
  var taken: Set<CommandID> = []
  var finished: [CommandID: FinishedCommand] = [:]
  var broken: String?

  mutating func apply(_ event: CommandMachine.Event) {
    self.perform(self.machine.step(event, at: self.now))
  }

  mutating func perform(_ directives: [CommandMachine.Directive]) {
    for directive in directives {
      switch directive {
      case .post(let command):
        if self.posted.contains(where: { $0.id == command.id }) {
          self.broken = "posted twice at once"
        }
        if self.session == nil {
          self.apply(.notPosted(command.id, .notConnected))
        } else {
          self.posted.append(command)
        }
      case .finish(let result):
        if self.finished[result.id] != nil { self.broken = "a second result" }
        if self.carriedOut.contains(result.id) {
          if result.status == .expired { self.broken = "expired, yet it was carried out" }
          if result.status == .refused { self.broken = "refused, yet it was carried out" }
        } else if result.status == .done {
          self.broken = "done, yet nobody did it"
        }
        self.finished[result.id] = result
      case .putBack:
        self.broken = "put back, and it is no letter"
      case .deliverAgain(let result):
        if self.finished[result.id] != result { self.broken = "another result the second time" }
      case .pass, .awaitResult, .tell, .tellMissing:
        self.broken = "a node on its own turned to others"
      }
    }
  }

  /// The end of the layer's session, told in either order.
  mutating func endSession(late: Bool) {
    guard let session = self.session else { return }
    self.session = nil
    let unsent = self.posted.map(\.id)
    self.posted = []
    self.sent = []
    if late { self.apply(.disconnected(serial: 42, connection: session)) }
    for id in unsent { self.apply(.unsent(id, connection: session)) }
    if !late { self.apply(.disconnected(serial: 42, connection: session)) }
  }

  mutating func advance(_ duration: Duration) {
    self.now = Moment(
      uptime: self.now.uptime.advanced(by: duration),
      utcMs: self.now.utcMs + duration.microseconds / 1000)
    self.apply(.tick)
  }

  /// The layer does not send it any more.
  func isLate(_ command: ControllerCommand) -> Bool {
    command.notAfterMs > ControllerCommand.notAfterPast && command.notAfterMs <= self.now.utcMs
  }

  /// False: the step cannot happen now.
  mutating func take(_ step: Step) -> Bool {
    switch step {
    case .takeA, .takeB:
      // A has a deadline, B has none.
      var command = CommandMachineTests.command(step == .takeA ? 1 : 2)
      command.id = Self.ids[step == .takeA ? 0 : 1]
      if step == .takeA { command.notAfterMs = CommandMachineTests.t0.utcMs + 5_000 }
      self.taken.insert(command.id)
      self.apply(.taken(command, .attach))
    case .connect:
      // With a session there already this is a newer one taking its place.
      let older = self.session
      let unsent = self.posted.map(\.id)
      self.sessions += 1
      self.session = self.sessions
      self.posted = []
      self.sent = []
      self.apply(.connected(serial: 42, connection: self.sessions))
      if let older {
        for id in unsent { self.apply(.unsent(id, connection: older)) }
        self.apply(.disconnected(serial: 42, connection: older))
      }
    case .disconnect, .disconnectLate:
      guard self.session != nil else { return false }
      self.endSession(late: step == .disconnectLate)
    case .layerSends:
      guard let session = self.session, let command = self.posted.first, !self.isLate(command)
      else { return false }
      self.posted.removeFirst()
      let asks = command.notAfterMs == ControllerCommand.notAfterPast
      if !asks { self.carriedOut.insert(command.id) }
      self.sent.append((command.id, self.carriedOut.contains(command.id) ? .done : .expired))
      self.apply(.sent(command.id, connection: session))
    case .layerExpires:
      guard let command = self.posted.first, self.isLate(command) else { return false }
      self.posted.removeFirst()
      self.apply(.expired(command.id))
    case .answer:
      guard let (id, status) = self.sent.first else { return false }
      self.sent.removeFirst()
      self.apply(.result(id, status: status, reason: 0, index: 0, body: []))
    case .second: self.advance(.seconds(1))
    case .minute: self.advance(.seconds(60))
    case .stop: self.apply(.stop)
    }
    return true
  }

  /// Whatever happened: let everything end, and see whether each command has its result.
  func brokenInTheEnd() -> String? {
    var world = self
    world.endSession(late: false)
    for _ in 0..<4 { world.advance(.seconds(121)) }
    if let broken = world.broken { return broken }
    if world.taken != Set(world.finished.keys) { return "a command without a result" }
    if !world.machine.isIdle { return "something is pending for ever" }
    return nil
  }
}

@Suite("Command machine among layer and controller")
struct CommandWorldTests {
  @Test("in every sequence of steps each command ends in exactly one result, and a true one")
  func exhaustive() {
    var failures: [String] = []
    var count = 0
    func explore(_ world: CommandWorld, depth: Int, path: [CommandWorld.Step]) {
      count += 1
      guard failures.isEmpty else { return }
      if let broken = world.broken ?? world.brokenInTheEnd() {
        failures.append("\(path): \(broken)")
        return
      }
      guard depth > 0 else { return }
      for step in CommandWorld.Step.allCases {
        var next = world
        if next.take(step) { explore(next, depth: depth - 1, path: path + [step]) }
      }
    }
    explore(CommandWorld(), depth: 5, path: [])
    #expect(failures == [])
    #expect(count > 10_000)
  }

  @Test("so do long random runs", arguments: 0..<8)
  func random(seed: Int) {
    var random = SplitMix64(seed: UInt64(seed))
    for run in 0..<300 {
      var world = CommandWorld()
      var path: [CommandWorld.Step] = []
      for _ in 0..<40 {
        let step = CommandWorld.Step.allCases.randomElement(using: &random)!
        if world.take(step) { path.append(step) }
      }
      let broken = world.broken ?? world.brokenInTheEnd()
      #expect(broken == nil, "seed \(seed) run \(run): \(path)")
      if broken != nil { return }
    }
  }
}

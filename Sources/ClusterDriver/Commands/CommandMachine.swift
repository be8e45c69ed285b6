/// What becomes of each command, from any door to its one result.
///
/// A value stepped by (event, now); the directives are carried out in order, and before the next
/// event is given. An id is worked on once: given again, by whatever door, it joins the one that
/// runs, or has the remembered result delivered again.
///
/// The controller layer knows who is connected, so a command is simply given to it. If there is no
/// session the command waits when the controller was here a moment ago, and is offline otherwise. A
/// command whose session ends is given to the next session under the same id: the controller carries
/// an id out once and repeats its answer. Order within a serial is kept: while older ones wait, new
/// ones wait behind them.
///
/// Invariant: an id is in `pending`, in `recent`, or unknown; it moves only in that direction, and
/// `finish` is said exactly once on the way from one to the other.
struct CommandMachine: Sendable {
  struct Settings: Sendable, Equatable {
    /// Commands without a result, in all and for one controller.
    var pendingMax = 65_536
    var pendingPerControllerMax = 256
    /// A controller that went away so recently is expected back.
    var grace: Duration = .seconds(2)
    /// How long a command that was sent may wait for its controller to come back.
    var reconnectLimit: Duration = .seconds(30)
    /// How long a connected controller may take to answer.
    var answerLimit: Duration = .seconds(120)
    var recentMax = 65_536
    var recentFor: Duration = .seconds(600)
    /// Deadlines are looked at no more often than this.
    var sweepEvery: Duration = .milliseconds(50)
  }

  enum PostFailure: Sendable, Equatable {
    case notConnected
    case queueFull
    case invalid(String)
  }

  enum Event: Sendable, Equatable {
    case taken(ControllerCommand, CommandDoor)
    /// A command that cannot be carried out as it stands, with a usable id.
    case unacceptable(CommandID, serial: UInt64, CommandDoor, detail: String)
    case notPosted(CommandID, PostFailure)
    case sent(CommandID, connection: UInt64)
    case expired(CommandID)
    case unsent(CommandID, connection: UInt64)
    case result(
      CommandID, status: CommandStatus, reason: UInt32, index: UInt32, body: [UInt8])
    case connected(serial: UInt64, connection: UInt64)
    case disconnected(serial: UInt64, connection: UInt64)
    case tick
    /// Take nothing more; what was not sent is refused.
    case stop
  }

  enum Directive: Sendable, Equatable {
    /// Give it to the controller layer; on failure answer with `notPosted` before anything else.
    case post(ControllerCommand)
    /// The result, for the vendor app and whoever waits.
    case finish(FinishedCommand)
    /// A result that was finished before, asked for again.
    case deliverAgain(FinishedCommand)
  }

  private enum Phase: Sendable, Equatable {
    /// With the controller layer, which will say what became of it.
    case posted
    case sent(connection: UInt64)
    /// For the controller's next session.
    case waiting
  }

  private struct Pending: Sendable {
    var command: ControllerCommand
    var door: CommandDoor
    /// The how manieth it was: the order in which they were taken.
    var number: UInt64
    var phase: Phase
    var takenAt: ContinuousClock.Instant
    /// Of the command itself; nil = none.
    var notAfter: ContinuousClock.Instant?
    /// When its present phase ends without a word from anybody; nil = the layer's to say.
    var phaseEndsAt: ContinuousClock.Instant?
    /// It may have been carried out.
    var wasSent = false
  }

  /// Of a controller that has commands, or left within the grace.
  private struct Controller: Sendable {
    var leftAt: ContinuousClock.Instant?
    /// In the order they were taken.
    var pending: [CommandID] = []
    /// Ids among `pending` that wait for a session.
    var waiting = 0
  }

  let settings: Settings
  private var pending: [CommandID: Pending] = [:]
  /// The newest session of each controller that is connected. Apart from `controllers`, because
  /// nearly all of them have nothing but this.
  private var sessions: [UInt64: UInt64] = [:]
  private var controllers: [UInt64: Controller] = [:]
  private var recent: RecentResults
  private var departures = Queue<(serial: UInt64, at: ContinuousClock.Instant)>()
  private var stopping = false
  private var nextSweepAt: ContinuousClock.Instant?
  private var lastSweepAt: ContinuousClock.Instant?

  /// Commands taken and finished since the start, answers to commands nobody knows (any more).
  private(set) var taken: UInt64 = 0
  private(set) var finished: UInt64 = 0
  private(set) var unknownResults: UInt64 = 0

  init(settings: Settings = Settings()) {
    self.settings = settings
    self.recent = RecentResults(max: settings.recentMax, keep: settings.recentFor)
  }

  var pendingCount: Int { self.pending.count }

  /// Commands that were sent and not answered: worth waiting for when stopping.
  var isIdle: Bool { self.pending.isEmpty }

  /// Whether nothing is with the controllers of these serials, or on its way to them.
  func isIdle(for serials: ClosedRange<UInt64>) -> Bool {
    !self.pending.contains {
      $0.value.phase != .waiting && serials.contains($0.value.command.serial)
    }
  }

  /// When `tick` is due.
  var wakeAt: ContinuousClock.Instant? {
    guard let next = self.nextSweepAt else { return nil }
    guard let last = self.lastSweepAt else { return next }
    return max(next, last.advanced(by: self.settings.sweepEvery))
  }

  mutating func step(_ event: Event, at now: Moment) -> [Directive] {
    switch event {
    case .taken(let command, let door):
      return self.take(command, by: door, at: now)
    case .unacceptable(let id, let serial, let door, let detail):
      return self.refuseUnknown(
        id, serial: serial, by: door, reason: DriverReason.badCommand, detail: detail, at: now)
    case .notPosted(let id, let failure):
      return self.notPosted(id, failure, at: now)
    case .sent(let id, let connection):
      return self.sent(id, connection: connection, at: now)
    case .expired(let id):
      guard let entry = self.pending[id], entry.phase == .posted else { return [] }
      // Expired on its second way: what became of it on its first is not known.
      if entry.wasSent { return self.giveUp(id, at: now) }
      return self.finish(id, .expired, detail: CommandDetail.expired, at: now)
    case .unsent(let id, let connection):
      return self.unsent(id, connection: connection, at: now)
    case .result(let id, let status, let reason, let index, let body):
      guard self.pending[id] != nil else {
        self.unknownResults += 1
        return []
      }
      return self.finish(id, status, reason: reason, index: index, body: body, at: now)
    case .connected(let serial, let connection):
      return self.connected(serial, connection: connection, at: now)
    case .disconnected(let serial, let connection):
      return self.disconnected(serial, connection: connection, at: now)
    case .tick:
      return self.tick(at: now)
    case .stop:
      return self.stop(at: now)
    }
  }

  // MARK: Taking

  private mutating func take(
    _ command: ControllerCommand, by door: CommandDoor, at now: Moment
  ) -> [Directive] {
    if self.pending[command.id] != nil { return [] }
    if let known = self.recent.result(of: command.id) {
      return [.deliverAgain(known)]
    }
    if self.stopping {
      return self.refuseUnknown(
        command.id, serial: command.serial, by: door, reason: DriverReason.stopping,
        detail: CommandDetail.stopping, at: now)
    }
    var controller = self.controllers[command.serial] ?? Controller()
    if self.pending.count >= self.settings.pendingMax
      || controller.pending.count >= self.settings.pendingPerControllerMax
    {
      return self.refuseUnknown(
        command.id, serial: command.serial, by: door, reason: DriverReason.tooManyPending,
        detail: self.pending.count >= self.settings.pendingMax
          ? CommandDetail.tooManyOnNode : CommandDetail.tooManyForController, at: now)
    }
    self.taken += 1
    var entry = Pending(
      command: command, door: door, number: self.taken, phase: .posted, takenAt: now.uptime)
    if command.notAfterMs != 0 { entry.notAfter = now.uptime(atUTC: command.notAfterMs) }
    controller.pending.append(command.id)
    self.controllers[command.serial] = controller
    self.pending[command.id] = entry
    if let notAfter = entry.notAfter, notAfter <= now.uptime {
      return self.finish(command.id, .expired, detail: CommandDetail.expired, at: now)
    }
    if controller.waiting > 0 {
      self.wait(command.id, until: now.uptime.advanced(by: self.settings.grace))
      return []
    }
    return [.post(command)]
  }

  private mutating func refuseUnknown(
    _ id: CommandID, serial: UInt64, by door: CommandDoor, reason: UInt32, detail: String,
    at now: Moment
  ) -> [Directive] {
    if self.pending[id] != nil { return [] }
    if let known = self.recent.result(of: id) { return [.deliverAgain(known)] }
    self.taken += 1
    let result = FinishedCommand(
      id: id, serial: serial, door: door, status: .refused, reason: reason, detail: detail,
      atMs: now.utcMs, elapsedUs: 0)
    return [self.remember(result, at: now)]
  }

  // MARK: The controller layer's answers

  private mutating func notPosted(
    _ id: CommandID, _ failure: PostFailure, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    switch failure {
    case .queueFull where !entry.wasSent:
      return self.finish(
        id, .refused, reason: DriverReason.tooManyPending,
        detail: CommandDetail.tooManyForController, at: now)
    case .invalid(let why) where !entry.wasSent:
      return self.finish(
        id, .refused, reason: DriverReason.badCommand, detail: why, at: now)
    case .notConnected, .queueFull, .invalid:
      return self.waitOrGiveUp(id, at: now)
    }
  }

  private mutating func sent(
    _ id: CommandID, connection: UInt64, at now: Moment
  ) -> [Directive] {
    guard var entry = self.pending[id], entry.phase == .posted else { return [] }
    entry.wasSent = true
    entry.phase = .sent(connection: connection)
    entry.phaseEndsAt = now.uptime.advanced(by: self.settings.answerLimit)
    self.pending[id] = entry
    self.sweep(by: entry.phaseEndsAt!)
    let serial = entry.command.serial
    // The session's end may be known already: messages of two sessions of one controller can come
    // from two threads of the layer.
    guard self.sessions[serial] == connection else {
      return self.sessionEnded(connection, of: serial, at: now)
    }
    return []
  }

  private mutating func unsent(
    _ id: CommandID, connection: UInt64, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    let serial = entry.command.serial
    if let current = self.sessions[serial], current != connection,
      self.controllers[serial]?.waiting == 0, !self.stopping
    {
      return [.post(entry.command)]
    }
    return self.waitOrGiveUp(id, at: now)
  }

  // MARK: Sessions

  private mutating func connected(
    _ serial: UInt64, connection: UInt64, at now: Moment
  ) -> [Directive] {
    self.sessions[serial] = connection
    guard var controller = self.controllers[serial] else { return [] }
    controller.leftAt = nil
    let waiting = controller.waiting
    controller.waiting = 0
    self.controllers[serial] = controller.pending.isEmpty ? nil : controller
    guard waiting > 0 else { return [] }
    var directives: [Directive] = []
    for id in controller.pending where self.pending[id]?.phase == .waiting {
      self.pending[id]!.phase = .posted
      self.pending[id]!.phaseEndsAt = nil
      directives.append(.post(self.pending[id]!.command))
    }
    return directives
  }

  private mutating func disconnected(
    _ serial: UInt64, connection: UInt64, at now: Moment
  ) -> [Directive] {
    if self.sessions[serial] == connection {
      self.sessions[serial] = nil
      self.controllers[serial, default: Controller()].leftAt = now.uptime
      self.departures.append((serial: serial, at: now.uptime))
      self.sweep(by: now.uptime.advanced(by: self.settings.grace))
    }
    return self.sessionEnded(connection, of: serial, at: now)
  }

  /// What was sent by that session goes to the next one: at once if it is here already.
  private mutating func sessionEnded(
    _ connection: UInt64, of serial: UInt64, at now: Moment
  ) -> [Directive] {
    guard let controller = self.controllers[serial], !controller.pending.isEmpty else { return [] }
    let isHere = self.sessions[serial].map { $0 != connection } ?? false
    var directives: [Directive] = []
    for id in controller.pending where self.pending[id]?.phase == .sent(connection: connection) {
      if self.stopping {
        directives += self.giveUp(id, at: now)
      } else if isHere {
        self.pending[id]!.phase = .posted
        self.pending[id]!.phaseEndsAt = nil
        directives.append(.post(self.pending[id]!.command))
      } else {
        self.wait(id, until: now.uptime.advanced(by: self.settings.reconnectLimit))
      }
    }
    return directives
  }

  // MARK: Waiting and giving up

  /// There is no session to give it to. One that was sent may wait for long; one that never was only
  /// while its controller is expected back within the grace.
  private mutating func waitOrGiveUp(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    let serial = entry.command.serial
    let leftAt =
      self.controllers[serial]?.leftAt ?? (self.sessions[serial] != nil ? now.uptime : nil)
    if self.stopping { return self.giveUp(id, at: now) }
    if entry.wasSent {
      self.wait(id, until: now.uptime.advanced(by: self.settings.reconnectLimit))
      return []
    }
    if let leftAt, now.uptime - leftAt < self.settings.grace {
      self.wait(id, until: leftAt.advanced(by: self.settings.grace))
      return []
    }
    return self.giveUp(id, at: now)
  }

  private mutating func wait(_ id: CommandID, until limit: ContinuousClock.Instant) {
    guard var entry = self.pending[id] else { return }
    if entry.phase != .waiting { self.controllers[entry.command.serial]?.waiting += 1 }
    entry.phase = .waiting
    entry.phaseEndsAt = entry.notAfter.map { min($0, limit) } ?? limit
    self.pending[id] = entry
    self.sweep(by: entry.phaseEndsAt!)
  }

  private mutating func giveUp(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    if entry.wasSent {
      return self.finish(id, .offline, detail: CommandDetail.noAnswer, at: now)
    }
    if self.stopping {
      return self.finish(
        id, .refused, reason: DriverReason.stopping, detail: CommandDetail.stopping, at: now)
    }
    if let notAfter = entry.notAfter, notAfter <= now.uptime {
      return self.finish(id, .expired, detail: CommandDetail.expired, at: now)
    }
    return self.finish(id, .offline, detail: CommandDetail.notConnected, at: now)
  }

  private mutating func sweep(by instant: ContinuousClock.Instant) {
    self.nextSweepAt = self.nextSweepAt.map { min($0, instant) } ?? instant
  }

  private mutating func tick(at now: Moment) -> [Directive] {
    guard let due = self.wakeAt, due <= now.uptime else { return [] }
    self.lastSweepAt = now.uptime
    self.nextSweepAt = nil
    var overdue: [CommandID] = []
    for (id, entry) in self.pending {
      guard let end = entry.phaseEndsAt else { continue }
      if end <= now.uptime { overdue.append(id) } else { self.sweep(by: end) }
    }
    // In the order they were taken, so that a run is the same whatever a dictionary's order is.
    overdue.sort { self.pending[$0]!.number < self.pending[$1]!.number }
    let directives = overdue.flatMap { self.giveUp($0, at: now) }
    while let departure = self.departures.first {
      let end = departure.at.advanced(by: self.settings.grace)
      guard end <= now.uptime else {
        self.sweep(by: end)
        break
      }
      _ = self.departures.popFirst()
      self.dropIfIdle(departure.serial, at: now.uptime)
    }
    return directives
  }

  private mutating func stop(at now: Moment) -> [Directive] {
    self.stopping = true
    let waiting = self.pending.filter { $0.value.phase == .waiting }
      .sorted { $0.value.number < $1.value.number }
    return waiting.flatMap { self.giveUp($0.key, at: now) }
  }

  // MARK: The end

  private mutating func finish(
    _ id: CommandID, _ status: CommandStatus, reason: UInt32 = 0, index: UInt32 = 0,
    body: [UInt8] = [], detail: String = "", at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending.removeValue(forKey: id) else { return [] }
    let serial = entry.command.serial
    if var controller = self.controllers.removeValue(forKey: serial) {
      if let place = controller.pending.firstIndex(of: id) { controller.pending.remove(at: place) }
      if entry.phase == .waiting { controller.waiting -= 1 }
      self.controllers[serial] = controller
      self.dropIfIdle(serial, at: now.uptime)
    }
    let result = FinishedCommand(
      id: id, serial: serial, door: entry.door, status: status, reason: reason, index: index,
      body: body, detail: detail, atMs: now.utcMs,
      elapsedUs: (now.uptime - entry.takenAt).microseconds)
    return [self.remember(result, at: now)]
  }

  private mutating func remember(_ result: FinishedCommand, at now: Moment) -> Directive {
    self.finished += 1
    self.recent.insert(result, at: now.uptime)
    return .finish(result)
  }

  private mutating func dropIfIdle(_ serial: UInt64, at now: ContinuousClock.Instant) {
    guard let controller = self.controllers[serial], controller.pending.isEmpty else { return }
    if let leftAt = controller.leftAt, now - leftAt < self.settings.grace { return }
    self.controllers[serial] = nil
  }
}

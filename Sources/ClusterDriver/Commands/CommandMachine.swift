import Election

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
/// In a cluster another node may have the same command, by the same `PUBLISH` or from a former owner.
/// So only the owner of the controller ends it by its own word; whoever is not, or is not sure, holds
/// it and passes it on (`CommandPassing.swift`). And an owner that cannot exclude that another one has
/// had it carried out lets the controller say how it ended (Docs/adr/0016-passing-commands-on.md).
///
/// Invariant: an id is in `pending`, in `recent`, or unknown; it moves only in that direction, except
/// that one a peer has taken becomes unknown here. `finish` is said exactly once on the way from the
/// one to the other, unless a peer has said it (`tell`).
struct CommandMachine: Sendable {
  struct Settings: Sendable, Equatable {
    /// Commands without a result, in all and for one controller.
    var pendingMax = 65_536
    var pendingPerControllerMax = 256
    /// Of these, commands that are not this node's to end.
    var awayMax = 4096
    /// A controller that went away so recently is expected back; one whose range came so recently is
    /// expected.
    var grace: Duration = .seconds(2)
    /// How long a command may wait for its controller to come back that was sent to it, or that another
    /// node may have had carried out.
    var reconnectLimit: Duration = .seconds(30)
    /// How long a connected controller may take to answer.
    var answerLimit: Duration = .seconds(120)
    /// How long a command that is not this node's to end is offered to its owner, whatever its
    /// deadline: the owner can still say how it ended.
    var passLimit: Duration = .seconds(60)
    /// After an owner did not take it; doubles with each time.
    var passAgainMin: Duration = .milliseconds(50)
    var passAgainMax: Duration = .milliseconds(500)
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
    /// For which serials the node acts, and until when. No ranges: for the same as before.
    case acts([OwnedRange]?, until: ContinuousClock.Instant?)
    /// What that store says of the ranges.
    case owners(SortedMap<Serial, RangeRecord>, StoreIdentity?)
    /// What a peer said to a batch; nil: nothing.
    case passed(to: NodeID, number: UInt64, [PassAnswer]?)
    /// How a command ended at a peer that had taken it; nil: it does not say.
    case awaited(CommandID, at: NodeID, FinishedCommand?)
    /// Somebody waits for its result on a peer's behalf.
    case wanted(CommandID)
    case tick
    /// Take nothing more; what was not sent is refused.
    case stop
    /// The process ends: what is held for others is given up.
    case end
  }

  enum Directive: Sendable, Equatable {
    /// Give it to the controller layer; on failure answer with `notPosted` before anything else.
    case post(ControllerCommand)
    /// The result, for the vendor app and whoever waits.
    case finish(FinishedCommand)
    /// A result that was finished before, asked for again.
    case deliverAgain(FinishedCommand)
    /// A letter's command, or a step of a sequence, that cannot be carried out now: it goes back without a
    /// result.
    case putBack(CommandID)
    /// Answer with `passed`.
    case pass(PassBatch)
    /// Answer with `awaited`.
    case awaitResult(CommandID, at: NodeID)
    /// A result of which a peer tells the vendor app: only for whoever waits here.
    case tell(FinishedCommand)
    /// Whoever waits for it here waits in vain: it is not known.
    case tellMissing(CommandID)
  }

  enum Phase: Sendable, Equatable {
    /// With the controller layer, which will say what became of it.
    case posted
    case sent(connection: UInt64)
    /// For the controller's next session.
    case waiting
    /// Not this node's to end; for its owner to be known, to be reached, or to take it.
    case held
    case passing(to: NodeID, number: UInt64)
    /// A peer has it, and somebody here waits for its result.
    case awaited(at: NodeID)

    var isWithLayer: Bool {
      switch self {
      case .posted, .sent: true
      case .waiting, .held, .passing, .awaited: false
      }
    }

    var isAway: Bool {
      switch self {
      case .posted, .sent, .waiting: false
      case .held, .passing, .awaited: true
      }
    }
  }

  struct Pending: Sendable {
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
    /// It may have been carried out by this node's doing, or by that of the peer that passed it on.
    var wasSent = false
    /// Under which this node had owned its controller for a while when it came in time from its giver.
    /// As long as it does, nobody else can have had it carried out.
    var epoch: Epoch?
    /// Another node may have it too, or may have had it carried out.
    var isShared = false
    /// Somebody here, or a peer on somebody's behalf, waits for its result.
    var isAwaited = false
    /// Whom to try instead of the owner that is known, and how often that was done in a row.
    var hint: NodeID?
    var hints = 0

    func isPast(at now: ContinuousClock.Instant) -> Bool {
      self.notAfter.map { $0 <= now } ?? false
    }
  }

  /// Of a controller that has commands, or left within the grace.
  struct Controller: Sendable {
    var leftAt: ContinuousClock.Instant?
    /// In the order they were taken.
    var pending: [CommandID] = []
    /// Ids among `pending` that are not with the controller layer.
    var waiting = 0
  }

  let settings: Settings
  /// Nil: the node is on its own, and all controllers are its own.
  var owners: OwnerTable?
  /// When ranges were last got.
  var gainedAt: ContinuousClock.Instant?
  var pending: [CommandID: Pending] = [:]
  /// Those in a phase that `isAway`.
  var away: Set<CommandID> = []
  var couriers: [NodeID: Courier] = [:]
  var batches: UInt64 = 0
  /// The newest session of each controller that is connected. Apart from `controllers`, because
  /// nearly all of them have nothing but this.
  var sessions: [UInt64: UInt64] = [:]
  var controllers: [UInt64: Controller] = [:]
  var recent: RecentResults
  var departures = Queue<(serial: UInt64, at: ContinuousClock.Instant)>()
  var stopping = false
  private var nextSweepAt: ContinuousClock.Instant?
  private var lastSweepAt: ContinuousClock.Instant?

  /// How many were taken, steps of sequences among them: the order of commands.
  var entered: UInt64 = 0
  /// Commands taken and finished since the start, without such steps; answers to commands nobody knows (any
  /// more).
  var taken: UInt64 = 0
  private(set) var finished: UInt64 = 0
  private(set) var unknownResults: UInt64 = 0

  /// - Parameter me: its name in its cluster, of which it owns nothing until it is told; nil: it is on
  ///   its own.
  init(settings: Settings = Settings(), me: NodeID? = nil) {
    self.settings = settings
    self.owners = me.map { OwnerTable(me: $0) }
    self.recent = RecentResults(max: settings.recentMax, keep: settings.recentFor)
  }

  var pendingCount: Int { self.pending.count }

  /// Commands that are not this node's to end.
  var awayCount: Int { self.away.count }

  /// Commands that were sent and not answered, or not passed on yet: worth waiting for when stopping.
  var isIdle: Bool { self.pending.isEmpty }

  /// Whether nothing is with the controllers of these serials, or on its way to them.
  func isIdle(for serials: ClosedRange<UInt64>) -> Bool {
    !self.pending.contains {
      $0.value.phase.isWithLayer && serials.contains($0.value.command.serial)
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
      return self.expired(id, at: now)
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
    case .acts(let ranges, let until):
      return self.acts(for: ranges, until: until, at: now)
    case .owners(let ranges, let store):
      self.owners?.see(ranges, in: store)
      return self.reconsider(at: now)
    case .passed(let node, let number, let answers):
      return self.passed(to: node, number: number, answers, at: now)
    case .awaited(let id, let node, let result):
      return self.awaited(id, at: node, result, at: now)
    case .wanted(let id):
      if let known = self.recent.result(of: id) { return [.tell(known)] }
      guard self.pending[id] != nil else { return [.tellMissing(id)] }
      self.pending[id]!.isAwaited = true
      return []
    case .tick:
      return self.tick(at: now)
    case .stop:
      return self.stop(at: now)
    case .end:
      return self.giveUpAway(at: now)
    }
  }

  /// Whose the controller is at this instant.
  func standing(of serial: UInt64, at now: Moment) -> OwnerTable.Standing {
    self.owners?.standing(of: serial, at: now.uptime) ?? .mine(.none)
  }

  /// Whether the controller is this node's, and has been since the command came in time from its
  /// giver: then nobody else can have had it carried out.
  func isSole(_ entry: Pending, at now: Moment) -> Bool {
    // Whoever keeps it says whether anybody has sent it, and gives it to the owner only.
    if entry.door.keeps, case .mine = self.standing(of: entry.command.serial, at: now) {
      return !entry.wasSent && !entry.isShared
    }
    guard let epoch = entry.epoch, !entry.wasSent, !entry.isShared else { return false }
    return self.standing(of: entry.command.serial, at: now) == .mine(epoch)
  }

  // MARK: Phases

  /// Puts a command into another phase, which ends by itself at `end`.
  mutating func put(_ id: CommandID, in phase: Phase, until end: ContinuousClock.Instant?) {
    guard var entry = self.pending[id] else { return }
    let serial = entry.command.serial
    if entry.phase.isWithLayer != phase.isWithLayer {
      self.controllers[serial]?.waiting += phase.isWithLayer ? -1 : 1
    }
    if phase.isAway { self.away.insert(id) } else if entry.phase.isAway { self.away.remove(id) }
    entry.phase = phase
    entry.phaseEndsAt = end
    self.pending[id] = entry
    if let end { self.sweep(by: end) }
  }

  /// With the controller layer: the directive for it.
  mutating func post(_ id: CommandID) -> [Directive] {
    self.put(id, in: .posted, until: nil)
    return self.pending[id].map { [.post($0.command)] } ?? []
  }

  mutating func sweep(by instant: ContinuousClock.Instant) {
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
    var directives = self.inOrder(overdue).flatMap { self.overdue($0, at: now) }
    while let departure = self.departures.first {
      let end = departure.at.advanced(by: self.settings.grace)
      guard end <= now.uptime else {
        self.sweep(by: end)
        break
      }
      _ = self.departures.popFirst()
      self.dropIfIdle(departure.serial, at: now.uptime)
    }
    directives += self.dispatch(at: now)
    return directives
  }

  /// In the order they were taken, so that a run is the same whatever a dictionary's order is.
  func inOrder(_ ids: [CommandID]) -> [CommandID] {
    guard ids.count > 1 else { return ids }
    return ids.sorted { (self.pending[$0]?.number ?? 0) < (self.pending[$1]?.number ?? 0) }
  }

  // MARK: The end

  mutating func finish(
    _ id: CommandID, _ status: CommandStatus, reason: UInt32 = 0, index: UInt32 = 0,
    body: [UInt8] = [], detail: String = "", at now: Moment
  ) -> [Directive] {
    guard let entry = self.remove(id, at: now) else { return [] }
    let result = FinishedCommand(
      id: id, serial: entry.command.serial, door: entry.door, status: status, reason: reason,
      index: index, body: body, detail: detail, atMs: now.utcMs,
      elapsedUs: (now.uptime - entry.takenAt).microseconds)
    return [self.remember(result, at: now)]
  }

  /// It is unknown from now on.
  @discardableResult
  mutating func remove(_ id: CommandID, at now: Moment) -> Pending? {
    guard let entry = self.pending.removeValue(forKey: id) else { return nil }
    self.away.remove(id)
    let serial = entry.command.serial
    if var controller = self.controllers.removeValue(forKey: serial) {
      if let place = controller.pending.firstIndex(of: id) { controller.pending.remove(at: place) }
      if !entry.phase.isWithLayer { controller.waiting -= 1 }
      self.controllers[serial] = controller
      self.dropIfIdle(serial, at: now.uptime)
    }
    return entry
  }

  mutating func remember(_ result: FinishedCommand, at now: Moment) -> Directive {
    // A step's result is the sequence's to remember. Given again, the step is the controller's to answer.
    if result.door == .sequence { return .finish(result) }
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

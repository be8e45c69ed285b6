/// What becomes of each command sequence this node has, from its holder to its one result.
///
/// A value stepped by (event, now); the directives are carried out in order, and before the next event is
/// given. A sequence is carried out by giving its steps to the command pipeline, which knows controllers,
/// owners and deadlines; this machine knows order only. A list's next command is given when the one before
/// is done. A configuration is begun, which says what the controller has of it, sent in chunks from there,
/// and committed.
///
/// The sequence stays with its holder, the vendor app or the mailbox, until it has its result. So a node
/// keeps none that it cannot get on with: a step that the pipeline puts back (its controller has gone, or is
/// another node's) ends the node's part, and the sequence is given back without a result, to be given again to
/// whoever has the controller then. What a controller has of a configuration it says itself. Of a list the
/// holder knows how far it came: no command is given that lies more than `aheadMax` beyond what the holder has
/// kept, so that those which are given again are still among the results that the controller remembers
/// (Docs/adr/0018-command-sequences.md).
///
/// Invariant: an id is in `held`, in `recent`, or unknown; it leaves `held` by exactly one `finish` or
/// `giveBack`, and only when none of its steps is under way.
struct SequenceMachine: Sendable {
  struct Settings: Sendable, Equatable {
    /// Sequences that are carried out at a time, no two of them for one controller.
    var runningMax = 64
    /// Sequences the node has, in all and for one controller, and bytes of them.
    var heldMax = 1024
    var heldPerControllerMax = 16
    var bytesMax = 64 << 20
    /// Chunks under way to one controller, and bytes in each.
    var window = 2
    var chunkBytes = CommandEncoding.bodyMax - 20
    /// Chunks of all transfers go no quicker than this, but for so many at once: transfers are not to take
    /// the processors from commands that somebody waits for.
    var chunkEvery: Duration = .microseconds(500)
    var chunksAtOnce = 32
    /// Times a transfer is begun before the controller is taken for one that cannot do it.
    var beginsMax: UInt32 = 16
    /// Of a list: commands done beyond what its holder has kept, and after how many it is told.
    var aheadMax = 16
    var tellAfter = 8
    /// Beyond that, progress is told no more often.
    var tellEvery: Duration = .seconds(1)
    var recentMax = 4096
    var recentFor: Duration = .seconds(600)
  }

  enum Event: Sendable, Equatable {
    case taken(ControllerCommand, CommandDoor)
    /// A step's result.
    case ended(FinishedCommand)
    /// A step that cannot be carried out now, without a result.
    case putBack(CommandID)
    /// The holder will give the list again with this `done`, or a higher one.
    case kept(CommandID, done: Int)
    /// These controllers are about to be another node's.
    case leave(ClosedRange<UInt64>)
    case tick
    /// Nothing more is begun.
    case stop
  }

  enum Directive: Sendable, Equatable {
    /// A step, to the pipeline: answer with `ended` or `putBack`.
    case give(ControllerCommand)
    case finish(FinishedCommand)
    /// A result that was finished before, asked for again.
    case deliverAgain(FinishedCommand)
    /// To the holder, to be kept, and to the vendor app.
    case tell(SequenceStanding)
    /// To the holder: it is not this node's any more.
    case giveBack(SequenceStanding, isAttached: Bool)
  }

  /// What a step of a sequence is.
  enum Kind: Sendable, Equatable {
    case begin, commit
    /// So much is done when it is.
    case part(through: Int)
  }

  struct Step: Sendable, Equatable {
    var sequence: CommandID
    var kind: Kind
  }

  enum Stage: Sendable, Equatable {
    /// For its turn, or to be begun again.
    case waiting
    case beginning
    /// Its commands, or its chunks.
    case sending
    case committing
  }

  /// What is done as soon as no step is under way any more.
  enum Turn: Sendable, Equatable {
    case begin
    case giveBack
    case end(CommandStatus, reason: UInt32, body: [UInt8], detail: String)
  }

  struct Held: Sendable {
    let command: ControllerCommand
    let content: SequenceContent
    /// By which it came first, and whether it came by the Attach stream, too.
    let door: CommandDoor
    var isAttached: Bool
    let takenAt: ContinuousClock.Instant
    /// The how manieth it was.
    let number: UInt64
    var stage = Stage.waiting
    var done = 0
    /// Of a list: what the holder has kept. Of a configuration: what is to be given next.
    var kept = 0
    var next = 0
    var begins: UInt32 = 0
    var underWay = 0
    /// Among those that wait for a chunk to be allowed.
    var isPaced = false
    var turn: Turn?
    var told: (done: Int, at: ContinuousClock.Instant)?

    mutating func isToLeave() {
      switch self.turn {
      case nil, .begin: self.turn = .giveBack
      case .giveBack, .end: break
      }
    }

    func standing(at now: Moment) -> SequenceStanding {
      SequenceStanding(
        id: self.command.id, serial: self.command.serial, done: self.done,
        total: self.content.total, atMs: now.utcMs)
    }
  }

  let settings: Settings
  var held: [CommandID: Held] = [:]
  var steps: [CommandID: Step] = [:]
  /// Those that wait for their turn, in the order they were taken.
  private var queue: [CommandID] = []
  /// Controllers that a sequence is being carried out for.
  private var running: Set<UInt64> = []
  private var heldFor: [UInt64: Int] = [:]
  /// When the last chunk given would have been due, had they come evenly; and who waits for the next, in order.
  var chunkDueAt: ContinuousClock.Instant?
  var paced: [CommandID] = []
  private var recent: RecentResults
  private var stopping = false

  /// Since the start: sequences taken, those that have their result, and those given back.
  private(set) var taken: UInt64 = 0
  private(set) var finished: UInt64 = 0
  private(set) var givenBack: UInt64 = 0
  /// Bytes of what is held.
  private(set) var bytes = 0

  init(settings: Settings = Settings()) {
    self.settings = settings
    self.recent = RecentResults(max: settings.recentMax, keep: settings.recentFor)
  }

  var isIdle: Bool { self.held.isEmpty }

  /// When `tick` is due.
  var wakeAt: ContinuousClock.Instant? { self.paced.isEmpty ? nil : self.chunkDueAt }

  func isStep(_ id: CommandID) -> Bool { self.steps[id] != nil }

  mutating func step(_ event: Event, at now: Moment) -> [Directive] {
    var directives: [Directive] = []
    switch event {
    case .taken(let command, let door):
      self.take(command, by: door, at: now, into: &directives)
    case .ended(let result):
      self.ended(result, at: now, into: &directives)
    case .putBack(let id):
      if let sequence = self.stepLeft(id, { held, _ in held.isToLeave() }) {
        self.goOn(sequence, at: now, into: &directives)
      }
    case .kept(let id, let done):
      guard let kept = self.held[id]?.kept, done > kept else { break }
      self.held[id]!.kept = done
      if self.held[id]!.stage == .sending { self.goOn(id, at: now, into: &directives) }
    case .leave(let serials):
      self.leave(at: now, into: &directives) { serials.contains($0) }
    case .tick:
      self.resumePaced(at: now, into: &directives)
    case .stop:
      self.stopping = true
      self.leave(at: now, into: &directives) { _ in true }
    }
    self.start(at: now, into: &directives)
    return directives
  }

  // MARK: Taking and starting

  private mutating func take(
    _ command: ControllerCommand, by door: CommandDoor, at now: Moment,
    into directives: inout [Directive]
  ) {
    guard let content = command.sequence else { return }
    if self.held[command.id] != nil {
      if door == .attach { self.held[command.id]!.isAttached = true }
      return
    }
    if let known = self.recent.result(of: command.id) {
      directives.append(.deliverAgain(known))
      return
    }
    var held = Held(
      command: command, content: content, door: door, isAttached: door == .attach,
      takenAt: now.uptime, number: self.taken + 1)
    if case .list(_, let done) = content {
      held.done = done
      held.kept = done
    }
    let serial = command.serial
    guard !self.stopping, self.held.count < self.settings.heldMax,
      self.heldFor[serial, default: 0] < self.settings.heldPerControllerMax,
      self.bytes + content.cost <= self.settings.bytesMax
    else {
      self.givenBack += 1
      directives.append(.giveBack(held.standing(at: now), isAttached: held.isAttached))
      return
    }
    self.taken += 1
    self.bytes += content.cost
    self.heldFor[serial, default: 0] += 1
    self.held[command.id] = held
    self.queue.append(command.id)
  }

  /// Those whose turn has come.
  private mutating func start(at now: Moment, into directives: inout [Directive]) {
    var place = 0
    while place < self.queue.count, self.running.count < self.settings.runningMax {
      let id = self.queue[place]
      guard self.running.insert(self.held[id]!.command.serial).inserted else {
        place += 1
        continue
      }
      self.queue.remove(at: place)
      self.goOn(id, at: now, into: &directives)
    }
  }

  private mutating func leave(
    at now: Moment, into directives: inout [Directive], where isMeant: (UInt64) -> Bool
  ) {
    let leaving = self.held.values.filter { isMeant($0.command.serial) }
    for held in leaving.sorted(by: { $0.number < $1.number }) {
      let id = held.command.id
      self.held[id]!.isToLeave()
      self.goOn(id, at: now, into: &directives)
    }
    self.queue = self.queue.filter { self.held[$0] != nil }
  }

  // MARK: The end

  mutating func finish(
    _ id: CommandID, _ status: CommandStatus, reason: UInt32 = 0, body: [UInt8] = [],
    detail: String = "", at now: Moment, into directives: inout [Directive]
  ) {
    guard let held = self.remove(id) else { return }
    let result = FinishedCommand(
      id: id, serial: held.command.serial, door: held.door, status: status, reason: reason,
      index: status == .done ? 0 : UInt32(held.done), body: body, detail: detail, atMs: now.utcMs,
      elapsedUs: (now.uptime - held.takenAt).microseconds)
    self.finished += 1
    self.recent.insert(result, at: now.uptime)
    directives.append(.finish(result))
  }

  mutating func giveBack(
    _ id: CommandID, at now: Moment, into directives: inout [Directive]
  ) {
    guard let held = self.remove(id) else { return }
    self.givenBack += 1
    directives.append(.giveBack(held.standing(at: now), isAttached: held.isAttached))
  }

  private mutating func remove(_ id: CommandID) -> Held? {
    guard let held = self.held.removeValue(forKey: id) else { return nil }
    let serial = held.command.serial
    self.bytes -= held.content.cost
    self.heldFor[serial]! -= 1
    if self.heldFor[serial] == 0 { self.heldFor[serial] = nil }
    // One that waits for its turn has not begun, and leaves the controller to the one that has.
    if held.stage != .waiting || !self.queue.contains(id) { self.running.remove(serial) }
    return held
  }
}

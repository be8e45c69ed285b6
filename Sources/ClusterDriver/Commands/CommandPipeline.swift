import CSystem
import DriverProtocol
import Election
import Logging
import SwiftProtobuf
import Synchronization

/// All doors' one way to the controllers: `CommandMachine` under a lock, the controller layer below
/// it, and for the results the outbox and whoever waits.
///
/// Any thread may call it. Commands are given to the controller layer inside the lock (it never
/// blocks), so that the order in which the machine says `post` is the order in which it happens.
final class CommandPipeline: Sendable {
  struct Waiter {
    var number: UInt64
    var continuation: CheckedContinuation<FinishedCommand, any Error>
  }

  struct State {
    var machine: CommandMachine
    var peers: (any CommandPeers)?
    var waiters: [CommandID: [Waiter]] = [:]
    var waiterNumber: UInt64 = 0
    var ration = RateLimit<CommandDoor>(burst: 5, every: .seconds(2))
    /// When the event thread means to call `tick`.
    var tickAt: ContinuousClock.Instant?
    /// Letters that were taken, whose ends the mailbox is told.
    var letters: Set<CommandID> = []
    var sequences = SequenceMachine()
    /// How far lists have come by what the vendor app was sent, in the order of the messages.
    var told = Queue<ToldStanding>()
    var mailbox: (@Sendable ([LetterEnd]) -> Void)?
    var copying = Copying()

    /// When `tick` is due.
    var wakeAt: ContinuousClock.Instant? {
      guard let steps = self.sequences.wakeAt else { return self.machine.wakeAt }
      return self.machine.wakeAt.map { min($0, steps) } ?? steps
    }
  }

  /// Commands by door and result.
  let metrics = CommandMetrics()
  let state: Mutex<State>
  let outbox: Outbox
  private let layer: any CommandLayer
  private let log: Logger

  /// - Parameter me: its name in its cluster; nil: the node is on its own.
  init(
    layer: any CommandLayer, outbox: Outbox, log: Logger,
    settings: CommandMachine.Settings = CommandMachine.Settings(), me: NodeID? = nil
  ) {
    self.layer = layer
    self.outbox = outbox
    self.log = log
    self.state = Mutex(State(machine: CommandMachine(settings: settings, me: me)))
  }

  // MARK: Doors

  /// From a controller's Redis channel: `payload` as published.
  func take(payload: [UInt8], channel: UInt64) {
    self.take(
      CommandEncoding.single(CommandPayload.decode(payload, channel: channel)), by: .redis)
  }

  /// From the vendor app's stream.
  func take(_ command: Clusterdriver_V1_Command) {
    self.take(CommandEncoding.encode(command), by: .attach)
  }

  /// From the mailbox: letters of one controller, in their order. What becomes of each is told to whom
  /// `mailbox` names, as `ended` or `putBack`; the result is then the mailbox's to pass on.
  func take(letters: [ControllerCommand]) {
    if self.outbox.isOverfull {
      let tell = self.state.withLock { $0.mailbox }
      tell?(letters.map { .putBack($0.id) })
      return
    }
    self.apply(letters.map { .taken($0, .mailbox) })
  }

  /// Called on any thread, in the order in which commands end; must not block. Set it once.
  func tellMailbox(_ tell: @escaping @Sendable ([LetterEnd]) -> Void) {
    self.state.withLock { $0.mailbox = tell }
  }

  /// Something came that is no command: `why`, for the log.
  func complain(_ why: String, serial: UInt64, door: CommandDoor) {
    let verdict = self.state.withLock { $0.ration.take(door, at: csys_clock_boottime()) }
    guard case .say(let suppressed) = verdict else { return }
    self.log.warning(
      "dropped a command: \(why)",
      metadata: [
        "serial": "\(serial)", "door": "\(door.rawValue)", "suppressed": "\(suppressed)",
      ])
  }

  /// From an operator: waits for the result. Cancelling the task stops the waiting, not the command.
  ///
  /// - Throws: `CancellationError`, or `CommandEncoding.Refusal` when there is no id to have a result.
  func send(_ command: Clusterdriver_V1_Command) async throws -> FinishedCommand {
    let encoded = CommandEncoding.single(CommandEncoding.encode(command))
    let id: CommandID
    let event: CommandMachine.Event
    switch encoded {
    case .success(let command):
      id = command.id
      event = .taken(command, .admin)
    case .failure(let refusal):
      guard let known = refusal.id else { throw refusal }
      id = known
      event = .unacceptable(known, serial: refusal.serial, .admin, detail: refusal.detail)
    }
    if self.outbox.isOverfull {
      return FinishedCommand(
        id: id, serial: command.serial, door: .admin, status: .refused,
        reason: DriverReason.tooManyPending,
        detail: CommandDetail.vendorBehind, atMs: Moment.utcMsNow(), elapsedUs: 0)
    }
    return try await self.result(of: id, after: event)
  }

  /// Waits for the result that the event leads to.
  func result(
    of id: CommandID, after event: CommandMachine.Event
  ) async throws -> FinishedCommand {
    let number = self.state.withLock { state in
      state.waiterNumber += 1
      return state.waiterNumber
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let isCancelled = self.state.withLock { state in
          if Task.isCancelled { return true }
          state.waiters[id, default: []].append(
            Waiter(number: number, continuation: continuation))
          return false
        }
        if isCancelled {
          continuation.resume(throwing: CancellationError())
        } else {
          self.apply([event])
        }
      }
    } onCancel: {
      self.cancelWaiter(id, number: number)
    }
  }

  private func take(
    _ command: Result<ControllerCommand, CommandEncoding.Refusal>, by door: CommandDoor
  ) {
    if self.outbox.isOverfull {
      // Its result could not be kept. To whoever sent it this is a command that was lost on the
      // way: the same id may be sent again.
      self.complain(CommandDetail.vendorBehind, serial: 0, door: door)
      return
    }
    switch command {
    case .success(let command):
      self.apply([.taken(command, door)])
    case .failure(let refusal):
      guard let id = refusal.id else {
        self.complain(refusal.detail, serial: refusal.serial, door: door)
        return
      }
      self.apply([.unacceptable(id, serial: refusal.serial, door, detail: refusal.detail)])
    }
  }

  private func cancelWaiter(_ id: CommandID, number: UInt64) {
    let waiter = self.state.withLock { state -> Waiter? in
      guard let place = state.waiters[id]?.firstIndex(where: { $0.number == number }) else {
        return nil
      }
      let waiter = state.waiters[id]!.remove(at: place)
      if state.waiters[id]!.isEmpty { state.waiters[id] = nil }
      return waiter
    }
    waiter?.continuation.resume(throwing: CancellationError())
  }

  // MARK: Events

  /// What happened to commands, sessions and ranges, in order.
  func apply(_ events: [CommandMachine.Event]) {
    guard !events.isEmpty else { return }
    self.change { state, now, effects in
      for event in events {
        switch event {
        case .taken(let command, let door):
          self.metrics.took(by: door)
          guard door == .mailbox else { break }
          // Letters come for one controller at a time: where one comes back at once, none behind it goes.
          if effects.isReturning {
            effects.letters.append(.putBack(command.id))
            continue
          }
          state.letters.insert(command.id)
        case .tick: effects.steps.append(.tick)
        case .stop:
          effects.steps.append(.stop)
          self.carryOutSequences(in: &state, at: now, &effects)
        case .unacceptable(_, _, let door, _): self.metrics.took(by: door)
        default: break
        }
        if case .taken(let command, let door) = event, command.sequence != nil {
          effects.steps.append(.taken(command, door))
        } else {
          self.carryOut(state.machine.step(event, at: now), in: &state, at: now, &effects)
        }
        self.carryOutSequences(in: &state, at: now, &effects)
      }
    }
  }

  /// No such command is known.
  struct NotHere: Error {}

  /// What is left to do when the lock is free.
  struct Effects {
    var finished: [FinishedCommand] = []
    var resumptions: [(Waiter, Result<FinishedCommand, any Error>)] = []
    var letters: [LetterEnd] = []
    /// One of them was put back.
    var isReturning = false
    /// For the sequences, in order.
    var steps = Queue<SequenceMachine.Event>()
    /// For the vendor app; and those that are not this node's any more.
    var told: [ToldStanding] = []
  }

  /// Changes the machine, and lets the world see what came of it.
  func change<Answer>(_ body: (inout State, Moment, inout Effects) -> Answer) -> Answer {
    let now = Moment.now()
    var effects = Effects()
    let (answer, wakes, tell) = self.state.withLock { state in
      let answer = body(&state, now, &effects)
      self.carryOutSequences(in: &state, at: now, &effects)
      guard let next = state.wakeAt else { return (answer, false, state.mailbox) }
      if let planned = state.tickAt, planned <= next { return (answer, false, state.mailbox) }
      state.tickAt = next
      return (answer, true, state.mailbox)
    }
    self.deliver(effects.finished)
    self.tell(effects.told)
    if !effects.letters.isEmpty { tell?(effects.letters) }
    for (waiter, result) in effects.resumptions { waiter.continuation.resume(with: result) }
    if wakes { self.layer.wake() }
    return answer
  }

  func carryOut(
    _ directives: [CommandMachine.Directive], in state: inout State, at now: Moment,
    _ effects: inout Effects
  ) {
    for directive in directives {
      switch directive {
      case .post(let command):
        let body =
          command.carriesNodeTime ? CommandEncoding.clockBody(utcMs: now.utcMs) : command.body
        if let failure = self.layer.post(command.believed(at: now), body: body) {
          self.carryOut(
            state.machine.step(.notPosted(command.id, failure), at: now), in: &state, at: now,
            &effects)
        }
      case .finish(let result) where result.door == .sequence:
        self.metrics.ended(result.status.end, by: .sequence, us: nil)
        effects.steps.append(.ended(result))
      case .finish(let result):
        self.metrics.ended(result.status.end, by: result.door, us: result.elapsedUs)
        self.finish(result, in: &state, &effects)
      case .deliverAgain(let result):
        self.finish(result, in: &state, &effects)
      case .putBack(let id) where state.sequences.isStep(id):
        effects.steps.append(.putBack(id))
      case .putBack(let id):
        effects.isReturning = true
        if state.letters.remove(id) != nil { effects.letters.append(.putBack(id)) }
      case .tell(let result):
        if state.letters.remove(result.id) != nil { effects.letters.append(.ended(result)) }
        self.resume(with: result, in: &state, &effects)
      case .tellMissing(let id):
        let waiters = state.waiters.removeValue(forKey: id) ?? []
        for waiter in waiters { effects.resumptions.append((waiter, .failure(NotHere()))) }
      case .pass(let batch):
        // One that came by another door as well: whoever it goes to may end it.
        for command in batch.commands where state.letters.remove(command.command.id) != nil {
          effects.letters.append(.putBack(command.command.id))
        }
        self.pass(batch, by: state.peers)
      case .awaitResult(let id, let node):
        self.awaitResult(of: id, at: node, by: state.peers)
      }
    }
  }

  func finish(
    _ result: FinishedCommand, in state: inout State, _ effects: inout Effects
  ) {
    let isLetter = state.letters.remove(result.id) != nil
    if isLetter { effects.letters.append(.ended(result)) }
    // The mailbox passes its own on; one that came by another door as well is told there, too.
    if !isLetter || result.door != .mailbox { effects.finished.append(result) }
    self.resume(with: result, in: &state, &effects)
  }

  private func resume(
    with result: FinishedCommand, in state: inout State, _ effects: inout Effects
  ) {
    guard let waiters = state.waiters.removeValue(forKey: result.id) else { return }
    for waiter in waiters { effects.resumptions.append((waiter, .success(result))) }
  }

  private func deliver(_ finished: [FinishedCommand]) {
    guard !finished.isEmpty else { return }
    self.outbox.append(results: finished.count, onlyHereSince: .now) { number in
      var message = Clusterdriver_V1_DriverMessage()
      message.number = number
      message.results.results = finished.map { Clusterdriver_V1_CommandResult($0) }
      return message.wireBytes()
    }
  }

  // MARK: Time

  /// Looks at the deadlines and returns when to look again. Of the event thread.
  func tick() -> ContinuousClock.Instant? {
    let isDue = self.state.withLock { state in
      guard let at = state.wakeAt else {
        state.tickAt = nil
        return false
      }
      state.tickAt = at
      return at <= .now
    }
    guard isDue else { return self.state.withLock { $0.tickAt } }
    self.state.withLock { $0.tickAt = nil }
    self.apply([.tick])
    return self.state.withLock { $0.tickAt }
  }

  /// Takes nothing more. Returns at once; `isIdle` says when all results are there.
  func stop() {
    self.apply([.stop])
  }

  /// The process ends: what is held for other nodes is given up.
  func end() {
    self.apply([.end])
  }

  var isIdle: Bool { self.state.withLock { $0.machine.isIdle && $0.sequences.isIdle } }

  /// Whether nothing is under way for these serials. O(commands pending).
  func isIdle(for serials: ClosedRange<UInt64>) -> Bool {
    self.state.withLock { $0.machine.isIdle(for: serials) }
  }

  /// Commands without a result, now.
  var pending: Int { self.state.withLock { $0.machine.pendingCount } }

  /// Of these, commands for controllers that are not this node's, now.
  var away: Int { self.state.withLock { $0.machine.awayCount } }

  /// Commands that have their result, since the start.
  var finished: UInt64 { self.state.withLock { $0.machine.finished + $0.sequences.finished } }
  var taken: UInt64 { self.state.withLock { $0.machine.taken + $0.sequences.taken } }
}

/// Where commands go; the controller layer, or a test's own.
protocol CommandLayer: Sendable {
  /// Nil: it was taken, and exactly one word of what became of it follows.
  func post(_ command: ControllerCommand, body: [UInt8]) -> CommandMachine.PostFailure?
  /// The event thread is to look at its deadlines anew.
  func wake()
}

extension ControllerLayer: CommandLayer {}

extension CommandStatus {
  var end: CommandMetrics.End {
    switch self {
    case .done: return .done
    case .refused: return .refused
    case .expired: return .expired
    case .offline: return .offline
    case .superseded: return .superseded
    }
  }
}

extension Message {
  /// The message in the wire format. Ours have no required fields, so this cannot fail.
  func wireBytes() -> [UInt8] {
    do {
      return try self.serializedBytes()
    } catch {
      preconditionFailure("a message without required fields could not be encoded: \(error)")
    }
  }
}

internal import DriverProtocol
internal import GRPCCore
internal import Synchronization

/// Sends commands by the Attach stream of the node that has the controller, and hands each result to
/// whoever waits for it.
///
/// A command whose stream ends before its result came is sent again when its node attaches again:
/// under the same id that is safe, and the result may have been lost with the stream. Of sequences see
/// CommandDesk+Sequences.swift.
final class CommandDesk: Sendable {
  static let waitingMax = 10_000
  /// Of sequences, in all.
  static let sequenceBytesMax = 256 << 20

  struct Waiting {
    var command: Clusterdriver_V1_Command
    /// By which it was sent; nil: no node has it.
    var stream: UInt64?
    var waiters: [CommandWaiter]
  }

  struct State {
    var waiting: [CommandID: Waiting] = [:]
    /// Those among them that are sequences, by controller.
    var sequences: [UInt64: [CommandID]] = [:]
    var sequenceBytes = 0
  }

  let directory: ControllerDirectory
  let roster: NodeRoster
  let state = Mutex(State())

  init(directory: ControllerDirectory, roster: NodeRoster) {
    self.directory = directory
    self.roster = roster
  }

  /// Sends and waits. At once OFFLINE when no attached node has the controller.
  func carryOut(_ command: Clusterdriver_V1_Command) async throws -> Clusterdriver_V1_CommandResult
  {
    guard let id = CommandID(command.id) else {
      throw RPCError(
        code: .invalidArgument,
        message: "A command's id has 16 bytes (a random UUID); this one has \(command.id.count).")
    }
    if command.isSequence { return try await keep(command, id) }
    guard let node = directory.node(of: command.serial) else {
      return .offline(command, "no node reports controller \(command.serial) online")
    }
    guard let stream = roster.stream(of: node) else {
      return .offline(
        command,
        "controller \(command.serial) was last online at node \(node), which is not attached")
    }
    let waiter = CommandWaiter()
    // Entered before it is sent: the result may come at once.
    let isFirst = try enter(waiter, id, command, stream: stream.id)
    defer { leave(waiter, id) }
    if isFirst, !stream.outbox.send(command) {
      throw RPCError(
        code: .resourceExhausted,
        message: "Node \(node) does not take commands as fast as they come; try again later.")
    }
    return try await waiter.resultUnlessCancelled()
  }

  func resolve(_ results: [Clusterdriver_V1_CommandResult]) {
    for result in results {
      guard let id = CommandID(result.id) else { continue }
      let entry = state.withLock { $0.remove(id) }
      for waiter in entry?.waiters ?? [] { waiter.finish(.success(result)) }
    }
  }

  /// Sends what waits for a stream that is no more.
  func attached(_ stream: AttachedStream) {
    let orphans = state.withLock { state in
      var orphans: [Clusterdriver_V1_Command] = []
      for (id, entry) in state.waiting where entry.stream.map(roster.isAttached) != true {
        guard directory.node(of: entry.command.serial) == stream.node.id else { continue }
        state.waiting[id]?.stream = stream.id
        orphans.append(entry.command)
      }
      return orphans
    }
    for command in orphans { _ = stream.outbox.send(command) }
  }

  /// Nobody waits any longer: the vendor app is stopping.
  func stop() {
    let entries = state.withLock { state in
      defer { state = State() }
      return Array(state.waiting.values)
    }
    for waiter in entries.flatMap(\.waiters) { waiter.finish(.failure(.stopping)) }
  }

  /// True when nobody waits for this id yet, that is when it is to be sent.
  func enter(
    _ waiter: CommandWaiter, _ id: CommandID, _ command: Clusterdriver_V1_Command, stream: UInt64?
  ) throws -> Bool {
    try state.withLock { state in
      if state.waiting[id] != nil {
        state.waiting[id]?.waiters.append(waiter)
        return false
      }
      guard state.waiting.count < Self.waitingMax,
        state.sequenceBytes + command.sequenceBytes <= Self.sequenceBytesMax
      else {
        throw RPCError(
          code: .resourceExhausted,
          message: "\(state.waiting.count) commands are waiting for their results already, "
            + "sequences of \(state.sequenceBytes) bytes among them.")
      }
      state.add(id, Waiting(command: command, stream: stream, waiters: [waiter]))
      return true
    }
  }

  func leave(_ waiter: CommandWaiter, _ id: CommandID) {
    state.withLock { state in
      state.waiting[id]?.waiters.removeAll { $0 === waiter }
      if state.waiting[id]?.waiters.isEmpty == true { state.remove(id) }
    }
  }
}

/// One caller waiting for one result.
final class CommandWaiter: Sendable {
  typealias Outcome = Result<Clusterdriver_V1_CommandResult, RPCError>

  private enum State {
    case idle
    case waiting(CheckedContinuation<Outcome, Never>)
    case finished(Outcome)
  }

  private let state = Mutex(State.idle)

  func result() async throws -> Clusterdriver_V1_CommandResult {
    let outcome = await withCheckedContinuation { continuation in
      let finished = state.withLock { state -> Outcome? in
        if case .finished(let outcome) = state { return outcome }
        state = .waiting(continuation)
        return nil
      }
      if let finished { continuation.resume(returning: finished) }
    }
    return try outcome.get()
  }

  func resultUnlessCancelled() async throws -> Clusterdriver_V1_CommandResult {
    try await withTaskCancellationHandler {
      try await withRPCCancellationHandler {
        try await result()
      } onCancelRPC: {
        self.cancel()
      }
    } onCancel: {
      cancel()
    }
  }

  /// The first outcome counts.
  func finish(_ outcome: Outcome) {
    let continuation = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
      switch state {
      case .finished:
        return nil
      case .idle:
        state = .finished(outcome)
        return nil
      case .waiting(let continuation):
        state = .finished(outcome)
        return continuation
      }
    }
    continuation?.resume(returning: outcome)
  }

  func cancel() {
    finish(
      .failure(
        RPCError(
          code: .cancelled,
          message: "No longer waiting. The command may still be carried out; "
            + "ask again under the same id for its result.")))
  }
}

extension Clusterdriver_V1_CommandResult {
  fileprivate static func offline(
    _ command: Clusterdriver_V1_Command, _ detail: String
  ) -> Clusterdriver_V1_CommandResult {
    var result = Clusterdriver_V1_CommandResult()
    result.id = command.id
    result.serial = command.serial
    result.status = .offline
    result.detail = detail
    result.atMs = .nowUTC
    return result
  }
}

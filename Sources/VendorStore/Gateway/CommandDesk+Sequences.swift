internal import DriverProtocol
internal import Synchronization

/// Command sequences: the desk keeps each until its result is there, and gives it to whichever node has the
/// controller then.
///
/// A node that cannot go on with a sequence gives it back; one that has died, or lost the controller and does
/// not know yet, does not. So a sequence is sent again when the controller is reported online by another
/// node, when its node attaches again, and a while after it was given back.
extension CommandDesk {
  private static let againAfter: Duration = .seconds(1)

  /// Gives it to whoever has the controller, now or later, and waits for its result.
  func keep(
    _ command: Clusterdriver_V1_Command, _ id: CommandID
  ) async throws -> Clusterdriver_V1_CommandResult {
    let waiter = CommandWaiter()
    let isFirst = try enter(waiter, id, command, stream: nil)
    defer { leave(waiter, id) }
    if isFirst { offer([id]) }
    return try await waiter.resultUnlessCancelled()
  }

  /// A node has told how far sequences are.
  func progressed(_ told: [Clusterdriver_V1_SequenceProgress], on stream: AttachedStream) {
    var returned: [CommandID] = []
    state.withLock { state in
      for progress in told {
        guard let id = CommandID(progress.id), let entry = state.waiting[id] else { continue }
        state.waiting[id]?.command.resume(at: progress.done)
        guard progress.returned, entry.stream == stream.id else { continue }
        state.waiting[id]?.stream = nil
        returned.append(id)
      }
    }
    offerLater(returned)
  }

  /// Sequences of controllers that have another node now go there.
  func reported(_ statuses: [Clusterdriver_V1_ControllerStatus]) {
    let moved = state.withLock { state in
      guard !state.sequences.isEmpty else { return [CommandID]() }
      var moved: [CommandID] = []
      for status in statuses where status.state == .online {
        guard let ids = state.sequences[status.serial], let stream = self.stream(of: status.serial)
        else { continue }
        for id in ids where state.waiting[id]?.stream != stream.id {
          state.waiting[id]?.stream = nil
          moved.append(id)
        }
      }
      return moved
    }
    offer(moved)
  }

  /// Sends those that no node has.
  private func offer(_ ids: [CommandID]) {
    let offers = state.withLock { state in
      ids.compactMap { id -> (AttachedStream, Clusterdriver_V1_Command)? in
        guard let entry = state.waiting[id], entry.stream == nil,
          let stream = self.stream(of: entry.command.serial)
        else { return nil }
        state.waiting[id]?.stream = stream.id
        return (stream, entry.command)
      }
    }
    var refused: [CommandID] = []
    for (stream, command) in offers where !stream.outbox.send(command) {
      guard let id = CommandID(command.id) else { continue }
      state.withLock { $0.waiting[id]?.stream = nil }
      refused.append(id)
    }
    offerLater(refused)
  }

  private func offerLater(_ ids: [CommandID]) {
    guard !ids.isEmpty else { return }
    Task {
      try? await Task.sleep(for: Self.againAfter)
      offer(ids)
    }
  }

  private func stream(of serial: UInt64) -> AttachedStream? {
    directory.node(of: serial).flatMap(roster.stream(of:))
  }
}

extension CommandDesk.State {
  mutating func add(_ id: CommandID, _ entry: CommandDesk.Waiting) {
    waiting[id] = entry
    guard entry.command.isSequence else { return }
    sequences[entry.command.serial, default: []].append(id)
    sequenceBytes += entry.command.sequenceBytes
  }

  @discardableResult
  mutating func remove(_ id: CommandID) -> CommandDesk.Waiting? {
    guard let entry = waiting.removeValue(forKey: id) else { return nil }
    guard entry.command.isSequence else { return entry }
    let serial = entry.command.serial
    sequences[serial]?.removeAll { $0 == id }
    if sequences[serial]?.isEmpty == true { sequences[serial] = nil }
    sequenceBytes -= entry.command.sequenceBytes
    return entry
  }
}

extension Clusterdriver_V1_Command {
  var isSequence: Bool {
    switch action {
    case .list, .configuration: true
    default: false
    }
  }

  /// About what it takes to keep; 0 for what is no sequence.
  var sequenceBytes: Int {
    switch action {
    case .list(let list): list.commands.reduce(0) { $0 + $1.raw.body.count + 128 }
    case .configuration(let configuration): configuration.content.count
    default: 0
    }
  }

  /// So many of a list are done, or more.
  mutating func resume(at done: UInt32) {
    guard case .list(var list)? = action else { return }
    list.done = max(list.done, done)
    action = .list(list)
  }
}

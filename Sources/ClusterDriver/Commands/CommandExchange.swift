import DriverProtocol
import Election
import SwiftProtobuf
import Synchronization

/// Commands that are passed on between nodes: the pipeline's way to its peers, and theirs to it.
extension CommandPipeline {
  // MARK: Whose the controllers are

  /// The way to the other nodes, from now on.
  func join(_ peers: any CommandPeers) {
    self.state.withLock { $0.peers = peers }
  }

  /// Acts for these ranges, and until when; nil: for those as before. When this returns, nothing is
  /// ended any more as the owner of a range that is missing.
  func act(for ranges: [OwnedRange]?, until: Instant?) {
    // In this order: should the thread stop between the two readings, the deadline comes early.
    let uptime = ContinuousClock.now
    self.apply([.acts(ranges, until: until.map { uptime.advanced(by: $0 - .now) })])
  }

  /// What that store says of the ranges.
  func see(_ ranges: SortedMap<Serial, RangeRecord>, in store: StoreIdentity?) {
    self.apply([.owners(ranges, store)])
  }

  // MARK: To peers

  func pass(_ batch: PassBatch, by peers: (any CommandPeers)?) {
    let tell: @Sendable ([PassAnswer]?) -> Void = { [weak self] answers in
      guard let self else { return }
      for place in batch.commands.indices {
        let isAnswered = answers?.count == batch.commands.count
        self.metrics.passed(isAnswered ? answers![place].pass : .unanswered)
      }
      self.apply([.passed(to: batch.to, number: batch.number, answers)])
    }
    // Not from here: the lock is held.
    guard let peers else { preconditionFailure("a node without peers has nobody to pass on to") }
    peers.pass(batch, tell: tell)
  }

  func awaitResult(of id: CommandID, at node: NodeID, by peers: (any CommandPeers)?) {
    guard let peers else { preconditionFailure("a node without peers has nobody to wait for") }
    peers.awaitResult(of: id, at: node) { [weak self] result in
      self?.apply([.awaited(id, at: node, result)])
    }
  }

  // MARK: From peers

  /// Commands that a peer passes on to this node; the answers are in their order.
  func receive(_ commands: [PassedCommand]) -> [PassAnswer] {
    // Their results could not be kept.
    let isOverfull = self.outbox.isOverfull
    return self.change { state, now, effects in
      commands.map { command in
        var answer = PassAnswer.busy
        if !isOverfull {
          let (said, directives) = state.machine.receive(command, at: now)
          answer = said
          if case .taken = said { self.metrics.took(by: .peer) }
          self.carryOut(directives, in: &state, at: now, &effects)
        }
        self.metrics.received(answer.pass)
        return answer
      }
    }
  }

  /// How a command ended, as soon as it has. Cancelling the task stops the waiting. Nil: it is not here.
  func result(of id: CommandID) async throws -> FinishedCommand? {
    do {
      return try await self.result(of: id, after: .wanted(id))
    } catch is NotHere {
      return nil
    }
  }
}

extension PassAnswer {
  fileprivate var pass: CommandMetrics.Pass {
    switch self {
    case .taken: .taken
    case .ended: .ended
    case .notMine: .notMine
    case .busy: .busy
    }
  }
}

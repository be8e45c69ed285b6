public import DriverProtocol
internal import Synchronization

/// A store that lives and dies with the process: for benchmarks and tests of what is around it.
///
/// Of each log it keeps what an audit needs (runs of sequence numbers, counts, the fingerprint), not
/// the records; of the newest records, as many as `eventsKept`, the batches they came in. So a
/// record costs no allocation and memory grows with the number of logs and of holes in them.
public final class MemoryEventStore: EventStore {
  fileprivate struct State {
    var records: MemoryRecords
    var fence = OwnerFence()
    var cards: [CardRule] = []
    var cardsVersion = 0
  }

  private let state: Mutex<State>

  public init(eventsKept: Int = 100_000) {
    state = Mutex(State(records: MemoryRecords(eventsKept: eventsKept)))
  }

  public func commit(_ group: [Submission]) throws -> CommitOutcome {
    try state.withLock { state in
      // Moved, not copied: a second owner would make every change copy the whole.
      var pass = CommitPass(sink: MemoryRecords(eventsKept: 0), fence: OwnerFence())
      swap(&pass.sink, &state.records)
      swap(&pass.fence, &state.fence)
      defer {
        swap(&pass.sink, &state.records)
        swap(&pass.fence, &state.fence)
      }
      try pass.apply(group)
      pass.fence.commit()
      for (submission, outcome) in zip(group, pass.outcome.messages) {
        guard case .events(let events) = submission.content else { continue }
        pass.sink.keep(events, fresh: outcome.fresh)
      }
      return pass.outcome
    }
  }

  public func committedThrough(_ node: NodeIdentity) async throws -> UInt64? {
    state.withLock { $0.records.cursors[node.id] }
      .flatMap { $0.incarnation == node.incarnation ? $0.through : nil }
  }

  public func controllers(serial: UInt64) async throws -> [Clusterdriver_V1_ControllerRecord] {
    state.withLock { state in
      let serials = serial == 0 ? state.fence.serials.sorted() : [serial]
      return serials.compactMap { state.records.controller($0, fence: state.fence) }
    }
  }

  public func events(_ query: EventQuery) async throws -> EventRows {
    state.withLock { $0.records.newest }.newest(matching: query)
  }

  public func audit(_ serials: ClosedRange<UInt64>) async throws -> [Clusterdriver_V1_LogAudit] {
    state.withLock { $0.records.audit(serials) }
  }

  public func result(id: CommandID) async throws -> Clusterdriver_V1_CommandResult? {
    state.withLock { $0.records.results[id] }
  }

  public func sequences(serial: UInt64) async throws -> [Clusterdriver_V1_SequenceRecord] {
    state.withLock { $0.records.sequences(serial: serial) }
  }

  public func progress(id: CommandID) async throws -> Clusterdriver_V1_SequenceProgress? {
    state.withLock { $0.records.sequences[id]?.progress }
  }

  public func cards(since version: Int?) async throws -> (version: Int, rules: [CardRule])? {
    state.withLock { $0.cardsVersion == version ? nil : ($0.cardsVersion, $0.cards) }
  }

  public func put(cards: [CardRule]) async throws {
    state.withLock { state in
      state.cards = CardTable(state.cards + cards).rules
      state.cardsVersion += 1
    }
  }

  public func remove(card: UInt64) async throws -> Int {
    state.withLock { state in
      let before = state.cards.count
      state.cards.removeAll { $0.card == card }
      state.cardsVersion += 1
      return before - state.cards.count
    }
  }

  public func close() throws {}
}

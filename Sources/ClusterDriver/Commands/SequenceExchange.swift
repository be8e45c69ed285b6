import DriverProtocol
import Synchronization

/// What the vendor app is told of a sequence.
struct ToldStanding: Sendable, Equatable {
  var standing: SequenceStanding
  /// The node has it no longer.
  var isReturned = false
  /// The message it was sent in; 0 = not yet.
  var message: UInt64 = 0
}

/// Command sequences in the pipeline: `SequenceMachine` beside `CommandMachine`, under the same lock.
extension CommandPipeline {
  /// Does what the sequences make of what has happened. Each step that is given may lead to the next, so it
  /// goes on until nothing more follows.
  func carryOutSequences(in state: inout State, at now: Moment, _ effects: inout Effects) {
    while let event = effects.steps.popFirst() {
      for directive in state.sequences.step(event, at: now) {
        switch directive {
        case .give(let command):
          self.metrics.took(by: .sequence)
          self.carryOut(
            state.machine.step(.taken(command, .sequence), at: now), in: &state, at: now, &effects)
        case .finish(let result):
          self.metrics.ended(result.status.end, by: result.door, us: nil)
          self.finish(result, in: &state, &effects)
        case .deliverAgain(let result):
          self.finish(result, in: &state, &effects)
        case .tell(let standing):
          effects.told.append(ToldStanding(standing: standing))
          if state.letters.contains(standing.id) {
            effects.letters.append(.came(standing.id, done: standing.done))
          }
        case .giveBack(let standing, let isAttached):
          if isAttached {
            effects.told.append(ToldStanding(standing: standing, isReturned: true))
          }
          if state.letters.remove(standing.id) != nil {
            effects.isReturning = true
            effects.letters.append(.putBack(standing.id))
          }
        }
      }
    }
  }

  // MARK: What the holder keeps

  /// Tells the vendor app how far sequences have come, in one message.
  func tell(_ told: [ToldStanding]) {
    guard !told.isEmpty else { return }
    var message = Clusterdriver_V1_DriverMessage()
    message.progress.sequences = told.map { Clusterdriver_V1_SequenceProgress($0) }
    self.outbox.append { number in
      message.number = number
      return message.wireBytes()
    }
    let number = message.number
    self.state.withLock { state in
      for var one in told where !state.letters.contains(one.standing.id) {
        one.message = number
        state.told.append(one)
      }
    }
    // It may have been acknowledged before it was noted here.
    self.acknowledged()
  }

  /// The vendor app has acknowledged something. Any thread; does not block.
  func acknowledged() {
    let through = self.outbox.ackedThrough
    let kept = self.state.withLock { state in
      var kept: [ToldStanding] = []
      // Two threads may have noted theirs the other way round; the older one then goes with the newer.
      while let first = state.told.first, first.message <= through {
        kept.append(first)
        _ = state.told.popFirst()
      }
      return kept
    }
    self.keep(kept.map { ($0.standing.id, $0.standing.done) })
  }

  /// So far lists have come by what their holder has on disk.
  func keep(_ kept: [(CommandID, Int)]) {
    guard !kept.isEmpty else { return }
    self.change { _, _, effects in
      for (id, done) in kept { effects.steps.append(.kept(id, done: done)) }
    }
  }

  /// These controllers are about to be another node's: of their sequences no further step is given.
  func leave(_ serials: ClosedRange<UInt64>) {
    self.change { _, _, effects in effects.steps.append(.leave(serials)) }
  }

  /// Of the sequences this node has, now, and of those it has given back.
  var sequences: CommandMetrics.Sequences {
    self.state.withLock { state in
      CommandMetrics.Sequences(
        held: UInt64(state.sequences.held.count), bytes: UInt64(state.sequences.bytes),
        givenBack: state.sequences.givenBack)
    }
  }
}

extension Clusterdriver_V1_SequenceProgress {
  init(_ told: ToldStanding) {
    self.init()
    self.id = .init(bytes: told.standing.id.bytes)
    self.serial = told.standing.serial
    self.done = UInt32(told.standing.done)
    self.total = UInt32(told.standing.total)
    self.atMs = told.standing.atMs
    self.returned = told.isReturned
  }
}

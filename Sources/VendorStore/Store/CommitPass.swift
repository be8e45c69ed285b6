internal import DriverProtocol

/// What became of a result.
enum ResultFate {
  case stored
  case repeated
  /// There is one under the same id with another status, this one.
  case conflicting(Int)
}

/// The primitive changes of a store; `CommitPass` decides which to make.
protocol RecordSink {
  /// Stores an event or a reset; false when its identity is there already.
  mutating func insert(_ row: EventRow, body: UnsafeRawBufferPointer) throws -> Bool
  /// Stores a gap, or extends the one that begins at the same seq; false when it says nothing new.
  mutating func insertGap(_ row: EventRow) throws -> Bool
  mutating func insert(_ result: Clusterdriver_V1_CommandResult) throws -> ResultFate
  /// Stores how far a sequence has come, if it is the first word of it or the furthest.
  mutating func put(_ progress: Clusterdriver_V1_SequenceProgress, node: String) throws
  /// Stores a controller's newest status, and the highest owner epoch seen with it.
  mutating func put(
    _ status: Clusterdriver_V1_ControllerStatus, node: String, ownerEpochMax: UInt64) throws
  mutating func raise(ownerEpoch: UInt64, of serial: UInt64) throws
  mutating func put(through number: UInt64, of node: NodeIdentity) throws
}

/// Decides what a group of messages changes in a store: the one place where "at least once" becomes
/// "once", for every kind of store.
///
/// Ordering contract: the messages of a stream are applied in the order of their numbers; a stream's
/// cursor is put after everything it covers. The caller commits sink and fence together, or rolls
/// back both.
struct CommitPass<Sink: RecordSink> {
  var sink: Sink
  var fence: OwnerFence
  private(set) var outcome = CommitOutcome()
  // Serials already noted as stale for the message at hand.
  private var staleSerials: Set<UInt64> = []

  init(sink: Sink, fence: OwnerFence) {
    self.sink = sink
    self.fence = fence
  }

  mutating func apply(_ group: [Submission]) throws {
    outcome.messages.reserveCapacity(group.count)
    var cursors: [NodeIdentity: UInt64] = [:]
    for submission in group {
      var result = SubmissionOutcome()
      if !staleSerials.isEmpty { staleSerials.removeAll() }
      switch submission.content {
      case .events(let events): try apply(events, of: submission, to: &result)
      case .results(let results): try apply(results, node: submission.node.id)
      case .statuses(let statuses): try apply(statuses, node: submission.node.id)
      case .progress(let progress):
        for sequence in progress { try sink.put(sequence, node: submission.node.id) }
      }
      cursors[submission.node] = max(cursors[submission.node] ?? 0, submission.number)
      outcome.messages.append(result)
    }
    for (node, through) in cursors { try sink.put(through: through, of: node) }
  }

  private mutating func apply(
    _ events: EventRows, of submission: Submission, to result: inout SubmissionOutcome
  ) throws {
    var stored = 0
    var chosen: [Int]?
    try events.rows.withUnsafeBufferPointer { rows in
      try events.bodies.withUnsafeBytes { bodies in
        for index in rows.indices {
          let isStored = try apply(rows[index], bodies, number: submission.number, to: &result)
          if isStored {
            stored += 1
            chosen?.append(index)
          } else if chosen == nil {
            chosen = Array(0..<index)
          }
        }
      }
    }
    outcome.counts.eventsStored += stored
    if let chosen { result.fresh = .some(chosen) }
  }

  /// True when the row was stored.
  @inline(__always)
  private mutating func apply(
    _ row: EventRow, _ bodies: UnsafeRawBufferPointer, number: UInt64,
    to result: inout SubmissionOutcome
  ) throws -> Bool {
    guard !row.flags.contains(.advisory) else {
      outcome.counts.advisories += 1
      return false
    }
    switch fence.admit(row.serial, ownerEpoch: row.ownerEpoch) {
    case .unchanged: break
    case .raised: try sink.raise(ownerEpoch: row.ownerEpoch, of: row.serial)
    case .stale(let seen):
      outcome.counts.eventsStale += 1
      if staleSerials.insert(row.serial).inserted {
        var entry = Clusterdriver_V1_StaleOwner()
        entry.serial = row.serial
        entry.ownerEpochSeen = seen
        entry.number = number
        result.stale.append(entry)
      }
      return false
    }
    let start = Int(row.bodyOffset)
    let body = UnsafeRawBufferPointer(rebasing: bodies[start..<start + Int(row.bodyCount)])
    let isNew =
      row.kind == .logGap ? try sink.insertGap(row) : try sink.insert(row, body: body)
    if !isNew { outcome.counts.eventsRepeated += 1 }
    return isNew
  }

  private mutating func apply(
    _ results: [Clusterdriver_V1_CommandResult], node: String
  ) throws {
    for result in results {
      switch try sink.insert(result) {
      case .stored: outcome.counts.resultsStored += 1
      case .repeated: outcome.counts.resultsRepeated += 1
      case .conflicting(let stored):
        outcome.counts.resultsConflicting += 1
        if outcome.contradictions.count < CommitOutcome.contradictionsMax {
          outcome.contradictions.append(Contradiction(result, by: node, stored: stored))
        }
      }
    }
  }

  private mutating func apply(
    _ statuses: [Clusterdriver_V1_ControllerStatus], node: String
  ) throws {
    for status in statuses {
      if fence.isNewest(StatusOrder(status), of: status.serial) {
        let epoch = fence[status.serial]?.ownerEpoch ?? status.ownerEpoch
        try sink.put(status, node: node, ownerEpochMax: epoch)
      } else {
        outcome.counts.statusesOutdated += 1
      }
    }
  }
}

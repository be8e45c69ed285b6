internal import DriverProtocol

/// The tables of the memory store.
struct MemoryRecords: RecordSink {
  private struct Log {
    var epoch: UInt32
    var tally = LogTally()
  }

  struct Cursor {
    var incarnation: UInt64
    var through: UInt64
  }

  private var serials: [UInt64: Int] = [:]
  // By the index in `serials`; nearly always one log each.
  private var logs: [[Log]] = []
  private var statuses: [UInt64: (status: Clusterdriver_V1_ControllerStatus, node: String)] = [:]
  private(set) var results: [CommandID: Clusterdriver_V1_CommandResult] = [:]
  private(set) var sequences: [CommandID: Clusterdriver_V1_SequenceRecord] = [:]
  private(set) var cursors: [String: Cursor] = [:]
  private(set) var newest: NewestEvents
  private var lastSerial: UInt64 = 0
  private var lastIndex = 0

  init(eventsKept: Int) { newest = NewestEvents(capacity: eventsKept) }

  @inline(__always)
  private mutating func place(_ serial: UInt64, _ epoch: UInt32) -> (serial: Int, log: Int) {
    if serial != lastSerial {
      lastIndex = index(of: serial)
      lastSerial = serial
    }
    if let last = logs[lastIndex].last, last.epoch == epoch {
      return (lastIndex, logs[lastIndex].count - 1)
    }
    return (lastIndex, log(epoch, at: lastIndex))
  }

  private mutating func index(of serial: UInt64) -> Int {
    if let index = serials[serial] { return index }
    serials[serial] = logs.count
    logs.append([])
    return logs.count - 1
  }

  /// Index of the log, made when it is not there; logs are sorted by epoch.
  private mutating func log(_ epoch: UInt32, at index: Int) -> Int {
    let place = logs[index].firstIndex { $0.epoch >= epoch } ?? logs[index].count
    if place == logs[index].count || logs[index][place].epoch != epoch {
      logs[index].insert(Log(epoch: epoch), at: place)
    }
    return place
  }

  mutating func insert(_ row: EventRow, body: UnsafeRawBufferPointer) -> Bool {
    let (serial, log) = place(row.serial, row.logEpoch)
    return logs[serial][log].tally.add(row, body: body)
  }

  mutating func insertGap(_ row: EventRow) -> Bool {
    let (serial, log) = place(row.serial, row.logEpoch)
    return logs[serial][log].tally.addGap(row.seq...row.throughSeq)
  }

  mutating func insert(_ result: Clusterdriver_V1_CommandResult) -> ResultFate {
    guard let id = CommandID(result.id) else { return .conflicting(0) }
    guard let first = results[id] else {
      results[id] = result
      return .stored
    }
    return first.status == result.status ? .repeated : .conflicting(first.status.rawValue)
  }

  mutating func put(_ progress: Clusterdriver_V1_SequenceProgress, node: String) {
    guard let id = CommandID(progress.id) else { return }
    if let old = sequences[id], old.progress.done > progress.done { return }
    sequences[id] = Clusterdriver_V1_SequenceRecord(progress, node: node)
  }

  func sequences(serial: UInt64) -> [Clusterdriver_V1_SequenceRecord] {
    sequences.filter { serial == 0 || $0.value.progress.serial == serial }
      .sorted { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }
      .map { id, record in
        var record = record
        if let result = results[id] { record.result = result }
        return record
      }
  }

  mutating func put(
    _ status: Clusterdriver_V1_ControllerStatus, node: String, ownerEpochMax: UInt64
  ) {
    statuses[status.serial] = (status, node)
  }

  mutating func raise(ownerEpoch: UInt64, of serial: UInt64) {
    // The fence, which lives as long as this, holds it.
  }

  mutating func put(through number: UInt64, of node: NodeIdentity) {
    if let old = cursors[node.id], old.incarnation == node.incarnation, old.through >= number {
      return
    }
    cursors[node.id] = Cursor(incarnation: node.incarnation, through: number)
  }

  /// Keeps a committed batch for queries.
  mutating func keep(_ events: EventRows, fresh: SubmissionOutcome.Fresh) {
    switch fresh {
    case .all: newest.append(events)
    case .some(let indexes): newest.append(events.subset(indexes))
    }
  }

  func controller(_ serial: UInt64, fence: OwnerFence) -> Clusterdriver_V1_ControllerRecord? {
    guard let head = fence[serial] else { return nil }
    var record = Clusterdriver_V1_ControllerRecord()
    record.status.serial = serial
    if let (status, node) = statuses[serial] {
      record.status = status
      record.nodeID = node
    }
    record.ownerEpochMax = head.ownerEpoch
    if let index = serials[serial], let log = logs[index].last {
      record.logEpoch = log.epoch
      record.storedSeq = log.tally.lastSeq
    }
    return record
  }

  func audit(_ range: ClosedRange<UInt64>) -> [Clusterdriver_V1_LogAudit] {
    serials.keys.filter(range.contains).sorted().flatMap { serial in
      logs[serials[serial] ?? 0].map { $0.tally.audit(serial: serial, logEpoch: $0.epoch) }
    }
  }
}

/// The newest batches of records, together about `capacity` records.
struct NewestEvents: Sendable {
  let capacity: Int
  private var batches: [EventRows] = []
  private var first = 0
  private var rows = 0

  init(capacity: Int) { self.capacity = capacity }

  mutating func append(_ events: EventRows) {
    guard capacity > 0, !events.isEmpty else { return }
    batches.append(events)
    rows += events.count
    while rows - batches[first].count >= capacity {
      rows -= batches[first].count
      batches[first] = EventRows()
      first += 1
    }
    // The emptied front is cut off when it is the larger part: O(1) per batch.
    if first > 64, first > batches.count / 2 {
      batches.removeFirst(first)
      first = 0
    }
  }

  func newest(matching query: EventQuery) -> EventRows {
    var found: [(batch: Int, row: Int)] = []
    for batch in first..<batches.count {
      for row in batches[batch].rows.indices where query.matches(batches[batch].rows[row]) {
        found.append((batch, row))
      }
    }
    found.sort { batches[$1.batch].rows[$1.row].isListedBefore(batches[$0.batch].rows[$0.row]) }
    var result = EventRows()
    for (batch, row) in found.prefix(query.limit) {
      result.append(batches[batch].rows[row], of: batches[batch])
    }
    return result
  }
}

extension Clusterdriver_V1_SequenceRecord {
  /// Of one that has not ended, as far as is known. That a node gave it back is news, and nothing to keep.
  init(_ progress: Clusterdriver_V1_SequenceProgress, node: String) {
    self.init()
    self.progress = progress
    self.progress.returned = false
    nodeID = node
  }
}

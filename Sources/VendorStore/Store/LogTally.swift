internal import DriverProtocol

/// What is stored of one log, as an audit tells it. The memory store keeps one per log; the SQLite
/// store builds one from the log's rows when asked.
struct LogTally: Sendable {
  private var stored = SeqSet()
  private var declaredGone = SeqSet()
  private var rows: UInt64 = 0
  private var fingerprintSum: UInt64 = 0

  /// Takes a row that is an event or a reset; false when its seq was there already.
  mutating func add(_ row: EventRow, body: UnsafeRawBufferPointer) -> Bool {
    guard stored.insert(row.seq) else { return false }
    rows &+= 1
    if row.kind == .event {
      fingerprintSum &+= Fingerprint(of: row, body: body).value
    }
    return true
  }

  /// Takes a row that the log holds a second time.
  mutating func addDuplicate() { rows &+= 1 }

  /// False when all of it was declared gone already.
  mutating func addGap(_ range: ClosedRange<UInt64>) -> Bool {
    let before = declaredGone
    declaredGone.insert(range)
    return declaredGone != before
  }

  /// Highest seq that is stored or declared gone.
  var lastSeq: UInt64 { max(stored.last ?? 0, declaredGone.last ?? 0) }

  func audit(serial: UInt64, logEpoch: UInt32) -> Clusterdriver_V1_LogAudit {
    let known = stored.union(declaredGone)
    let distinct = stored.count
    var audit = Clusterdriver_V1_LogAudit()
    audit.serial = serial
    audit.logEpoch = logEpoch
    audit.events = rows
    audit.firstSeq = known.first ?? 0
    audit.lastSeq = known.last ?? 0
    // A record that was stored after all is not counted as gone, so that
    // events + gap_records + holes is always last − first + 1.
    audit.gapRecords = known.count &- distinct
    if let first = known.first, let last = known.last {
      audit.holes = (last - first) &+ 1 &- known.count
    }
    audit.fingerprintSum = fingerprintSum
    audit.duplicates = rows &- distinct
    return audit
  }
}

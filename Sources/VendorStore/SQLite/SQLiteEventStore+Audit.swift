public import DriverProtocol
internal import GRDB

extension SQLiteEventStore {
  /// Reads every row of the logs: what it says is what is on the disk, not what was counted on the
  /// way there.
  public func audit(_ serials: ClosedRange<UInt64>) async throws -> [Clusterdriver_V1_LogAudit] {
    try await read { db in
      let auditor = try SQLiteAuditor(db)
      var audits: [Clusterdriver_V1_LogAudit] = []
      for half in serials.signedHalves {
        audits += try auditor.audit(half)
      }
      return audits
    }
  }
}

extension ClosedRange<UInt64> {
  /// The range as one or two ranges of the numbers as stored, in the order of the numbers meant.
  fileprivate var signedHalves: [ClosedRange<Int64>] {
    let middle = UInt64(Int64.max)
    var halves: [ClosedRange<Int64>] = []
    if lowerBound <= middle {
      halves.append(Int64(lowerBound)...Int64(Swift.min(upperBound, middle)))
    }
    if upperBound > middle {
      let lower = Swift.max(lowerBound, middle + 1)
      halves.append(Int64(bitPattern: lower)...Int64(bitPattern: upperBound))
    }
    return halves
  }
}

/// Tallies logs row by row, within one read transaction.
private struct SQLiteAuditor {
  private struct LogKey: Hashable {
    var serial: UInt64
    var epoch: UInt32
  }

  private let gaps: SQLiteStatement
  private let rows: SQLiteStatement
  private let duplicates: SQLiteStatement

  init(_ db: Database) throws {
    gaps = try SQLiteStatement(
      """
      SELECT serial, log_epoch, from_seq, through_seq FROM gaps WHERE serial BETWEEN ? AND ?
      """, on: db)
    // Only what the tally and the fingerprint need, in the order of the key.
    rows = try SQLiteStatement(
      """
      SELECT serial, log_epoch, seq, kind, occurred_at_ms, family, code, source_type,
        source_number, body
      FROM events WHERE serial BETWEEN ? AND ? ORDER BY serial, log_epoch, seq
      """, on: db)
    duplicates = try SQLiteStatement(
      """
      SELECT serial, log_epoch, sum(copies - 1) FROM (
        SELECT serial, log_epoch, count(*) AS copies FROM events WHERE serial BETWEEN ? AND ?
        GROUP BY serial, log_epoch, seq HAVING copies > 1)
      GROUP BY serial, log_epoch
      """, on: db)
  }

  func audit(_ serials: ClosedRange<Int64>) throws -> [Clusterdriver_V1_LogAudit] {
    var tallies: [LogKey: LogTally] = [:]
    gaps.bind(serials)
    try gaps.forEachRow { row in
      let key = LogKey(serial: row.uint64(0), epoch: row.narrow(1))
      let (from, through) = (row.uint64(2), row.uint64(3))
      if from <= through { _ = tallies[key, default: LogTally()].addGap(from...through) }
    }
    try tally(serials, into: &tallies)
    var copies: [LogKey: UInt64] = [:]
    duplicates.bind(serials)
    try duplicates.forEachRow { row in
      copies[LogKey(serial: row.uint64(0), epoch: row.narrow(1))] = row.uint64(2)
    }
    let keys = tallies.keys.sorted { ($0.serial, $0.epoch) < ($1.serial, $1.epoch) }
    return keys.compactMap { key in
      var audit = tallies[key]?.audit(serial: key.serial, logEpoch: key.epoch)
      audit?.duplicates = copies[key] ?? 0
      return audit
    }
  }

  private func tally(
    _ serials: ClosedRange<Int64>, into tallies: inout [LogKey: LogTally]
  ) throws {
    var key = LogKey(serial: 0, epoch: 0)
    var current = LogTally()
    rows.bind(serials)
    try rows.forEachRow { columns in
      let next = LogKey(serial: columns.uint64(0), epoch: columns.narrow(1))
      if next != key {
        if key.serial != 0 { tallies[key] = current }
        key = next
        current = tallies[next] ?? LogTally()
      }
      var row = EventRow()
      row.serial = key.serial
      row.logEpoch = key.epoch
      row.seq = columns.uint64(2)
      row.kind = RecordKind(rawValue: columns.narrow(3)) ?? .event
      row.occurredAt = columns.uint64(4)
      row.family = columns.narrow(5)
      row.code = columns.narrow(6)
      row.sourceType = columns.narrow(7)
      row.sourceNumber = columns.narrow(8)
      if !current.add(row, body: columns.blob(9)) { current.addDuplicate() }
    }
    if key.serial != 0 { tallies[key] = current }
  }
}

extension SQLiteStatement {
  fileprivate func bind(_ range: ClosedRange<Int64>) {
    bind(1, range.lowerBound)
    bind(2, range.upperBound)
  }
}

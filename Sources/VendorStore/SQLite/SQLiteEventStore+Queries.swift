public import DriverProtocol
internal import FoundationEssentials
internal import GRDB

extension SQLiteEventStore {
  public func committedThrough(_ node: NodeIdentity) async throws -> UInt64? {
    try await read { db in
      var through: UInt64?
      let statement = try SQLiteStatement(
        "SELECT through_number FROM nodes WHERE node_id = ? AND incarnation = ?", on: db)
      statement.bind(1, node.id)
      statement.bind(2, node.incarnation)
      try statement.forEachRow { through = $0.uint64(0) }
      return through
    }
  }

  public func controllers(serial: UInt64) async throws -> [Clusterdriver_V1_ControllerRecord] {
    try await read { db in
      // Serials from 2⁶³ on are negative as stored, and come last.
      let statement = try SQLiteStatement(
        """
        SELECT serial, owner_epoch_max, node_id, state, at_ms, owner_epoch, session_id, peer,
          model, firmware, log_epoch, oldest_seq, last_seq, acked_seq, capacity, reason
        FROM controllers WHERE ?1 = 0 OR serial = ?1 ORDER BY serial < 0, serial
        """, on: db)
      let newest = try SQLiteNewestRecord(db)
      statement.bind(1, serial)
      var records: [Clusterdriver_V1_ControllerRecord] = []
      try statement.forEachRow { row in
        var record = row.controllerRecord()
        (record.logEpoch, record.storedSeq) = try newest.of(record.status.serial)
        records.append(record)
      }
      return records
    }
  }

  public func events(_ query: EventQuery) async throws -> EventRows {
    try await read { db in
      var rows = EventRows()
      try SQLiteEventQuery(db, query, of: .events).collect(into: &rows)
      try SQLiteEventQuery(db, query, of: .gaps).collect(into: &rows)
      let newestFirst = rows.rows.indices.sorted { rows.rows[$1].isListedBefore(rows.rows[$0]) }
      return rows.subset(newestFirst.prefix(query.limit))
    }
  }

  public func result(id: CommandID) async throws -> Clusterdriver_V1_CommandResult? {
    try await read { db in
      var result: Clusterdriver_V1_CommandResult?
      let statement = try SQLiteStatement(
        """
        SELECT serial, status, reason, item, body, detail, at_ms, elapsed_us
        FROM results WHERE id = ?
        """, on: db)
      statement.bind(1, id.bytes)
      try statement.forEachRow { row in
        result = row.result(id: id.bytes, serial: row.uint64(0), from: 1)
      }
      return result
    }
  }
}

extension SQLiteColumns {
  /// Columns from `first` on: status, reason, item, body, detail, at_ms, elapsed_us.
  func result(id: Data, serial: UInt64, from first: Int32) -> Clusterdriver_V1_CommandResult {
    var result = Clusterdriver_V1_CommandResult()
    result.id = id
    result.serial = serial
    result.status = Clusterdriver_V1_CommandStatus(rawValue: narrow(first)) ?? .unspecified
    result.reason = narrow(first + 1)
    result.index = narrow(first + 2)
    result.body = Data(blob(first + 3))
    result.detail = text(first + 4)
    result.atMs = uint64(first + 5)
    result.elapsedUs = uint64(first + 6)
    return result
  }

  fileprivate func controllerRecord() -> Clusterdriver_V1_ControllerRecord {
    var record = Clusterdriver_V1_ControllerRecord()
    record.status.serial = uint64(0)
    record.ownerEpochMax = uint64(1)
    if isNull(2) { return record }
    record.nodeID = text(2)
    record.status.state = Clusterdriver_V1_ControllerState(rawValue: narrow(3)) ?? .unspecified
    record.status.atMs = uint64(4)
    record.status.ownerEpoch = uint64(5)
    record.status.sessionID = uint64(6)
    record.status.peer = text(7)
    record.status.model = text(8)
    record.status.firmware = text(9)
    record.status.logEpoch = narrow(10)
    record.status.oldestSeq = uint64(11)
    record.status.lastSeq = uint64(12)
    record.status.ackedSeq = uint64(13)
    record.status.capacity = narrow(14)
    record.status.reason = text(15)
    return record
  }
}

/// Finds the last record stored of a controller's current log.
private struct SQLiteNewestRecord {
  private let epochs: SQLiteStatement
  private let seqs: SQLiteStatement

  init(_ db: Database) throws {
    epochs = try SQLiteStatement(
      """
      SELECT max(coalesce((SELECT max(log_epoch) FROM events WHERE serial = ?1), 0),
        coalesce((SELECT max(log_epoch) FROM gaps WHERE serial = ?1), 0))
      """, on: db)
    // The sign splits numbers from 2⁶³ on from the others.
    seqs = try SQLiteStatement(
      """
      SELECT max(seq) FROM events WHERE serial = ?1 AND log_epoch = ?2 AND seq < 0
      UNION ALL SELECT max(seq) FROM events WHERE serial = ?1 AND log_epoch = ?2 AND seq >= 0
      UNION ALL SELECT through_seq FROM gaps WHERE serial = ?1 AND log_epoch = ?2
      """, on: db)
  }

  func of(_ serial: UInt64) throws -> (epoch: UInt32, seq: UInt64) {
    var epoch: UInt32 = 0
    epochs.bind(1, serial)
    try epochs.forEachRow { epoch = $0.narrow(0) }
    var seq: UInt64 = 0
    seqs.bind(1, serial)
    seqs.bind(2, epoch)
    try seqs.forEachRow { seq = max(seq, $0.uint64(0)) }
    return (epoch, seq)
  }
}

/// One table's part of a query for records.
private struct SQLiteEventQuery {
  enum Table { case events, gaps }

  private let statement: SQLiteStatement
  private let table: Table

  init(_ db: Database, _ query: EventQuery, of table: Table) throws {
    self.table = table
    switch (table, query.serial == 0) {
    case (.events, true):
      statement = try SQLiteStatement(
        """
        SELECT serial, log_epoch, seq, kind, owner_epoch, occurred_at_ms, received_at_ms, flags,
          family, code, source_type, source_number, body, previous_log_epoch, previous_last_seq
        FROM events INDEXED BY events_by_time
        WHERE occurred_at_ms >= ?2 AND occurred_at_ms < ?3
        ORDER BY occurred_at_ms DESC, serial DESC, log_epoch DESC, seq DESC LIMIT ?4
        """, on: db)
    case (.events, false):
      statement = try SQLiteStatement(
        """
        SELECT serial, log_epoch, seq, kind, owner_epoch, occurred_at_ms, received_at_ms, flags,
          family, code, source_type, source_number, body, previous_log_epoch, previous_last_seq
        FROM events
        WHERE serial = ?1 AND occurred_at_ms >= ?2 AND occurred_at_ms < ?3
        ORDER BY occurred_at_ms DESC, serial DESC, log_epoch DESC, seq DESC LIMIT ?4
        """, on: db)
    case (.gaps, _):
      statement = try SQLiteStatement(
        """
        SELECT serial, log_epoch, from_seq, through_seq, owner_epoch, occurred_at_ms,
          received_at_ms
        FROM gaps
        WHERE (?1 = 0 OR serial = ?1) AND occurred_at_ms >= ?2 AND occurred_at_ms < ?3
        ORDER BY occurred_at_ms DESC, serial DESC, log_epoch DESC, from_seq DESC LIMIT ?4
        """, on: db)
    }
    statement.bind(1, query.serial)
    statement.bind(2, query.from == 0 ? Int64.min : Int64(clamping: query.from))
    statement.bind(3, query.before == 0 ? Int64.max : Int64(clamping: query.before))
    statement.bind(4, query.limit)
  }

  func collect(into rows: inout EventRows) throws {
    try statement.forEachRow { columns in
      var row = EventRow()
      row.serial = columns.uint64(0)
      row.logEpoch = columns.narrow(1)
      row.seq = columns.uint64(2)
      row.ownerEpoch = columns.uint64(4)
      row.occurredAt = columns.uint64(5)
      row.receivedAt = columns.uint64(6)
      guard table == .events else {
        row.kind = .logGap
        row.throughSeq = columns.uint64(3)
        rows.append(row, body: UnsafeRawBufferPointer(start: nil, count: 0))
        return
      }
      row.kind = RecordKind(rawValue: columns.narrow(3)) ?? .event
      row.flags = EventRow.Flags(rawValue: columns.narrow(7))
      row.family = columns.narrow(8)
      row.code = columns.narrow(9)
      row.sourceType = columns.narrow(10)
      row.sourceNumber = columns.narrow(11)
      row.previousLogEpoch = columns.narrow(13)
      row.previousLastSeq = columns.uint64(14)
      rows.append(row, body: columns.blob(12))
    }
  }
}

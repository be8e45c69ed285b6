internal import DriverProtocol
internal import GRDB

/// The tables of the SQLite store, for the length of one transaction.
struct SQLiteRecords: RecordSink {
  private let insertEvent: SQLiteStatement
  private let insertGap: SQLiteStatement
  private let raiseOwner: SQLiteStatement
  private let putStatus: SQLiteStatement
  private let insertResult: SQLiteStatement
  private let findResult: SQLiteStatement
  private let putProgress: SQLiteStatement
  private let putCursor: SQLiteStatement

  init(_ db: Database) throws {
    insertEvent = try SQLiteStatement(
      """
      INSERT INTO events (serial, log_epoch, seq, kind, owner_epoch, occurred_at_ms,
        received_at_ms, flags, family, code, source_type, source_number, body,
        previous_log_epoch, previous_last_seq)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO NOTHING
      """, on: db)
    // A gap of length 2⁶³ and more is negative as stored; the longer one is found by the
    // difference to its beginning, which both share.
    insertGap = try SQLiteStatement(
      """
      INSERT INTO gaps (serial, log_epoch, from_seq, through_seq, owner_epoch, occurred_at_ms,
        received_at_ms)
      VALUES (?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET through_seq = excluded.through_seq
        WHERE ((excluded.through_seq < 0) > (through_seq < 0))
          OR ((excluded.through_seq < 0) = (through_seq < 0)
            AND excluded.through_seq > through_seq)
      """, on: db)
    raiseOwner = try SQLiteStatement(
      """
      INSERT INTO controllers (serial, owner_epoch_max) VALUES (?, ?)
      ON CONFLICT DO UPDATE SET owner_epoch_max = excluded.owner_epoch_max
      """, on: db)
    putStatus = try SQLiteStatement(
      """
      INSERT OR REPLACE INTO controllers (serial, owner_epoch_max, node_id, state, at_ms,
        owner_epoch, session_id, peer, model, firmware, log_epoch, oldest_seq, last_seq,
        acked_seq, capacity, reason)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      """, on: db)
    insertResult = try SQLiteStatement(
      """
      INSERT INTO results (id, serial, status, reason, item, body, detail, at_ms, elapsed_us)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO NOTHING
      """, on: db)
    findResult = try SQLiteStatement("SELECT status FROM results WHERE id = ?", on: db)
    putProgress = try SQLiteStatement(
      """
      INSERT INTO sequences (id, serial, node_id, done, total, at_ms) VALUES (?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET node_id = excluded.node_id, done = excluded.done,
        total = excluded.total, at_ms = excluded.at_ms
        WHERE excluded.done >= done
      """, on: db)
    putCursor = try SQLiteStatement(
      """
      INSERT INTO nodes (node_id, incarnation, version, through_number) VALUES (?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET incarnation = excluded.incarnation, version = excluded.version,
        through_number = excluded.through_number
        WHERE incarnation <> excluded.incarnation OR through_number < excluded.through_number
      """, on: db)
  }

  mutating func insert(_ row: EventRow, body: UnsafeRawBufferPointer) throws -> Bool {
    insertEvent.bind(1, row.serial)
    insertEvent.bind(2, row.logEpoch)
    insertEvent.bind(3, row.seq)
    insertEvent.bind(4, row.kind.rawValue)
    insertEvent.bind(5, row.ownerEpoch)
    insertEvent.bind(6, row.occurredAt)
    insertEvent.bind(7, row.receivedAt)
    insertEvent.bind(8, row.flags.rawValue)
    insertEvent.bind(9, row.family)
    insertEvent.bind(10, row.code)
    insertEvent.bind(11, row.sourceType)
    insertEvent.bind(12, row.sourceNumber)
    insertEvent.bindUncopied(13, body)
    if row.kind == .logReset {
      insertEvent.bind(14, row.previousLogEpoch)
      insertEvent.bind(15, row.previousLastSeq)
    } else {
      insertEvent.bindNull(14)
      insertEvent.bindNull(15)
    }
    return try insertEvent.run() > 0
  }

  mutating func insertGap(_ row: EventRow) throws -> Bool {
    insertGap.bind(1, row.serial)
    insertGap.bind(2, row.logEpoch)
    insertGap.bind(3, row.seq)
    insertGap.bind(4, row.throughSeq)
    insertGap.bind(5, row.ownerEpoch)
    insertGap.bind(6, row.occurredAt)
    insertGap.bind(7, row.receivedAt)
    return try insertGap.run() > 0
  }

  mutating func insert(_ result: Clusterdriver_V1_CommandResult) throws -> ResultFate {
    insertResult.bind(1, result.id)
    insertResult.bind(2, result.serial)
    insertResult.bind(3, result.status.rawValue)
    insertResult.bind(4, result.reason)
    insertResult.bind(5, result.index)
    insertResult.bind(6, result.body)
    insertResult.bind(7, result.detail)
    insertResult.bind(8, result.atMs)
    insertResult.bind(9, result.elapsedUs)
    if try insertResult.run() > 0 { return .stored }
    var status = 0
    findResult.bind(1, result.id)
    try findResult.forEachRow { status = $0.narrow(0) }
    return status == result.status.rawValue ? .repeated : .conflicting(status)
  }

  mutating func put(_ progress: Clusterdriver_V1_SequenceProgress, node: String) throws {
    putProgress.bind(1, progress.id)
    putProgress.bind(2, progress.serial)
    putProgress.bind(3, node)
    putProgress.bind(4, progress.done)
    putProgress.bind(5, progress.total)
    putProgress.bind(6, progress.atMs)
    _ = try putProgress.run()
  }

  mutating func put(
    _ status: Clusterdriver_V1_ControllerStatus, node: String, ownerEpochMax: UInt64
  ) throws {
    putStatus.bind(1, status.serial)
    putStatus.bind(2, ownerEpochMax)
    putStatus.bind(3, node)
    putStatus.bind(4, status.state.rawValue)
    putStatus.bind(5, status.atMs)
    putStatus.bind(6, status.ownerEpoch)
    putStatus.bind(7, status.sessionID)
    putStatus.bind(8, status.peer)
    putStatus.bind(9, status.model)
    putStatus.bind(10, status.firmware)
    putStatus.bind(11, status.logEpoch)
    putStatus.bind(12, status.oldestSeq)
    putStatus.bind(13, status.lastSeq)
    putStatus.bind(14, status.ackedSeq)
    putStatus.bind(15, status.capacity)
    putStatus.bind(16, status.reason)
    _ = try putStatus.run()
  }

  mutating func raise(ownerEpoch: UInt64, of serial: UInt64) throws {
    raiseOwner.bind(1, serial)
    raiseOwner.bind(2, ownerEpoch)
    _ = try raiseOwner.run()
  }

  mutating func put(through number: UInt64, of node: NodeIdentity) throws {
    putCursor.bind(1, node.id)
    putCursor.bind(2, node.incarnation)
    putCursor.bind(3, node.version)
    putCursor.bind(4, number)
    _ = try putCursor.run()
  }
}

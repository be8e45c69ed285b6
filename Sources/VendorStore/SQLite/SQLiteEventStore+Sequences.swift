public import DriverProtocol
internal import FoundationEssentials
internal import GRDB

extension SQLiteEventStore {
  public func sequences(serial: UInt64) async throws -> [Clusterdriver_V1_SequenceRecord] {
    try await read { db in
      let statement = try SQLiteStatement(
        """
        SELECT s.id, s.serial, s.node_id, s.done, s.total, s.at_ms,
          r.status, r.reason, r.item, r.body, r.detail, r.at_ms, r.elapsed_us
        FROM sequences s LEFT JOIN results r ON r.id = s.id
        WHERE ?1 = 0 OR s.serial = ?1 ORDER BY s.id
        """, on: db)
      statement.bind(1, serial)
      var records: [Clusterdriver_V1_SequenceRecord] = []
      try statement.forEachRow { row in
        var record = Clusterdriver_V1_SequenceRecord(row.progress(), node: row.text(2))
        if !row.isNull(6) {
          record.result = row.result(id: record.progress.id, serial: row.uint64(1), from: 6)
        }
        records.append(record)
      }
      return records
    }
  }

  public func progress(id: CommandID) async throws -> Clusterdriver_V1_SequenceProgress? {
    try await read { db in
      let statement = try SQLiteStatement(
        "SELECT id, serial, node_id, done, total, at_ms FROM sequences WHERE id = ?", on: db)
      statement.bind(1, id.bytes)
      var found: Clusterdriver_V1_SequenceProgress?
      try statement.forEachRow { found = $0.progress() }
      return found
    }
  }
}

extension SQLiteColumns {
  /// Columns: id, serial, node_id, done, total, at_ms.
  fileprivate func progress() -> Clusterdriver_V1_SequenceProgress {
    var progress = Clusterdriver_V1_SequenceProgress()
    progress.id = Data(blob(0))
    progress.serial = uint64(1)
    progress.done = narrow(3)
    progress.total = narrow(4)
    progress.atMs = uint64(5)
    return progress
  }
}

internal import GRDB

extension SQLiteEventStore {
  /// The version is a checksum of the table: it is small, and people edit it with other tools.
  public func cards(since version: Int?) async throws -> (version: Int, rules: [CardRule])? {
    try await read { db in
      var rules: [CardRule] = []
      try SQLiteStatement(
        "SELECT card, serial, door, allowed FROM cards ORDER BY card, serial, door", on: db
      ).forEachRow { row in
        rules.append(
          CardRule(
            card: row.uint64(0), serial: row.uint64(1), door: row.narrow(2),
            allowed: row.int64(3) != 0))
      }
      let current = rules.hashValue
      return current == version ? nil : (current, rules)
    }
  }

  public func put(cards: [CardRule]) async throws {
    try await write { db in
      let statement = try SQLiteStatement(
        "INSERT OR REPLACE INTO cards (card, serial, door, allowed) VALUES (?, ?, ?, ?)", on: db)
      for rule in cards {
        statement.bind(1, rule.card)
        statement.bind(2, rule.serial)
        statement.bind(3, rule.door)
        statement.bind(4, rule.allowed ? 1 : 0)
        _ = try statement.run()
      }
    }
  }

  public func remove(card: UInt64) async throws -> Int {
    try await write { db in
      let statement = try SQLiteStatement("DELETE FROM cards WHERE card = ?", on: db)
      statement.bind(1, card)
      return Int(try statement.run())
    }
  }
}

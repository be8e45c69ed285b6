import DriverProtocol
import Foundation
import GRDB
import Testing

@testable import VendorStore

@Suite("SQLite store") struct SQLiteEventStoreTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test("a commit is synced before it is one: WAL and synchronous=FULL")
  func durable() throws {
    let store = try SQLiteEventStore(path: scratch.database)
    let (mode, synchronous) = try store.withWriter { db in
      (
        try String.fetchOne(db, sql: "PRAGMA journal_mode"),
        try Int.fetchOne(db, sql: "PRAGMA synchronous")
      )
    }
    #expect(mode == "wal")
    #expect(synchronous == 2)
  }

  @Test("what was committed is there, and fences, after the file is opened again")
  func reopened() async throws {
    let first = try SQLiteEventStore(path: scratch.database)
    _ = try first.commit([
      submission([event(1, 1, epoch: 9)]), submission(.statuses([status(1, .online, epoch: 9)])),
    ])
    try first.close()
    let second = try SQLiteEventStore(path: scratch.database)
    let outcome = try second.commit([submission([event(1, 2, epoch: 8), event(1, 1, epoch: 9)])])
    #expect(outcome.counts.eventsStale == 1)
    #expect(outcome.counts.eventsRepeated == 1)
    #expect(
      try second.commit([submission(.statuses([status(1, .offline, epoch: 8)]))])
        .counts.statusesOutdated == 1)
    #expect(try await second.controllers(serial: 1).first?.status.state == .online)
  }

  @Test("a full disk refuses the whole group; the same group goes in once there is room")
  func full() async throws {
    let store = try SQLiteEventStore(path: scratch.database)
    _ = try store.commit([submission(1, [event(1, 1)])])
    let pages = try store.withWriter { try Int.fetchOne($0, sql: "PRAGMA page_count") ?? 0 }
    try store.withWriter { try $0.execute(sql: "PRAGMA max_page_count = \(pages + 2)") }
    let large = submission(
      2, (2...500).map { event(1, $0, epoch: 3, body: [UInt8](repeating: 7, count: 200)) })
    for _ in 0..<3 {
      let error = #expect(throws: StoreError.self) { try store.commit([large]) }
      #expect(error?.description.contains("full") == true)
    }
    // Nothing of it counts: neither records nor the epoch it would have raised.
    #expect(try await store.audit(1...1).first?.events == 1)
    #expect(try await store.committedThrough(nodeA) == 1)
    #expect(try store.commit([submission(1, [event(1, 1, epoch: 1)])]).counts.eventsStale == 0)
    try store.withWriter { try $0.execute(sql: "PRAGMA max_page_count = 1000000") }
    #expect(try store.commit([large]).counts.eventsStored == 499)
    #expect(try await store.audit(1...1).first?.holes == 0)
  }

  @Test("a database locked by another program is refused, then taken")
  func locked() throws {
    let store = try SQLiteEventStore(path: scratch.database)
    var configuration = Configuration()
    configuration.allowsUnsafeTransactions = true
    let other = try DatabaseQueue(path: scratch.database, configuration: configuration)
    try other.inDatabase { try $0.execute(sql: "BEGIN IMMEDIATE") }
    let error = #expect(throws: StoreError.self) { try store.commit([submission([event(1, 1)])]) }
    #expect(error?.description.contains("locked") == true)
    #expect(error?.advice.contains("Another program") == true)
    try other.inDatabase { try $0.execute(sql: "ROLLBACK") }
    #expect(try store.commit([submission([event(1, 1)])]).counts.eventsStored == 1)
  }

  @Test("what another program writes is heeded at the next commit")
  func changedByOthers() throws {
    let store = try SQLiteEventStore(path: scratch.database)
    _ = try store.commit([submission([event(1, 1, epoch: 2)])])
    let other = try DatabaseQueue(path: scratch.database)
    try other.write { try $0.execute(sql: "UPDATE controllers SET owner_epoch_max = 10") }
    #expect(try store.commit([submission([event(1, 2, epoch: 9)])]).counts.eventsStale == 1)
  }

  @Test("a database of a newer vendor app is refused, and left as it is")
  func newerSchema() throws {
    try SQLiteEventStore(path: scratch.database).close()
    let other = try DatabaseQueue(path: scratch.database)
    try other.write {
      try $0.execute(sql: "INSERT INTO grdb_migrations (identifier) VALUES ('99 the future')")
    }
    let error = #expect(throws: StoreError.self) { try SQLiteEventStore(path: scratch.database) }
    #expect(error?.description.contains("newer vendor app") == true)
  }

  @Test("a path that cannot be opened says why and what to do")
  func unopenable() {
    let error = #expect(throws: StoreError.self) {
      try SQLiteEventStore(path: scratch.path + "/missing/events.db")
    }
    #expect(error?.description.contains("cannot open the database") == true)
    #expect(error?.advice.contains("directory") == true)
  }

  @Test("a file that is no database is refused, and left as it is")
  func notADatabase() throws {
    let text = String(repeating: "no database\n", count: 100)
    try text.write(toFile: scratch.database, atomically: true, encoding: .utf8)
    #expect(throws: StoreError.self) { try SQLiteEventStore(path: scratch.database) }
    #expect(try String(contentsOfFile: scratch.database, encoding: .utf8) == text)
  }

  @Test("people can read the tables: the view shows names and times")
  func readable() throws {
    let store = try SQLiteEventStore(path: scratch.database)
    _ = try store.commit([
      submission([event(1, 1, at: 1_700_000_000_000, body: [0xAB]), gap(1, 2...3)])
    ])
    let lines = try store.withWriter { db in
      try Row.fetchAll(db, sql: "SELECT occurred_at, family, body FROM event_log ORDER BY seq")
        .map { "\($0[0] as String? ?? "") \($0[1] as String? ?? "") \($0[2] as String? ?? "")" }
    }
    #expect(lines == ["2023-11-14 22:13:20 door AB", "1970-01-01 00:00:00 gap through 3 "])
  }

  @Test("an audit counts duplicates in the table as it is, not as it should be")
  func duplicatesCounted() async throws {
    let store = try SQLiteEventStore(path: scratch.database)
    _ = try store.commit([submission([event(1, 1), event(1, 2)])])
    // A table that has lost its key.
    try store.withWriter { db in
      try db.execute(
        sql: """
          ALTER TABLE events RENAME TO good; CREATE TABLE events AS SELECT * FROM good;
          INSERT INTO events SELECT * FROM good WHERE seq = 2;
          """)
    }
    let audit = try #require(try await store.audit(1...1).first)
    #expect(audit.duplicates == 1)
    #expect(audit.events == 3)
  }
}

internal import GRDB

/// The tables, version by version. They are made to be read by people with the sqlite3 tool too:
/// see the view `event_log`.
///
/// Numbers of 64 bits without sign are stored by their bit pattern: from 2⁶³ on they show as
/// negative, and are exact all the same.
enum SQLiteSchema {
  static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1 events, gaps, controllers, results, nodes, cards") { db in
      try db.execute(sql: version1)
    }
    migrator.registerMigration("2 sequences") { db in try db.execute(sql: version2) }
    return migrator
  }

  // A record's identity is the table's key itself (WITHOUT ROWID): one tree to write instead of
  // two, and no way to store an identity twice.
  private static let version1 = """
    CREATE TABLE events (
      serial INTEGER NOT NULL,
      log_epoch INTEGER NOT NULL,
      seq INTEGER NOT NULL,
      kind INTEGER NOT NULL CHECK (kind IN (1, 3)),   -- 1 event, 3 log reset
      owner_epoch INTEGER NOT NULL,
      occurred_at_ms INTEGER NOT NULL,
      received_at_ms INTEGER NOT NULL,
      flags INTEGER NOT NULL,                         -- 1 replayed, 2 priority
      family INTEGER NOT NULL,
      code INTEGER NOT NULL,
      source_type INTEGER NOT NULL,
      source_number INTEGER NOT NULL,
      body BLOB,
      previous_log_epoch INTEGER,                     -- log reset only
      previous_last_seq INTEGER,
      PRIMARY KEY (serial, log_epoch, seq)
    ) WITHOUT ROWID;
    CREATE INDEX events_by_time ON events (occurred_at_ms);

    -- Records that were overwritten before they were reported: from_seq to through_seq, both gone.
    CREATE TABLE gaps (
      serial INTEGER NOT NULL,
      log_epoch INTEGER NOT NULL,
      from_seq INTEGER NOT NULL,
      through_seq INTEGER NOT NULL,
      owner_epoch INTEGER NOT NULL,
      occurred_at_ms INTEGER NOT NULL,
      received_at_ms INTEGER NOT NULL,
      PRIMARY KEY (serial, log_epoch, from_seq)
    ) WITHOUT ROWID;
    CREATE INDEX gaps_by_time ON gaps (occurred_at_ms);

    CREATE TABLE controllers (
      serial INTEGER PRIMARY KEY,
      owner_epoch_max INTEGER NOT NULL,
      node_id TEXT,                                   -- the rest: its last status, if any
      state INTEGER,                                  -- 1 online, 2 offline
      at_ms INTEGER,
      owner_epoch INTEGER,
      session_id INTEGER,
      peer TEXT, model TEXT, firmware TEXT,
      log_epoch INTEGER, oldest_seq INTEGER, last_seq INTEGER, acked_seq INTEGER,
      capacity INTEGER,
      reason TEXT
    );

    CREATE TABLE results (
      id BLOB PRIMARY KEY,
      serial INTEGER NOT NULL,
      status INTEGER NOT NULL,   -- 1 done, 2 refused, 3 expired, 4 offline, 5 superseded
      reason INTEGER NOT NULL,
      item INTEGER NOT NULL,
      body BLOB NOT NULL,
      detail TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      elapsed_us INTEGER NOT NULL
    ) WITHOUT ROWID;

    -- How far each node's numbered sequence is committed.
    CREATE TABLE nodes (
      node_id TEXT PRIMARY KEY,
      incarnation INTEGER NOT NULL,
      version TEXT NOT NULL,
      through_number INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE cards (
      card INTEGER NOT NULL,
      serial INTEGER NOT NULL,   -- 0 = any controller
      door INTEGER NOT NULL,     -- 0 = any door
      allowed INTEGER NOT NULL,
      PRIMARY KEY (card, serial, door)
    ) WITHOUT ROWID;

    CREATE VIEW event_log AS
      SELECT serial, log_epoch, seq,
        datetime(occurred_at_ms / 1000, 'unixepoch') AS occurred_at,
        CASE kind WHEN 3 THEN 'log reset' ELSE
          CASE family WHEN 1 THEN 'door' WHEN 2 THEN 'access' WHEN 3 THEN 'io'
            WHEN 4 THEN 'controller' WHEN 5 THEN 'system' ELSE 'family ' || family END
        END AS family,
        code, source_type, source_number, hex(body) AS body, owner_epoch
      FROM events
      UNION ALL
      SELECT serial, log_epoch, from_seq, datetime(occurred_at_ms / 1000, 'unixepoch'),
        'gap through ' || through_seq, NULL, NULL, NULL, NULL, owner_epoch
      FROM gaps;
    """

  private static let version2 = """
    -- How far each command sequence has come, by what nodes have told; its result is among the others.
    CREATE TABLE sequences (
      id BLOB PRIMARY KEY,
      serial INTEGER NOT NULL,
      node_id TEXT NOT NULL,
      done INTEGER NOT NULL,     -- commands, or bytes
      total INTEGER NOT NULL,
      at_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    """
}

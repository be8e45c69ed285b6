internal import DriverProtocol
internal import GRDB
internal import Synchronization

/// A store in a SQLite file (WAL, synchronous=FULL).
///
/// FULL, because NORMAL syncs the log only at checkpoints: after a power failure records could be
/// gone that were acknowledged, and that the controllers have forgotten. Its price, one fsync per
/// transaction, is shared by everything that came in during the last one (`Committer`).
public final class SQLiteEventStore: EventStore {
  private let pool: DatabasePool
  /// Held through a commit, which is the writer thread's alone; a mutex for the compiler's sake.
  private let fence: Mutex<Fence>

  fileprivate struct Fence {
    var owners = OwnerFence()
    /// SQLite's own mark of what others wrote; see `reloadIfChangedByOthers`.
    var dataVersion: Int64 = -1
  }

  /// Opens the file, makes it if need be, and brings its tables up to date.
  public init(path: String) throws {
    var configuration = Configuration()
    configuration.label = "vendor"
    // A short wait for somebody's passing lock; longer ones are for the committer to tell about.
    configuration.busyMode = .timeout(0.25)
    configuration.maximumReaderCount = 4
    do {
      let pool = try DatabasePool(path: path, configuration: configuration)
      try pool.writeWithoutTransaction { try Self.tune($0) }
      guard try !pool.read(SQLiteSchema.migrator.hasBeenSuperseded) else {
        throw StoreError(
          "the database \(path) was made by a newer vendor app",
          advice: "Use that version, or another file")
      }
      try SQLiteSchema.migrator.migrate(pool)
      self.pool = pool
    } catch let error as DatabaseError {
      throw StoreError(
        "cannot open the database \(path): \(error.plain)",
        advice: "Check that its directory exists and can be written, that the file is a database, "
          + "and that no other program holds a lock on it")
    }
    fence = Mutex(Fence())
  }

  private static func tune(_ db: Database) throws {
    try db.execute(sql: "PRAGMA synchronous = FULL")
    // A checkpoint writes each changed page once, however often it changed. Thousands of
    // controllers change thousands of pages per commit: 64 MiB between checkpoints, not 4.
    try db.execute(sql: "PRAGMA wal_autocheckpoint = 16384")
    try db.execute(sql: "PRAGMA journal_size_limit = 67108864")
    try db.execute(sql: "PRAGMA cache_size = -65536")
  }

  public func commit(_ group: [Submission]) throws -> CommitOutcome {
    do {
      return try fence.withLock { fence in
        try pool.writeWithoutTransaction { db in
          var outcome = CommitOutcome()
          defer { fence.owners.rollback() }
          try db.inTransaction(.immediate) {
            try fence.reloadIfChangedByOthers(db)
            var pass = CommitPass(sink: try SQLiteRecords(db), fence: OwnerFence())
            swap(&pass.fence, &fence.owners)
            defer { swap(&pass.fence, &fence.owners) }
            try pass.apply(group)
            outcome = pass.outcome
            return .commit
          }
          fence.owners.commit()
          return outcome
        }
      }
    } catch let error as DatabaseError {
      throw StoreError("the database does not take events: \(error.plain)", advice: error.advice)
    }
  }

  /// Runs a query on a connection of its own, as of one commit.
  func read<T: Sendable>(_ query: @escaping @Sendable (Database) throws -> T) async throws -> T {
    do {
      return try await pool.read(query)
    } catch let error as DatabaseError {
      throw StoreError("the database cannot be read: \(error.plain)", advice: error.advice)
    }
  }

  /// Runs a change other than a commit of messages.
  func write<T: Sendable>(_ change: @escaping @Sendable (Database) throws -> T) async throws -> T {
    do {
      return try await pool.write(change)
    } catch let error as DatabaseError {
      throw StoreError("the database cannot be changed: \(error.plain)", advice: error.advice)
    }
  }

  public func close() throws { try pool.close() }

  /// The connection all changes go through, for tests that set limits on it.
  func withWriter<T>(_ body: (Database) throws -> T) rethrows -> T {
    try pool.writeWithoutTransaction(body)
  }
}

extension SQLiteEventStore.Fence {
  /// The fence is a copy of a table. Another program may have changed that table (a person with the
  /// sqlite3 tool, a second vendor app): SQLite's data_version tells, and only then is it read again.
  fileprivate mutating func reloadIfChangedByOthers(_ db: Database) throws {
    var version: Int64 = 0
    try SQLiteStatement("PRAGMA data_version", on: db).forEachRow { version = $0.int64(0) }
    if version == dataVersion { return }
    owners = OwnerFence()
    try SQLiteStatement(
      "SELECT serial, owner_epoch_max, owner_epoch, session_id, at_ms FROM controllers", on: db
    ).forEachRow { row in
      let status = StatusOrder(
        ownerEpoch: row.uint64(2), session: row.uint64(3), at: row.uint64(4))
      owners.load(
        row.uint64(0), OwnerFence.Head(ownerEpoch: row.uint64(1), status: status))
    }
    dataVersion = version
  }
}

extension DatabaseError {
  /// SQLite's message with its code, without the statement.
  var plain: String { "\(message ?? "no message") (SQLite error \(extendedResultCode.rawValue))" }

  var advice: String {
    switch resultCode {
    case .SQLITE_FULL:
      "Make room on the disk; nothing is acknowledged and nothing lost until then"
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      "Another program holds a lock on the database; end its transaction"
    case .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_CANTOPEN:
      "Check the owner and the mode of the file and of its directory"
    case .SQLITE_CORRUPT, .SQLITE_NOTADB:
      "The file is damaged: stop, keep it, and recover it with the sqlite3 tool or from a backup"
    default:
      "Check the disk and the kernel's log"
    }
  }
}

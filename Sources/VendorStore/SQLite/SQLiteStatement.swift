internal import DriverProtocol
internal import FoundationEssentials
internal import GRDB
internal import GRDBSQLite

/// A prepared statement of a GRDB connection, bound and stepped through SQLite's own calls: GRDB's
/// argument arrays and row objects cost more than the insertion itself.
///
/// For use within one access to the connection, on its thread. Blobs and texts bound are copied by
/// SQLite, or stay valid until `run` returns, as said at each call.
struct SQLiteStatement {
  private let handle: OpaquePointer
  private let db: Database

  init(_ sql: StaticString, on db: Database) throws {
    // The cache keeps it alive and prepared for the next transaction.
    handle = try db.cachedStatement(sql: sql.description).sqliteStatement
    self.db = db
  }

  @inline(__always)
  func bind(_ index: Int32, _ value: UInt64) {
    sqlite3_bind_int64(handle, index, Int64(bitPattern: value))
  }

  @inline(__always)
  func bind(_ index: Int32, _ value: some FixedWidthInteger) {
    sqlite3_bind_int64(handle, index, Int64(truncatingIfNeeded: value))
  }

  /// An empty text is stored as such.
  func bind(_ index: Int32, _ text: String) {
    // −1 is SQLITE_TRANSIENT: copied before the call returns.
    sqlite3_bind_text(handle, index, text, -1, unsafeBitCast(-1, to: sqlite3_destructor_type.self))
  }

  func bind(_ index: Int32, _ blob: Data) {
    if blob.isEmpty {
      sqlite3_bind_zeroblob(handle, index, 0)
      return
    }
    _ = blob.withUnsafeBytes {
      sqlite3_bind_blob(
        handle, index, $0.baseAddress, Int32($0.count),
        unsafeBitCast(-1, to: sqlite3_destructor_type.self))
    }
  }

  /// Not copied: `blob` must be valid until `run` has returned. Empty is stored as NULL.
  @inline(__always)
  func bindUncopied(_ index: Int32, _ blob: UnsafeRawBufferPointer) {
    if blob.isEmpty {
      sqlite3_bind_null(handle, index)
    } else {
      sqlite3_bind_blob(handle, index, blob.baseAddress, Int32(blob.count), nil)
    }
  }

  func bindNull(_ index: Int32) { sqlite3_bind_null(handle, index) }

  /// Carries the statement out; returns how many rows it changed.
  @inline(__always)
  func run() throws -> Int32 {
    let code = sqlite3_step(handle)
    let changes = code == SQLITE_DONE ? sqlite3_changes(db.sqliteConnection) : 0
    let reset = sqlite3_reset(handle)
    guard code == SQLITE_DONE else { throw error(reset == SQLITE_OK ? code : reset) }
    return changes
  }

  /// Calls `row` for each row of the result.
  func forEachRow(_ row: (borrowing SQLiteColumns) throws -> Void) throws {
    defer { sqlite3_reset(handle) }
    while true {
      let code = sqlite3_step(handle)
      if code == SQLITE_DONE { return }
      guard code == SQLITE_ROW else { throw error(code) }
      try row(SQLiteColumns(handle: handle))
    }
  }

  private func error(_ code: Int32) -> any Error {
    DatabaseError(
      resultCode: ResultCode(rawValue: sqlite3_extended_errcode(db.sqliteConnection)),
      message: String(cString: sqlite3_errmsg(db.sqliteConnection)))
  }
}

/// The row a statement is at.
struct SQLiteColumns: ~Copyable {
  fileprivate let handle: OpaquePointer

  func int64(_ index: Int32) -> Int64 { sqlite3_column_int64(handle, index) }
  func uint64(_ index: Int32) -> UInt64 { UInt64(bitPattern: int64(index)) }
  func narrow<N: FixedWidthInteger>(_ index: Int32) -> N { N(truncatingIfNeeded: int64(index)) }
  func isNull(_ index: Int32) -> Bool { sqlite3_column_type(handle, index) == SQLITE_NULL }

  func text(_ index: Int32) -> String {
    sqlite3_column_text(handle, index).map { String(cString: $0) } ?? ""
  }

  /// Valid until the statement moves on.
  func blob(_ index: Int32) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: sqlite3_column_blob(handle, index), count: Int(sqlite3_column_bytes(handle, index)))
  }
}

public import DriverProtocol

/// What a record is; the raw values are those of `EventKind` on the wire.
public enum RecordKind: UInt8, Sendable {
  case event = 1
  case logGap = 2
  case logReset = 3
}

/// Names a record for ever.
public struct RecordIdentity: Hashable, Sendable {
  public var serial: UInt64
  public var logEpoch: UInt32
  public var seq: UInt64

  public init(serial: UInt64, logEpoch: UInt32, seq: UInt64) {
    self.serial = serial
    self.logEpoch = logEpoch
    self.seq = seq
  }
}

/// One record in the form in which it travels from the stream to the store: plain numbers, the body
/// held by the batch (`EventRows.bodies`), so that a record costs no allocation.
///
/// The generated `Event` is a class instance per record; decoding into these instead is what lets
/// one core take several hundred thousand records a second (Docs/adr/0008-vendor-store.md).
public struct EventRow: Sendable, Equatable {
  public struct Flags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let replayed = Flags(rawValue: 1)
    public static let priority = Flags(rawValue: 2)
    public static let advisory = Flags(rawValue: 4)
  }

  public var serial: UInt64 = 0
  public var seq: UInt64 = 0
  public var ownerEpoch: UInt64 = 0
  /// ms UTC, by the controller's clock.
  public var occurredAt: UInt64 = 0
  /// ms UTC, by the node's clock.
  public var receivedAt: UInt64 = 0
  /// LOG_GAP only: the last seq that is gone.
  public var throughSeq: UInt64 = 0
  /// LOG_RESET only: last seq of the log that ended, 0 = not known.
  public var previousLastSeq: UInt64 = 0
  /// LOG_RESET only: the log that ended, 0 = not known.
  public var previousLogEpoch: UInt32 = 0
  public var logEpoch: UInt32 = 0
  /// Where the body begins in the batch's `bodies`.
  public var bodyOffset: UInt32 = 0
  public var bodyCount: UInt16 = 0
  public var code: UInt16 = 0
  public var sourceType: UInt16 = 0
  public var sourceNumber: UInt16 = 0
  public var family: UInt8 = 0
  public var kind: RecordKind = .event
  public var flags: Flags = []

  public init() {}

  public var identity: RecordIdentity {
    RecordIdentity(serial: serial, logEpoch: logEpoch, seq: seq)
  }

  /// The order in which queries list records, oldest first. Times are compared as SQLite compares
  /// them, signed: a clock beyond the year 292 million sorts before all others.
  func isListedBefore(_ other: EventRow) -> Bool {
    if occurredAt != other.occurredAt {
      return Int64(bitPattern: occurredAt) < Int64(bitPattern: other.occurredAt)
    }
    if serial != other.serial {
      return Int64(bitPattern: serial) < Int64(bitPattern: other.serial)
    }
    if logEpoch != other.logEpoch { return logEpoch < other.logEpoch }
    return Int64(bitPattern: seq) < Int64(bitPattern: other.seq)
  }
}

/// A batch of records and, one after the other, their bodies.
public struct EventRows: Sendable {
  public private(set) var rows: [EventRow]
  public private(set) var bodies: [UInt8]

  public init() {
    rows = []
    bodies = []
  }

  public var count: Int { rows.count }
  public var isEmpty: Bool { rows.isEmpty }

  /// What the batch occupies, in bytes: the unit of all limits on what is queued.
  public var byteCount: Int { rows.count * MemoryLayout<EventRow>.stride + bodies.count }

  mutating func reserve(rows n: Int, bodyBytes: Int) {
    rows.reserveCapacity(n)
    bodies.reserveCapacity(bodyBytes)
  }

  /// Appends a record whose body is `body`; sets the row's body fields.
  mutating func append(_ row: EventRow, body: UnsafeRawBufferPointer) {
    var row = row
    row.bodyOffset = UInt32(truncatingIfNeeded: bodies.count)
    row.bodyCount = UInt16(truncatingIfNeeded: body.count)
    if !body.isEmpty { bodies.append(contentsOf: body) }
    rows.append(row)
  }

  /// Appends a record of another batch.
  mutating func append(_ row: EventRow, of other: EventRows) {
    other.withBody(of: row) { append(row, body: $0) }
  }

  func withBody<R>(of row: EventRow, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try bodies.withUnsafeBytes { bytes in
      let start = Int(row.bodyOffset)
      return try body(UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(row.bodyCount)]))
    }
  }

  /// The records at `indexes`, as a batch of their own.
  func subset(_ indexes: some Sequence<Int>) -> EventRows {
    var result = EventRows()
    for index in indexes { result.append(rows[index], of: self) }
    return result
  }
}

/// The batch's records as the generated type, for the query service.
extension EventRows {
  public func event(at index: Int) -> Clusterdriver_V1_Event {
    let row = rows[index]
    var event = Clusterdriver_V1_Event()
    event.serial = row.serial
    event.logEpoch = row.logEpoch
    event.seq = row.seq
    event.ownerEpoch = row.ownerEpoch
    event.kind = Clusterdriver_V1_EventKind(rawValue: Int(row.kind.rawValue)) ?? .unspecified
    event.occurredAtMs = row.occurredAt
    event.receivedAtMs = row.receivedAt
    event.replayed = row.flags.contains(.replayed)
    event.priority = row.flags.contains(.priority)
    event.advisory = row.flags.contains(.advisory)
    event.family = Clusterdriver_V1_EventFamily(rawValue: Int(row.family)) ?? .unspecified
    event.code = UInt32(row.code)
    event.sourceType = UInt32(row.sourceType)
    event.sourceNumber = UInt32(row.sourceNumber)
    if row.bodyCount > 0 { event.body = withBody(of: row) { .init($0) } }
    event.throughSeq = row.throughSeq
    event.previousLogEpoch = row.previousLogEpoch
    event.previousLastSeq = row.previousLastSeq
    return event
  }
}

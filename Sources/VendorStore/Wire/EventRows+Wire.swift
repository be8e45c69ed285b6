/// Reads an `EventBatch` of driver_gateway.proto from its wire format.
///
/// What a controller may say is taken as it is, whatever its value (its clock, its sequence
/// numbers, families and codes nobody knows yet): one odd controller must not end the stream of a
/// whole node. What only a node can get wrong ends the stream, with the reason.
extension EventRows {
  static let rowsMax = 65_536
  static let bodyMax = 1_024

  init(eventBatch bytes: UnsafeRawBufferPointer) throws(WireError) {
    self.init()
    // A record takes 30 to 60 bytes without its body.
    reserve(rows: min(bytes.count / 32, Self.rowsMax), bodyBytes: bytes.count / 8)
    var reader = WireReader(bytes)
    while !reader.isAtEnd {
      let (field, type) = try reader.tag()
      if field == 1, type == .bytes {
        guard count < Self.rowsMax else {
          throw WireError(what: "a batch has more than \(Self.rowsMax) events")
        }
        try append(event: reader.bytes())
      } else {
        try reader.skip(type)
      }
    }
  }

  private mutating func append(event bytes: UnsafeRawBufferPointer) throws(WireError) {
    var row = EventRow()
    var kind: UInt64 = 0
    var body = UnsafeRawBufferPointer(start: nil, count: 0)
    var reader = WireReader(bytes)
    while !reader.isAtEnd {
      let (field, type) = try reader.tag()
      switch (field, type) {
      case (1, .varint): row.serial = try reader.varint()
      case (2, .varint): row.logEpoch = UInt32(truncatingIfNeeded: try reader.varint())
      case (3, .varint): row.seq = try reader.varint()
      case (4, .varint): row.ownerEpoch = try reader.varint()
      case (5, .varint): kind = try reader.varint()
      case (6, .varint): row.occurredAt = try reader.varint()
      case (7, .varint): row.receivedAt = try reader.varint()
      case (8, .varint): row.set(.replayed, try reader.varint())
      case (9, .varint): row.set(.priority, try reader.varint())
      case (10, .varint): row.set(.advisory, try reader.varint())
      case (11, .varint): row.family = try Self.narrow(reader.varint(), "family")
      case (12, .varint): row.code = try Self.narrow(reader.varint(), "code")
      case (13, .varint): row.sourceType = try Self.narrow(reader.varint(), "source_type")
      case (14, .varint): row.sourceNumber = try Self.narrow(reader.varint(), "source_number")
      case (15, .bytes): body = try reader.bytes()
      case (16, .varint): row.throughSeq = try reader.varint()
      case (17, .varint): row.previousLogEpoch = UInt32(truncatingIfNeeded: try reader.varint())
      case (18, .varint): row.previousLastSeq = try reader.varint()
      default: try reader.skip(type)
      }
    }
    guard let known = UInt8(exactly: kind).flatMap(RecordKind.init(rawValue:)) else {
      throw WireError(what: "kind \(kind) of an event is not known")
    }
    row.kind = known
    try row.check(bodyCount: body.count)
    append(row, body: body)
  }

  private static func narrow<N: FixedWidthInteger>(
    _ value: UInt64, _ name: StaticString
  ) throws(WireError) -> N {
    guard let narrow = N(exactly: value) else {
      throw WireError(what: "\(name) \(value) of an event is over \(N.max)")
    }
    return narrow
  }
}

extension EventRow {
  fileprivate mutating func set(_ flag: Flags, _ value: UInt64) {
    if value != 0 { flags.insert(flag) } else { flags.remove(flag) }
  }

  fileprivate func check(bodyCount: Int) throws(WireError) {
    guard serial != 0, serial != .max else {
      throw WireError(what: "\(serial) is not a serial number (1 to 2^64-2)")
    }
    guard seq != 0 else {
      throw WireError(what: "an event of controller \(serial) has seq 0; records begin at 1")
    }
    guard bodyCount <= EventRows.bodyMax else {
      throw WireError(
        what: "the body of an event of controller \(serial) has \(bodyCount) bytes, "
          + "more than \(EventRows.bodyMax)")
    }
    guard kind != .logGap || throughSeq >= seq else {
      throw WireError(
        what: "a LOG_GAP of controller \(serial) ends (\(throughSeq)) before it begins (\(seq))")
    }
  }
}

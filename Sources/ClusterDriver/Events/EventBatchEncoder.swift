import CSCP

/// Turns what the controller layer hands up into the wire form of
/// `DriverMessage{number, events: EventBatch}`, without a value per event in between.
///
/// The schema is the public one (driver_gateway.proto, model.proto): whoever reads it uses generated
/// code. Only this writer is written by hand, because it is what every event passes through: an event
/// costs its bytes, and a batch one allocation (`finish`). Field order and length of varints are free
/// in protobuf, which this uses twice: the batch's length and each event's have a fixed width and are
/// filled in afterwards, and the number comes last, when it is known.
///
/// Of one thread.
struct EventBatchEncoder: ~Copyable {
  /// Bytes an event takes besides its body, at most: tag and length 3, all fields with their tags
  /// at their widest 118.
  private static let eventOverhead = 128
  private static let headBytes = 5
  private static let numberBytesMax = 11

  private var buffer: UnsafeMutablePointer<UInt8>
  private var capacity: Int
  private var used: Int
  /// Events in the batch.
  private(set) var count = 0

  init(capacity: Int = 128 * 1024) {
    self.capacity = max(capacity, 4096)
    self.buffer = .allocate(capacity: self.capacity)
    self.used = EventBatchEncoder.headBytes
  }

  deinit {
    self.buffer.deallocate()
  }

  var isEmpty: Bool { self.count == 0 }

  /// Bytes of the batch so far.
  var bytes: Int { self.used }

  /// Adds one message of kind EVENT, LOG_GAP or LOG_RESET.
  mutating func append(_ message: UnsafePointer<cscp_message>) {
    let bodyBytes = Int(message.pointee.n_body)
    precondition(bodyBytes <= CSCP_EVENT_BODY_MAX, "an event's body over its limit")
    if self.used + bodyBytes + EventBatchEncoder.eventOverhead > self.capacity {
      self.grow(by: bodyBytes + EventBatchEncoder.eventOverhead)
    }
    let start = self.buffer + self.used
    var writer = WireWriter(at: start + 3)
    EventBatchEncoder.writeEvent(message, bodyBytes: bodyBytes, to: &writer)
    start[0] = 0x0A  // EventBatch.events
    let length = writer.at - (start + 3)
    WireWriter.padded(length, width: 2, at: start + 1)
    self.used += 3 + length
    self.count += 1
  }

  @inline(__always)
  private static func writeEvent(
    _ message: UnsafePointer<cscp_message>, bodyBytes: Int, to writer: inout WireWriter
  ) {
    let kind = message.pointee.kind
    let flags = message.pointee.flags
    writer.field(1, message.pointee.serial)
    writer.field(2, UInt64(message.pointee.log_epoch))
    writer.field(3, message.pointee.seq)
    writer.field(4, message.pointee.owner_epoch)
    writer.field(5, EventBatchEncoder.eventKind(kind))
    writer.field(6, message.pointee.occurred_at_ms)
    writer.field(7, message.pointee.at_ms)
    writer.field(8, UInt64(flags & 1))
    writer.field(9, UInt64((flags >> 1) & 1))
    writer.field(10, UInt64((flags >> 2) & 1))
    writer.field(11, UInt64(message.pointee.family))
    writer.field(12, UInt64(message.pointee.code))
    writer.field(13, UInt64(message.pointee.source_type))
    writer.field(14, UInt64(message.pointee.source_number))
    if bodyBytes > 0, let body = message.pointee.body {
      writer.byte(0x7A)
      writer.varint(UInt64(bodyBytes))
      writer.at.update(from: body, count: bodyBytes)
      writer.at += bodyBytes
    }
    if kind == CSCP_MSG_LOG_GAP.rawValue {
      writer.longField(16, message.pointee.through_seq)
    } else if kind == CSCP_MSG_LOG_RESET.rawValue {
      writer.longField(17, UInt64(message.pointee.old_log_epoch))
      writer.longField(18, message.pointee.through_seq)
    }
  }

  /// EventKind of a message's kind.
  @inline(__always)
  private static func eventKind(_ kind: UInt32) -> UInt64 {
    switch kind {
    case CSCP_MSG_LOG_GAP.rawValue: return 2
    case CSCP_MSG_LOG_RESET.rawValue: return 3
    default: return 1
    }
  }

  /// The whole message, numbered `number` (0 = not numbered), and begins a new batch.
  mutating func finish(number: UInt64) -> [UInt8] {
    self.buffer[0] = 0x1A  // DriverMessage.events
    WireWriter.padded(self.used - EventBatchEncoder.headBytes, width: 4, at: self.buffer + 1)
    let used = self.used
    let buffer = self.buffer
    let message = [UInt8](
      unsafeUninitializedCapacity: used + EventBatchEncoder.numberBytesMax
    ) { room, count in
      room.baseAddress!.update(from: buffer, count: used)
      var writer = WireWriter(at: room.baseAddress! + used)
      writer.field(1, number)
      count = writer.at - room.baseAddress!
    }
    self.used = EventBatchEncoder.headBytes
    self.count = 0
    return message
  }

  private mutating func grow(by extra: Int) {
    let capacity = max(self.capacity * 2, self.used + extra)
    let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
    buffer.update(from: self.buffer, count: self.used)
    self.buffer.deallocate()
    self.buffer = buffer
    self.capacity = capacity
  }
}

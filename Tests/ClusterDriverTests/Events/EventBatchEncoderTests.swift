import CSCP
import DriverProtocol
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Event batch encoder")
struct EventBatchEncoderTests {
  @Test("what it writes is what generated code reads, field by field, for random messages")
  func agreesWithGeneratedCode() throws {
    var random = SplitMix64(seed: 5001)
    for round in 0..<200 {
      var encoder = EventBatchEncoder(capacity: 4096)
      var expected: [Clusterdriver_V1_Event] = []
      for _ in 0..<Int.random(in: 1...60, using: &random) {
        let sample = EventSample.random(&random)
        sample.withMessage { encoder.append($0) }
        expected.append(sample.event)
      }
      let count = encoder.count
      let number = round == 0 ? 0 : EventSample.wide(&random)
      let decoded = try Clusterdriver_V1_DriverMessage(
        serializedBytes: encoder.finish(number: number))
      #expect(decoded.number == number)
      #expect(count == expected.count)
      #expect(decoded.events.events == expected)
      #expect(decoded.unknownFields.data.isEmpty)
      let left = encoder.count
      #expect(left == 0)
    }
  }

  @Test(
    "the widest event there can be fits the room it is given, also as the first of a full buffer")
  func widest() throws {
    var encoder = EventBatchEncoder(capacity: 4096)
    let sample = EventSample.widest
    for _ in 0..<2048 { sample.withMessage { encoder.append($0) } }
    let decoded = try Clusterdriver_V1_DriverMessage(
      serializedBytes: encoder.finish(number: .max))
    #expect(decoded.number == .max)
    #expect(decoded.events.events.count == 2048)
    #expect(decoded.events.events.allSatisfy { $0 == sample.event })
  }

  @Test("a batch begins anew after finish")
  func again() throws {
    var encoder = EventBatchEncoder()
    EventSample.widest.withMessage { encoder.append($0) }
    let first = encoder.finish(number: 1)
    EventSample.widest.withMessage { encoder.append($0) }
    let second = encoder.finish(number: 2)
    #expect(first.count == second.count)
    #expect(try Clusterdriver_V1_DriverMessage(serializedBytes: second).number == 2)
  }
}

/// A message of the controller layer and the event it has to become.
struct EventSample {
  var raw = cscp_message()
  var body: [UInt8] = []

  func withMessage<R>(_ use: (UnsafePointer<cscp_message>) -> R) -> R {
    var raw = self.raw
    return self.body.withUnsafeBufferPointer { bytes in
      raw.n_body = UInt32(bytes.count)
      raw.body = bytes.baseAddress
      return withUnsafePointer(to: &raw) { use($0) }
    }
  }

  var event: Clusterdriver_V1_Event {
    var event = Clusterdriver_V1_Event()
    event.serial = self.raw.serial
    event.logEpoch = self.raw.log_epoch
    event.seq = self.raw.seq
    event.ownerEpoch = self.raw.owner_epoch
    event.occurredAtMs = self.raw.occurred_at_ms
    event.receivedAtMs = self.raw.at_ms
    event.replayed = self.raw.flags & 1 != 0
    event.priority = self.raw.flags & 2 != 0
    event.advisory = self.raw.flags & 4 != 0
    event.family = Clusterdriver_V1_EventFamily(rawValue: Int(self.raw.family))!
    event.code = UInt32(self.raw.code)
    event.sourceType = UInt32(self.raw.source_type)
    event.sourceNumber = UInt32(self.raw.source_number)
    event.body = .init(bytes: self.body)
    switch self.raw.kind {
    case CSCP_MSG_LOG_GAP.rawValue:
      event.kind = .logGap
      event.throughSeq = self.raw.through_seq
    case CSCP_MSG_LOG_RESET.rawValue:
      event.kind = .logReset
      event.previousLogEpoch = self.raw.old_log_epoch
      event.previousLastSeq = self.raw.through_seq
    default:
      event.kind = .event
    }
    return event
  }

  /// Small, middling and huge numbers alike.
  static func wide(_ random: inout SplitMix64) -> UInt64 {
    random.next() >> UInt64.random(in: 0...63, using: &random)
  }

  static func random(_ random: inout SplitMix64) -> EventSample {
    var sample = EventSample()
    sample.raw.kind = [
      CSCP_MSG_EVENT.rawValue, CSCP_MSG_LOG_GAP.rawValue, CSCP_MSG_LOG_RESET.rawValue,
    ].randomElement(using: &random)!
    sample.raw.serial = self.wide(&random)
    sample.raw.log_epoch = UInt32(truncatingIfNeeded: self.wide(&random))
    sample.raw.seq = self.wide(&random)
    sample.raw.owner_epoch = self.wide(&random)
    sample.raw.occurred_at_ms = self.wide(&random)
    sample.raw.at_ms = self.wide(&random)
    sample.raw.flags = UInt8.random(in: 0...255, using: &random)
    sample.raw.family = UInt8.random(in: 0...255, using: &random)
    sample.raw.code = UInt16(truncatingIfNeeded: self.wide(&random))
    sample.raw.source_type = UInt16(truncatingIfNeeded: self.wide(&random))
    sample.raw.source_number = UInt16(truncatingIfNeeded: self.wide(&random))
    sample.raw.through_seq = self.wide(&random)
    sample.raw.old_log_epoch = UInt32(truncatingIfNeeded: self.wide(&random))
    let length = Bool.random(using: &random) ? 0 : Int.random(in: 0...1024, using: &random)
    sample.body = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
    return sample
  }

  static var widest: EventSample {
    var sample = EventSample()
    sample.raw.kind = CSCP_MSG_LOG_RESET.rawValue
    sample.raw.serial = .max
    sample.raw.log_epoch = .max
    sample.raw.seq = .max
    sample.raw.owner_epoch = .max
    sample.raw.occurred_at_ms = .max
    sample.raw.at_ms = .max
    sample.raw.flags = .max
    sample.raw.family = .max
    sample.raw.code = .max
    sample.raw.source_type = .max
    sample.raw.source_number = .max
    sample.raw.through_seq = .max
    sample.raw.old_log_epoch = .max
    sample.body = [UInt8](repeating: 0xA5, count: 1024)
    return sample
  }
}

import DriverProtocol
import Foundation
import GRPCCore
import SwiftProtobuf
import Testing

@testable import VendorStore

@Suite("Wire format") struct WireTests {
  @Test("the hand-written decoder reads what the generated code writes, field by field")
  func roundTrip() {
    var random = Seeded(1)
    let events = (0..<2_000).map { _ in Self.randomEvent(&random) }
    let read = rows(events)
    #expect(read.count == events.count)
    for (index, event) in events.enumerated() { #expect(read.event(at: index) == event) }
  }

  @Test("whatever a controller can say is taken, at the ends of its range too")
  func oddControllers() {
    var odd = event(UInt64.max - 1, .max, log: .max, epoch: .max, at: .max)
    odd.family = Clusterdriver_V1_EventFamily(rawValue: 255) ?? .unspecified
    odd.code = 65_535
    odd.sourceType = 65_535
    odd.sourceNumber = 65_535
    odd.body = Data(repeating: 255, count: 1_024)
    let zero = {
      var event = Event()
      event.serial = 1
      event.seq = 1
      event.kind = .event
      return event
    }()
    let wide = gap(3, 1...UInt64.max)
    let read = rows([odd, zero, wide])
    #expect((0..<3).map { read.event(at: $0) } == [odd, zero, wide])
  }

  static let refusals: [(String, @Sendable (inout Event) -> Void)] = [
    ("serial 0", { $0.serial = 0 }),
    ("serial 2^64-1", { $0.serial = .max }),
    ("seq 0", { $0.seq = 0 }),
    ("no kind", { $0.kind = .unspecified }),
    ("a kind of the future", { $0.kind = .UNRECOGNIZED(4) }),
    ("a body of 1,025 bytes", { $0.body = Data(count: 1_025) }),
    ("a code over 16 bits", { $0.code = 65_536 }),
    ("a family over 8 bits", { $0.family = .UNRECOGNIZED(256) }),
    ("a gap that ends before it begins", { $0.kind = .logGap }),
  ]

  @Test("what only a node can get wrong is refused with a reason", arguments: refusals.indices)
  func refused(_ index: Int) throws {
    var bad = event(7, 5)
    Self.refusals[index].1(&bad)
    var message = DriverMessage()
    message.number = 1
    message.events.events = [event(7, 4), bad]
    let bytes: [UInt8] = try message.serializedBytes()
    let error = #expect(throws: RPCError.self) { try NodeMessageDeserializer().deserialize(bytes) }
    #expect(error?.code == .invalidArgument, "\(Self.refusals[index].0)")
    #expect(error?.message.hasPrefix("DriverMessage refused: ") == true)
  }

  @Test("a message cut off anywhere is refused or whole, and never read past its end")
  func truncated() throws {
    var message = DriverMessage()
    message.number = 300
    message.events.events = [event(7, 4, body: [1, 2, 3]), gap(8, 2...900)]
    let bytes: [UInt8] = try message.serializedBytes()
    for length in 0..<bytes.count {
      #expect(throws: RPCError.self) {
        try NodeMessageDeserializer().deserialize(Array(bytes.prefix(length)))
      }
    }
    #expect(throws: Never.self) { try NodeMessageDeserializer().deserialize(bytes) }
  }

  @Test("a message with any byte changed is read or refused, and harms nobody")
  func mutated() throws {
    var message = DriverMessage()
    message.number = 300
    message.events.events = [
      event(7, 4, body: [1, 2, 3]), gap(8, 2...900), reset(9, to: 2, from: 1),
    ]
    let bytes: [UInt8] = try message.serializedBytes()
    var random = Seeded(3)
    for _ in 0..<20_000 {
      var mutated = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        mutated[Int.random(in: 0..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      _ = try? NodeMessageDeserializer().deserialize(mutated)
    }
  }

  @Test("a field that this version does not know is passed over")
  func unknownFields() throws {
    var message = DriverMessage()
    message.number = 2
    message.events.events = [event(7, 4)]
    // Field 40 in all four wire types.
    let unknown: [UInt8] = [
      0xC0, 0x02, 0x05, 0xC2, 0x02, 0x01, 0xAA, 0xC1, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 0xC5, 0x02, 1,
      2, 3, 4,
    ]
    let bytes: [UInt8] = try message.serializedBytes()
    let read = try NodeMessageDeserializer().deserialize(unknown + bytes + unknown)
    guard case .events(let events) = read.content else {
      Issue.record("not read as events")
      return
    }
    #expect(events.event(at: 0) == event(7, 4))
  }

  @Test("a content of the future is refused, not acknowledged unread")
  func unknownContent() {
    #expect(throws: RPCError.self) {
      try NodeMessageDeserializer().deserialize([0x08, 0x05] as [UInt8])
    }
  }

  @Test("the fingerprint is that of the protocol page")
  func fingerprint() {
    var random = Seeded(2)
    for _ in 0..<500 {
      let event = Self.randomEvent(&random)
      let read = rows([event])
      let value = read.withBody(of: read.rows[0]) { Fingerprint(of: read.rows[0], body: $0).value }
      #expect(value == slowFingerprint(event))
    }
  }

  @Test("the fingerprint is that of the published vectors")
  func fingerprintVectors() {
    var denied = event(12_345, 5, log: 2, at: 1_767_225_599_000)
    denied.family = .access
    denied.code = 2
    denied.sourceType = 2
    denied.sourceNumber = 3
    denied.body = Data([0, 0, 0, 0, 0, 0, 0xCA, 0xFE, 0, 1, 2, 0])
    var opened = event(12_345, 6, log: 2, at: 1_767_225_599_001)
    opened.code = 1
    opened.sourceNumber = 1
    let read = rows([denied, opened])
    let values = read.rows.map { row in
      read.withBody(of: row) { Fingerprint(of: row, body: $0).value }
    }
    #expect(values == [10_474_361_229_466_666_335, 9_422_157_343_248_548_827])
  }

  static func randomEvent(_ random: inout Seeded) -> Event {
    func wide() -> UInt64 {
      let value = UInt64.random(in: 1...UInt64.max - 1, using: &random)
      return value >> UInt64.random(in: 0...62, using: &random) | 1
    }
    var some = event(
      wide(), wide(),
      log: .random(in: 0...UInt32.max, using: &random),
      epoch: .random(in: 0...UInt64.max, using: &random),
      at: .random(in: 0...UInt64.max, using: &random),
      body: (0..<Int.random(in: 0...40, using: &random)).map { _ in
        .random(in: 0...255, using: &random)
      }
    )
    if some.serial == .max { some.serial = 1 }
    some.kind =
      [Clusterdriver_V1_EventKind.event, .logGap, .logReset].randomElement(using: &random) ?? .event
    some.replayed = Bool.random(using: &random)
    some.priority = Bool.random(using: &random)
    some.advisory = Bool.random(using: &random)
    some.family =
      Clusterdriver_V1_EventFamily(rawValue: Int.random(in: 0...255, using: &random))
      ?? .unspecified
    some.code = .random(in: 0...65_535, using: &random)
    some.sourceType = .random(in: 0...65_535, using: &random)
    some.sourceNumber = .random(in: 0...65_535, using: &random)
    some.throughSeq = some.kind == .logGap ? .random(in: some.seq ... .max, using: &random) : 0
    if some.kind == .logReset {
      some.previousLogEpoch = .random(in: 0...UInt32.max, using: &random)
      some.previousLastSeq = .random(in: 0...UInt64.max, using: &random)
    }
    return some
  }
}

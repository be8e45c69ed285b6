import DriverProtocol
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Event path, whole", .serialized, .timeLimit(.minutes(2)))
struct EventPathTests {
  static func identities(_ serial: UInt64, _ range: ClosedRange<UInt64>) -> Set<
    ScriptedVendor.Identity
  > {
    Set(range.map { ScriptedVendor.Identity(serial: serial, seq: $0) })
  }

  @Test("what the vendor app acknowledged, and nothing else, is acknowledged to the controller")
  func acknowledged() async throws {
    let vendor = try ScriptedVendor(manner: .silent)
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 500))
    try await eventually("the window is full") { controller.now.sent == 64 }
    try await eventually("the vendor app has them") {
      running.node.outbox.counters.sentEvents == 64
    }
    #expect(controller.now.acked == 0)
    vendor.behave(.honest)
    await vendor.die()
    let next = try ScriptedVendor(port: Int(running.node.config.vendor.address.port))
    try await eventually("all are acknowledged") { controller.now.acked == 500 }
    #expect(Set(next.now.stored.keys) == Self.identities(42, 1...500))
    #expect(next.now.hellos.first?.nextNumber == 1)
    #expect(running.node.outbox.isEmpty)
    await running.stop()
    await next.die()
  }

  @Test("a node that was stopped and let go holds on to nothing")
  func letGo() async throws {
    let vendor = try ScriptedVendor()
    weak var node: Node?
    do {
      let running = try RunningNode(vendorPort: try await vendor.port)
      let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 10))
      try await eventually("all are acknowledged") { controller.now.acked == 10 }
      node = running.node
      await running.stop()
    }
    try await eventually("it is gone") { node == nil }
    await vendor.die()
  }

  @Test("a vendor app that comes late, and goes and comes again, loses nothing")
  func comesAndGoes() async throws {
    let port = freePort()
    let running = try RunningNode(vendorPort: port)
    let controllers = (1...20).map {
      ScriptedController(serial: UInt64($0), port: running.port, orders: .init(last: 400))
    }
    try await eventually("controllers are held back by their windows") {
      controllers.allSatisfy { $0.now.sent == 64 }
    }
    #expect(running.node.vendorText.hasPrefix("down since"))
    var stored: Set<ScriptedVendor.Identity> = []
    var vendor = try ScriptedVendor(port: port)
    for round in 1...4 {
      let goal = UInt64(round) * 2_000
      try await eventually("round \(round)") {
        vendor.now.stored.count >= min(2_000, 8_000 - stored.count)
          || controllers.reduce(0) { $0 + $1.now.acked } >= goal
      }
      await vendor.die()
      stored.formUnion(vendor.now.stored.keys)
      try await eventually("its port is free again") { isFree(port: port) }
      vendor = try ScriptedVendor(port: port)
      #expect(try await vendor.port == port)
    }
    try await eventually("all are acknowledged") { controllers.allSatisfy { $0.now.acked == 400 } }
    stored.formUnion(vendor.now.stored.keys)
    #expect(stored.count == 8_000)
    for numbers in vendor.now.numbers {
      let first = numbers.first ?? 1
      #expect(numbers == Array(first..<(first + UInt64(numbers.count))))
    }
    await running.stop()
    await vendor.die()
  }

  @Test("an acknowledgement of what was never sent ends the stream and acknowledges nothing")
  func ahead() async throws {
    let vendor = try ScriptedVendor(manner: .ahead)
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 100))
    try await eventually("it is attached again after its offence") { vendor.now.hellos.count >= 2 }
    #expect(controller.now.acked == 0)
    #expect(vendor.now.hellos.allSatisfy { $0.nextNumber == 1 })
    vendor.behave(.honest)
    try await eventually("all are acknowledged", within: .seconds(30)) {
      controller.now.acked == 100
    }
    await running.stop()
    await vendor.die()
  }

  @Test("bytes that are no message end the stream and nothing more")
  func garbage() async throws {
    let vendor = try ScriptedVendor(manner: .garbage)
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 100))
    try await eventually("it is attached again") { vendor.now.hellos.count >= 2 }
    #expect(controller.now.acked == 0)
    vendor.behave(.honest)
    try await eventually("all are acknowledged") { controller.now.acked == 100 }
    await running.stop()
    await vendor.die()
  }

  @Test(
    "a vendor app that hangs leaves bounded bytes in the node, and the rest with the controllers")
  func hung() async throws {
    let vendor = try ScriptedVendor(manner: .hung)
    let running = try RunningNode(vendorPort: try await vendor.port) {
      $0.inFlightBytes = 64 * 1024
      $0.window = EventWindow(k: 1024, w: 16)
    }
    let controllers = (1...20).map {
      ScriptedController(serial: UInt64($0), port: running.port, orders: .init(last: 3_000))
    }
    try await eventually("the node takes no more") { running.node.outbox.counters.stalls > 0 }
    let counters = running.node.outbox.counters
    // One batch beyond the limit at most: 1,024 events of under 100 bytes, and their cursors.
    #expect(counters.bytes < 64 * 1024 + 1024 * 160)
    vendor.behave(.honest)
    try await eventually("all are acknowledged", within: .seconds(60)) {
      controllers.allSatisfy { $0.now.acked == 3_000 }
    }
    #expect(vendor.now.stored.count == 60_000)
    #expect(vendor.now.stored.values.allSatisfy { $0 == 1 })
    await running.stop()
    await vendor.die()
  }

  @Test("events refused for their owner epoch come again under a higher one, and are then stored")
  func refused() async throws {
    let vendor = try ScriptedVendor(manner: .epochAtLeast(7))
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 200))
    try await eventually("all are acknowledged") { controller.now.acked == 200 }
    #expect(controller.now.epoch == 8)
    #expect(vendor.now.refused > 0)
    #expect(Set(vendor.now.stored.keys) == Self.identities(42, 1...200))
    await running.stop()
    await vendor.die()
  }

  @Test("a controller that has seen a higher epoch is served under one above it")
  func epochBehind() async throws {
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(
      serial: 42, port: running.port, orders: .init(last: 50, epochSeen: 30))
    let other = ScriptedController(serial: 43, port: running.port, orders: .init(last: 50))
    try await eventually("both are acknowledged") {
      controller.now.acked == 50 && other.now.acked == 50
    }
    #expect(controller.now.epoch == 31)
    #expect(other.now.epoch == 1)
    #expect(other.now.welcomes == 1)
    await running.stop()
    await vendor.die()
  }

  @Test("a pause asked for holds events back and nothing else, and ends when it is lifted")
  func pause() async throws {
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port)
    try await eventually("attached") { running.node.link.up != nil }
    vendor.say(.with { $0.flow.pauseMs = 60_000 })
    try await eventually("paused") { running.node.outbox.isPaused }
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(last: 10))
    try await eventually("its status is sent, which came before its events") {
      vendor.now.statuses.contains { $0.serial == 42 && $0.state == .online }
    }
    try await eventually("its events wait") { running.node.outbox.counters.events == 10 }
    #expect(vendor.now.stored.isEmpty)
    vendor.say(.with { $0.flow.pauseMs = 0 })
    try await eventually("acknowledged") { controller.now.acked == 10 }
    await running.stop()
    await vendor.die()
  }
}

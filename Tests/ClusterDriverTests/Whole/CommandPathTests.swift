import CSystem
import DriverProtocol
import Glibc
import RedisLink
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Command path, whole", .serialized, .timeLimit(.minutes(2)))
struct CommandPathTests {
  static func unlock(
    _ id: UInt8, serial: UInt64 = 42, within: UInt64 = 10_000
  ) -> Clusterdriver_V1_Command {
    .with {
      $0.id = .init(bytes: [UInt8](repeating: id, count: 16))
      $0.serial = serial
      $0.notAfterMs = Moment.utcMsNow() + within
      $0.unlock = .with { $0.door = 1 }
    }
  }

  @Test(
    "a command on the stream is carried out once, and its result comes back, however often asked")
  func stream() async throws {
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port)
    try await eventually("welcomed") { controller.now.welcomes == 1 }
    vendor.command(Self.unlock(1))
    try await eventually("a result") { vendor.now.results.count == 1 }
    vendor.command(Self.unlock(1))
    try await eventually("the same result again") { vendor.now.results.count == 2 }
    #expect(vendor.now.results[0] == vendor.now.results[1])
    #expect(vendor.now.results[0].status == .done)
    #expect([UInt8](vendor.now.results[0].body) == [1])
    #expect(controller.now.carriedOut.count == 1)
    vendor.command(Self.unlock(2, serial: 4711))
    try await eventually("the unknown one's result") { vendor.now.results.count == 3 }
    #expect(vendor.now.results[2].status == .offline)
    await running.stop()
    await vendor.die()
  }

  @Test("an operator's command waits for its result, and a wrong one says what is wrong")
  func operators() async throws {
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port)
    try await eventually("welcomed") { controller.now.welcomes == 1 }
    let node = running.node
    let result = await node.send(Self.unlock(1))
    #expect(result.status == .done)
    var wrong = Self.unlock(2)
    wrong.notAfterMs = 0
    let refused = await node.send(wrong)
    #expect(refused.status == .refused)
    #expect(refused.reason == DriverReason.badCommand)
    #expect(refused.detail.contains("not_after_ms"))
    wrong.id = .init(bytes: [1, 2, 3])
    #expect(await node.send(wrong).detail.contains("16 bytes"))
    await running.stop()
    await vendor.die()
  }

  @Test("a controller that went away with a command gets it again when it is back, and acts once")
  func reconnect() async throws {
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port)
    let controller = ScriptedController(serial: 42, port: running.port, orders: .init(isMute: true))
    try await eventually("welcomed") { controller.now.welcomes == 1 }
    vendor.command(Self.unlock(1))
    try await eventually("it has the command") { controller.now.commands == 1 }
    controller.order {
      $0.isMute = false
      $0.disconnects = true
    }
    try await eventually("a result") { vendor.now.results.count == 1 }
    #expect(vendor.now.results[0].status == .done)
    #expect(controller.now.commands == 2)
    #expect(controller.now.carriedOut.count == 1)
    await running.stop()
    await vendor.die()
  }

  @Test("PUBLISH reaches the controller by a real Redis, counts it, and ends with the connection")
  func redis() async throws {
    let redis = try RedisServer()
    let vendor = try ScriptedVendor()
    let running = try RunningNode(vendorPort: try await vendor.port, redisPort: redis.port)
    let controller = ScriptedController(serial: 42, port: running.port)
    let link = try RedisLink(RedisURL(host: "127.0.0.1", port: UInt16(redis.port)))
    defer { link.close() }
    try await eventually("welcomed") { controller.now.welcomes == 1 }
    let payload = try Self.unlock(1).serializedBytes() as [UInt8]
    var heard: RedisValue = .null
    while heard != .integer(1) {
      heard = try await link.send(
        RedisCommand("PUBLISH", .string("42"), .bytes(payload)), timeout: .seconds(5))
    }
    try await eventually("a result") { vendor.now.results.count >= 1 }
    #expect(vendor.now.results[0].status == .done)
    _ = try await link.send(
      RedisCommand("PUBLISH", .string("42"), .string("rubbish")), timeout: .seconds(5))
    let json = """
      {"id": "AgICAgICAgICAgICAgICAg==", "queryStatus": {}}
      """
    _ = try await link.send(
      RedisCommand("PUBLISH", .string("42"), .string(json)), timeout: .seconds(5))
    try await eventually("the JSON one's result") {
      vendor.now.results.contains { [UInt8]($0.id) == [UInt8](repeating: 2, count: 16) }
    }
    controller.order {
      $0.reconnects = false
      $0.disconnects = true
    }
    while heard != .integer(0) {
      heard = try await link.send(
        RedisCommand("PUBLISH", .string("42"), .bytes(payload)), timeout: .seconds(5))
    }
    await running.stop()
    await vendor.die()
  }
}

/// A private Redis on a free port.
final class RedisServer {
  let port: Int
  private var pid: pid_t = 0

  init() throws {
    self.port = freePort()
    let arguments = [
      "redis-server", "--port", "\(self.port)", "--bind", "127.0.0.1", "--save", "",
      "--appendonly", "no", "--logfile", "/dev/null",
    ]
    var raw = arguments.map { strdup($0) } + [nil]
    defer { for text in raw { free(text) } }
    guard posix_spawnp(&self.pid, "redis-server", nil, nil, &raw, environ) == 0 else {
      throw Failure()
    }
  }

  struct Failure: Error {}

  deinit {
    kill(self.pid, SIGKILL)
    waitpid(self.pid, nil, 0)
  }
}

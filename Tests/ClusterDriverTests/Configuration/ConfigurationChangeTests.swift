import Testing

@testable import ClusterDriver

@Suite("What a reload changes")
struct ConfigurationChangeTests {
  private static func read(_ arguments: [String]) throws -> NodeConfiguration {
    let reader = ConfigurationReader(
      arguments: ["--redis", "redis://a:old@h", "--vendor", "grpc://127.0.0.1:1"] + arguments,
      environment: [:], readFile: { _ in nil })
    guard case .run(let configuration, _) = try reader.read() else { throw CancellationError() }
    return configuration
  }

  @Test("each setting that has changed is named once: as taken, or as one that needs a restart")
  func named() throws {
    let change = ConfigurationChange(
      from: try Self.read([]),
      to: try Self.read(["--t3", "30s", "--log-level", "debug", "--in-flight-bytes", "1MiB"]))
    #expect(change.taken == ["in-flight-bytes", "log-level"])
    #expect(change.left == ["t3"])
  }

  @Test("what is written otherwise and means the same has not changed")
  func same() throws {
    let change = ConfigurationChange(
      from: try Self.read(["--t3", "20s"]), to: try Self.read(["--t3", "20000ms"]))
    #expect(change.taken.isEmpty && change.left.isEmpty)
  }

  @Test("another password of Redis is a change, though it is never shown")
  func password() throws {
    let change = ConfigurationChange(
      from: try Self.read([]), to: try Self.read(["--redis", "redis://a:new@h"]))
    #expect(change.left == ["redis"])
  }
}

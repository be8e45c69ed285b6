import CSystem
import DriverProtocol
import Glibc
import Logging
import RedisLink
import Testing

@testable import ClusterDriver

/// A node on a free port, without its daemon: no admin service, no metrics, no signals.
final class RunningNode {
  let node: Node
  private let link: Task<Void, Never>

  init(vendorPort: Int, redisPort: Int? = nil, change: (inout NodeConfiguration) -> Void = { _ in })
    throws
  {
    var config = NodeConfiguration(
      redis: redisPort.map { .server(RedisURL(host: "127.0.0.1", port: UInt16($0))) } ?? .memory,
      vendor: VendorSetting(address: HostPort(host: "127.0.0.1", port: UInt16(vendorPort))))
    config.port = 0
    config.bind = "127.0.0.1"
    config.ioThreads = 2
    config.t2 = .milliseconds(20)
    change(&config)
    self.node = try Node(config, log: RunningNode.log)
    let node = self.node
    self.link = Task { await node.link.run() }
    node.mailbox?.start()
    node.ownership.begin()
    node.taker.start()
    node.state = .serving
  }

  static let log = NodeLog(sink: DescriptorSink(fd: 2, style: .plain), level: .error)

  var port: UInt16 { self.node.layer.port }

  func stop() async {
    self.node.taker.stop()
    self.node.link.stop()
    self.link.cancel()
    await self.link.value
    self.node.ownership.close()
    self.node.redis?.close()
    self.node.mailbox?.close()
  }
}

/// Waits until something holds; fails the test when it does not within the limit.
func eventually(
  _ what: String, within limit: Duration = .seconds(20), _ holds: () throws -> Bool,
  sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let end = ContinuousClock.now.advanced(by: limit)
  while try !holds() {
    guard .now < end else {
      Issue.record("not within \(limit): \(what)", sourceLocation: sourceLocation)
      throw CancellationError()
    }
    try await Task.sleep(for: .milliseconds(3))
  }
}

/// A TCP port that was free a moment ago.
func freePort() -> Int {
  var address = csys_address()
  csys_address_parse("127.0.0.1", 0, &address)
  let listener = csys_socket_listen(&address, 1, 0)
  defer { csys_fd_close(listener) }
  return Int(csys_socket_port(listener))
}

/// Whether a server could listen there now: its predecessor's socket is gone for good.
func isFree(port: Int) -> Bool {
  var address = csys_address()
  csys_address_parse("127.0.0.1", UInt16(port), &address)
  let listener = csys_socket_listen(&address, 1, 0)
  if listener >= 0 { csys_fd_close(listener) }
  return listener >= 0
}

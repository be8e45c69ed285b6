import CSCP
import CSystem
import DriverProtocol
import Election
import GRPCCore
import GRPCNGHTTP2
import Glibc
import Logging
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

@Suite("Admin service", .timeLimit(.minutes(1)))
struct AdminServerTests {
  typealias Client = Clusterdriver_V1_DriverAdmin.Client<NGHTTP2ClientTransport>

  /// A node with controllers 1 … count, where commands for serial 9 never end until told.
  final class FakeNode: NodeView {
    let tail = TailHub()
    let count: UInt64
    let isHung = Atomic<Bool>(false)
    let stuckCommands = Mutex<[CheckedContinuation<Void, Never>]>([])
    let ended = Atomic<Int>(0)

    init(count: UInt64 = 3) {
      self.count = count
    }

    func status() -> Clusterdriver_V1_NodeStatus {
      .with {
        $0.nodeID = "gate-1:5001"
        $0.state = "serving"
        $0.incarnation = 7
        $0.restartable = self.restarts.load(ordering: .relaxed) < 2
        $0.whyNotRestartable = "it has been twice"
      }
    }

    let restarts = Atomic<Int>(0)
    func restart() { self.restarts.add(1, ordering: .relaxed) }
    let way = Mutex<(any NodePeers)?>(nil)
    var peers: (any NodePeers)? { self.way.withLock { $0 } }

    func sessions(
      from serial: UInt64, limit: Int
    ) throws(NodeViewError) -> [Clusterdriver_V1_NodeController] {
      if self.isHung.load(ordering: .relaxed) {
        throw .timedOut("an I/O thread does not answer")
      }
      guard serial <= self.count else { return [] }
      return (serial...self.count).prefix(limit).map { serial in
        .with {
          $0.status.serial = serial
          $0.backlog = serial
        }
      }
    }

    let members = Mutex<OwnershipView?>(nil)
    var cluster: OwnershipView? { self.members.withLock { $0 } }
    let changes = Mutex<OwnershipHistory?>(nil)
    var history: OwnershipHistory? { self.changes.withLock { $0 } }
    let orders = Mutex<[OperatorOrder]>([])
    func drain(_ isDraining: Bool) {}
    func order(_ order: OperatorOrder) { self.orders.withLock { $0.append(order) } }

    func send(_ command: Clusterdriver_V1_Command) async -> Clusterdriver_V1_CommandResult {
      if command.serial == 9 {
        await withCheckedContinuation { continuation in
          self.stuckCommands.withLock { $0.append(continuation) }
        }
      }
      self.ended.add(1, ordering: .relaxed)
      return .with {
        $0.id = command.id
        $0.serial = command.serial
        $0.status = .done
      }
    }
  }

  static func temporaryPath() -> String {
    "/tmp/cluster-driver-test-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
  }

  static func quiet() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

  /// Serves `node` while `body` runs.
  static func serving(
    _ node: FakeNode, at address: AdminAddress,
    _ body: @escaping @Sendable (AdminAddress, Client) async throws -> Void
  ) async throws {
    let server = try AdminServer(address: address, node: node, log: Self.quiet())
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      let bound = try await server.address
      let target: NGHTTP2Address
      switch bound {
      case .unix(let path): target = .unix(path)
      case .tcp(let address): target = .tcp(host: address.host, port: Int(address.port))
      }
      try await withGRPCClient(transport: try NGHTTP2ClientTransport(target: target)) { client in
        try await body(bound, Client(wrapping: client))
      }
      server.shutDown()
      try await group.waitForAll()
    }
  }

  static func serials(
    _ client: Client, _ request: Clusterdriver_V1_ListNodeControllersRequest
  ) async throws -> [UInt64] {
    try await client.listControllers(request) { response in
      var serials: [UInt64] = []
      for try await controller in response.messages { serials.append(controller.status.serial) }
      return serials
    }
  }

  @Test("a Unix socket of mode 0660 answers, and its file is gone afterwards")
  func unixSocket() async throws {
    let path = Self.temporaryPath()
    try await Self.serving(FakeNode(), at: .unix(path)) { _, client in
      var status = stat()
      #expect(stat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o660)
      let node = try await client.getNode(Clusterdriver_V1_GetNodeRequest())
      #expect(node.nodeID == "gate-1:5001")
    }
    #expect(access(path, F_OK) != 0)
  }

  @Test("a TCP address answers, on any free port when it is 0")
  func tcp() async throws {
    let address = AdminAddress.tcp(HostPort(host: "127.0.0.1", port: 0))
    try await Self.serving(FakeNode(), at: address) { bound, client in
      guard case .tcp(let address) = bound else {
        Issue.record("not TCP")
        return
      }
      #expect(address.port != 0)
      let node = try await client.getNode(Clusterdriver_V1_GetNodeRequest())
      #expect(node.state == "serving")
    }
  }

  @Test("a socket left behind is replaced; one that is served, or another kind of file, is not")
  func staleSocket() async throws {
    let path = Self.temporaryPath()
    defer { unlink(path) }
    // Bound and never listened on: as a killed process leaves it.
    var address = csys_address()
    #expect(csys_address_unix(path, &address) >= 0)
    let left = csys_socket_listen(&address, 1, 0o600)
    #expect(left >= 0)
    csys_fd_close(left)
    #expect(access(path, F_OK) == 0)
    try await Self.serving(FakeNode(), at: .unix(path)) { _, client in
      _ = try await client.getNode(Clusterdriver_V1_GetNodeRequest())
      let second = try AdminServer(address: .unix(path), node: FakeNode(), log: Self.quiet())
      await #expect(throws: AdminServer.Failure.self) { try await second.serve() }
      // The first is still the one that answers.
      _ = try await client.getNode(Clusterdriver_V1_GetNodeRequest())
    }
    let file = open(path, O_CREAT | O_WRONLY, 0o600)
    #expect(file >= 0)
    close(file)
    let third = try AdminServer(address: .unix(path), node: FakeNode(), log: Self.quiet())
    let failure = await #expect(throws: AdminServer.Failure.self) { try await third.serve() }
    #expect(failure?.description.contains("\(path): Address already in use") == true)
    #expect(access(path, F_OK) == 0)
  }

  @Test("controllers are listed page by page to the last, or one alone, or those behind")
  func listControllers() async throws {
    let count = UInt64(AdminService.pageSize * 2 + 1)
    try await Self.serving(FakeNode(count: count), at: .unix(Self.temporaryPath())) { _, client in
      let all = try await Self.serials(client, .init())
      #expect(all == Array(1...count))
      let one = try await Self.serials(client, .with { $0.serial = 7 })
      #expect(one == [7])
      let none = try await Self.serials(client, .with { $0.serial = count + 1 })
      #expect(none == [])
      let behind = try await Self.serials(client, .with { $0.backlogMin = count - 1 })
      #expect(behind == [count - 1, count])
    }
    let exact = UInt64(AdminService.pageSize)
    try await Self.serving(FakeNode(count: exact), at: .unix(Self.temporaryPath())) { _, client in
      let all = try await Self.serials(client, .init())
      #expect(all.count == Int(exact))
    }
  }

  @Test("a node whose threads do not answer says so")
  func hungNode() async throws {
    let node = FakeNode()
    node.isHung.store(true, ordering: .relaxed)
    try await Self.serving(node, at: .unix(Self.temporaryPath())) { _, client in
      let error = await #expect(throws: RPCError.self) {
        try await Self.serials(client, .init())
      }
      #expect(error?.code == .unavailable)
      #expect(error?.message == "an I/O thread does not answer")
    }
  }

  @Test("a command's result comes back; who stops waiting does not stop the command")
  func sendCommand() async throws {
    let node = FakeNode()
    try await Self.serving(node, at: .unix(Self.temporaryPath())) { _, client in
      let result = try await client.sendCommand(
        .with { $0.serial = 1 })
      #expect(result.status == .done)
      #expect(result.serial == 1)

      var options = CallOptions.defaults
      options.timeout = .milliseconds(200)
      let error = await #expect(throws: RPCError.self) {
        try await client.sendCommand(.with { $0.serial = 9 }, options: options)
      }
      #expect(error?.code == .deadlineExceeded)
      #expect(node.ended.load(ordering: .relaxed) == 1)
      for command in node.stuckCommands.withLock({ $0 }) { command.resume() }
      while node.ended.load(ordering: .relaxed) != 2 { await Task.yield() }
    }
  }

  @Test("a tail gives events as they pass, tells what was missed, and stops costing when it ends")
  func tail() async throws {
    let node = FakeNode()
    try await Self.serving(node, at: .unix(Self.temporaryPath())) { _, client in
      #expect(!node.tail.isWanted)
      try await client.tail(.with { $0.serial = 5 }) { response in
        while !node.tail.isWanted { await Task.yield() }
        node.tail.offer(TailHubTests.events(1...2, serial: 4))
        node.tail.offer(TailHubTests.events(3...4, serial: 5))
        var seqs: [UInt64] = []
        for try await item in response.messages {
          if case .event(let event)? = item.content { seqs.append(event.seq) }
          if seqs.count == 2 { break }
        }
        #expect(seqs == [3, 4])
      }
      while node.tail.isWanted { await Task.yield() }
    }
  }

  @Test("shutting down ends open tails")
  func shutdownEndsTails() async throws {
    let node = FakeNode()
    try await Self.serving(node, at: .unix(Self.temporaryPath())) { _, client in
      try await client.tail(.init()) { response in
        while !node.tail.isWanted { await Task.yield() }
        node.tail.offer(TailHubTests.events(1...1))
        node.tail.closeAll()
        var count = 0
        for try await _ in response.messages { count += 1 }
        #expect(count <= 1)
      }
    }
  }

  @Test("one tail too many is refused with the reason")
  func tooManyTails() async throws {
    let node = FakeNode()
    let readers = (0..<TailHub.readersMax).compactMap { _ in node.tail.open(serial: 0) }
    try await Self.serving(node, at: .unix(Self.temporaryPath())) { _, client in
      let error = await #expect(throws: RPCError.self) {
        try await client.tail(.init()) { response in
          for try await _ in response.messages {}
        }
      }
      #expect(error?.code == .resourceExhausted)
    }
    #expect(readers.count == TailHub.readersMax)
  }

  @Test("a session of the controller layer is told with its backlog")
  func sessionInfo() {
    var session = cscp_session_info()
    session.serial = 7
    session.received_seq = 90
    session.hello_last_seq = 120
    session.acked_seq = 80
    session.idle_ms = 5
    withUnsafeMutableBytes(of: &session.peer) { $0.copyBytes(from: "192.0.2.7:40112".utf8) }
    withUnsafeMutableBytes(of: &session.model) { bytes in
      bytes.copyBytes(from: [UInt8](repeating: UInt8(ascii: "m"), count: bytes.count))
    }
    let controller = Clusterdriver_V1_NodeController(session)
    #expect(controller.status.serial == 7)
    #expect(controller.status.state == .online)
    #expect(controller.status.peer == "192.0.2.7:40112")
    #expect(controller.status.model.count == Int(CSCP_NAME_MAX) + 1)
    #expect(controller.backlog == 40)
    session.acked_seq = 120
    #expect(Clusterdriver_V1_NodeController(session).backlog == 0)
  }
}

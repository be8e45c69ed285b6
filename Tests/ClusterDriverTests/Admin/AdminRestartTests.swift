import DriverProtocol
import Election
import GRPCCore
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// What an operator may ask of a node, and of others through it.
@Suite("Admin: other nodes, and restarts", .timeLimit(.minutes(1)))
struct AdminRestartTests {
  /// Everybody else.
  private final class Peers: NodePeers {
    let restarts = Mutex<[String]>([])

    func describe(_ node: NodeID) async throws(RPCError) -> Clusterdriver_V1_NodeStatus {
      .with { $0.nodeID = node.name }
    }

    func restart(
      _ node: NodeID, incarnation: UInt64
    ) async throws(RPCError) -> Clusterdriver_V1_NodeStatus {
      self.restarts.withLock { $0.append("\(node) \(incarnation)") }
      return .with { $0.nodeID = node.name }
    }
  }

  /// A cluster of "gate-1:5001" and "gate-2", as the former sees it after these seconds; the latter is
  /// silent from the fifth on.
  private static func view(seconds: Int64 = 4) throws -> OwnershipView {
    let owners = [
      Owner(NodeID("gate-1:5001"), Incarnation(7)), Owner(NodeID("gate-2"), Incarnation(3)),
    ]
    var machines = try owners.map { NodeMachine(me: $0, timing: try Timing()) }
    var store = MemoryStore(identity: StoreIdentity("0123456789abcdef"))
    func step(_ which: Int, _ event: NodeMachine.Event, at now: Instant) {
      for case .call(let id, let call, let known) in machines[which].step(event, at: now) {
        step(which, .replied(id, store.run(call, for: known)), at: now)
      }
    }
    for tick in 1...(seconds * 100) {
      for which in machines.indices where which == 0 || tick <= 500 {
        step(which, .wake, at: Instant(nanoseconds: tick * 10_000_000))
      }
    }
    return OwnershipView(machines[0], PeerPlaces())
  }

  private func code(_ body: () async throws -> Void) async -> RPCError.Code? {
    do {
      try await body()
      return nil
    } catch {
      return (error as? RPCError)?.code
    }
  }

  @Test("a node restarts in the life that is meant, and in no other; asking again is safe")
  func itself() async throws {
    let node = AdminServerTests.FakeNode()
    try await AdminServerTests.serving(node, at: .unix(AdminServerTests.temporaryPath())) {
      _, client in
      let other = await #expect(throws: RPCError.self) {
        try await client.restartNode(.with { $0.incarnation = 6 })
      }
      #expect(other?.code == .failedPrecondition)
      #expect(other?.message.contains("restarted meanwhile") == true, "\(other as Any)")
      #expect(node.restarts.load(ordering: .relaxed) == 0)
      let status = try await client.restartNode(.with { $0.incarnation = 7 })
      #expect(status.incarnation == 7)
      _ = try await client.restartNode(
        .with {
          $0.nodeID = "gate-1:5001"
          $0.incarnation = 7
        })
      let refused = await #expect(throws: RPCError.self) {
        try await client.restartNode(.with { $0.incarnation = 7 })
      }
      #expect(refused?.code == .failedPrecondition)
      #expect(refused?.message.contains("it has been twice") == true)
      #expect(node.restarts.load(ordering: .relaxed) == 2)
    }
  }

  @Test("of the others it asks those that the cluster has; without a cluster there are none")
  func others() async throws {
    let node = AdminServerTests.FakeNode()
    let peers = Peers()
    let view = try Self.view()
    try #require(view.peers.session(of: NodeID("gate-2")) != nil)
    try await AdminServerTests.serving(node, at: .unix(AdminServerTests.temporaryPath())) {
      _, client in
      #expect(
        await code { _ = try await client.getNode(.with { $0.nodeID = "gate-2" }) }
          == .failedPrecondition)
      node.members.withLock { $0 = view }
      node.way.withLock { $0 = peers }
      #expect(try await client.getNode(.with { $0.nodeID = "gate-2" }).nodeID == "gate-2")
      #expect(try await client.getNode(.init()).nodeID == "gate-1:5001")
      let unknown = await #expect(throws: RPCError.self) {
        try await client.getNode(.with { $0.nodeID = "gate-3" })
      }
      #expect(unknown?.code == .notFound && unknown?.message.contains("gate-2") == true)
      _ = try await client.restartNode(
        .with {
          $0.nodeID = "gate-2"
          $0.incarnation = 3
        })
      #expect(peers.restarts.withLock { $0 } == ["gate-2 3"])
      #expect(node.restarts.load(ordering: .relaxed) == 0)
    }
  }

  @Test("ranges of a node that is silent are counted as nobody's, until somebody has taken them")
  func unserved() throws {
    func status(_ seconds: Int64) throws -> Clusterdriver_V1_ClusterStatus {
      Clusterdriver_V1_ClusterStatus(
        try Self.view(seconds: seconds), withRanges: false,
        at: Instant(nanoseconds: seconds * 1_000_000_000))
    }
    #expect(try status(4).unserved == 0)
    #expect(try status(10).unserved == 0)
    // With the clock alone gone on, nobody has heard of the other since.
    let view = try Self.view(seconds: 4)
    let late = Clusterdriver_V1_ClusterStatus(
      view, withRanges: true, at: Instant(nanoseconds: 60_000_000_000))
    #expect(late.unserved == late.ranges.count { $0.owner != "gate-1:5001" })
  }
}

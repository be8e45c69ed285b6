import DriverProtocol
import Election
import GRPCCore
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// What the admin service says of a cluster, and does to it.
@Suite("Admin: the cluster")
struct AdminClusterTests {
  /// A member that is alone in a store in memory, and carries out what an operator orders.
  private struct Member {
    var machine: NodeMachine
    var store = MemoryStore(identity: StoreIdentity("0123456789abcdef"))
    var now: Int64 = 0

    init() throws {
      machine = NodeMachine(me: Owner(NodeID("gate-1"), Incarnation(1)), timing: try Timing())
      pass(seconds: 4)
    }

    mutating func pass(seconds: Int64) {
      for _ in 0..<(seconds * 100) {
        now += 10_000_000
        step(.wake)
      }
    }

    mutating func step(_ event: NodeMachine.Event) {
      for case .call(let id, let call, let known) in machine.step(
        event, at: Instant(nanoseconds: now))
      {
        step(.replied(id, store.run(call, for: known)))
      }
    }

    var view: OwnershipView { OwnershipView(machine, PeerPlaces()) }
  }

  private func serving(
    _ node: AdminServerTests.FakeNode,
    _ body: @escaping @Sendable (AdminServerTests.Client) async throws -> Void
  ) async throws {
    try await AdminServerTests.serving(
      node, at: .unix(AdminServerTests.temporaryPath())
    ) { _, client in try await body(client) }
  }

  @Test("a node that is on its own says so, whatever is asked of its cluster")
  func alone() async throws {
    try await serving(AdminServerTests.FakeNode()) { client in
      for ask in [
        { _ = try await client.getPlan(.init()) }, { _ = try await client.getHistory(.init()) },
        { _ = try await client.setBalancing(.init()) },
        { _ = try await client.forgetMember(.init()) },
      ] as [@Sendable () async throws -> Void] {
        let error = await #expect(throws: RPCError.self) { try await ask() }
        #expect(error?.code == .failedPrecondition && error?.message.contains("own") == true)
      }
    }
  }

  @Test("an order is answered when the cluster shows it done, and never taken for done before")
  func orders() async throws {
    var member = try Member()
    let node = AdminServerTests.FakeNode()
    node.members.withLock { [view = member.view] in $0 = view }
    member.step(.order(.pauseBalancing(true)))
    member.pass(seconds: 1)
    let paused = member.view
    try await serving(node) { client in
      let late = await #expect(throws: RPCError.self) {
        try await client.setBalancing(.with { $0.paused = true })
      }
      #expect(late?.code == .unavailable)
      node.members.withLock { $0 = paused }
      let done = try await client.setBalancing(.with { $0.paused = true })
      let plan = try await client.getPlan(.init())
      #expect(done.paused && plan.paused)
      let unknown = await #expect(throws: RPCError.self) {
        try await client.forgetMember(.with { $0.nodeID = "gate-1" })
      }
      #expect(unknown?.code == .failedPrecondition && unknown?.message.contains("none") == true)
    }
    #expect(node.orders.withLock { $0 } == [.pauseBalancing(true), .pauseBalancing(true)])
  }

  @Test("the history is told from the number that was asked for on")
  func history() async throws {
    let member = try Member()
    var history = OwnershipHistory()
    history.look(member.view, now: Instant(nanoseconds: member.now), at: 1_790_000_000_000)
    let all = history.entries
    let node = AdminServerTests.FakeNode()
    node.members.withLock { [view = member.view] in $0 = view }
    node.changes.withLock { [history] in $0 = history }
    try await serving(node) { client in
      let told = try await client.getHistory(.init())
      #expect(told.nodeID == "gate-1" && told.incarnation == 1)
      #expect(told.changes.map(\.what) == all.map(\.what.rawValue))
      #expect(told.changes.allSatisfy { $0.atMs == 1_790_000_000_000 && $0.node == "gate-1" })
      let rest = try await client.getHistory(.with { $0.after = 1 })
      #expect(rest.changes.map(\.number) == Array(2..<UInt64(all.count + 1)))
    }
  }
}

import DriverProtocol
import Election
import GRPCCore
import Logging
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// What an operator asks of a node through another one, over real gRPC.
@Suite("A node asked through another", .timeLimit(.minutes(1)))
struct PeerDeskTests {
  private static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// "b" serves peers at a port of its own; "a" has a way to it, and to "c", which is nowhere.
  private struct Pair {
    var links: PeerLinks
    var server: PeerServer
  }

  private func pair() async throws -> Pair {
    // To bind a port blocks until others of Swift's threads have moved.
    let made = await onThreadOfItsOwn("pair") { () -> Result<Pair, any Error> in
      Result {
        let links = PeerLinks(me: NodeID("a"), log: Self.quiet)
        let server = try PeerServer(
          address: HostPort(host: "127.0.0.1", port: 0), me: NodeID("b"), commands: nil,
          log: Self.quiet)
        let there = "127.0.0.1:\(try server.port())"
        var places = PeerPlaces()
        _ = places.see(
          ["b": there, "c": "127.0.0.1:1", "d": there].map { name, address in
            SessionRecord(
              node: NodeID(name), value: SessionValue(Incarnation(1), 1),
              status: MemberStatus(peersAt: address))
          })
        links.reach(places)
        return Pair(links: links, server: server)
      }
    }
    return try #require(made).get()
  }

  /// What has come of a call at last; one that was not answered in time, on a busy machine, is made again.
  private func outcome(
    _ body: () async throws(RPCError) -> Clusterdriver_V1_NodeStatus
  ) async -> Result<Clusterdriver_V1_NodeStatus, RPCError> {
    while true {
      do throws(RPCError) {
        return .success(try await body())
      } catch {
        guard error.message.contains("did not answer within") else { return .failure(error) }
      }
    }
  }

  @Test("it tells how it is, and restarts in the life that is meant")
  func asked() async throws {
    let pair = try await self.pair()
    defer {
      pair.links.close()
      pair.server.close()
    }
    let b = NodeID("b")
    let links = pair.links
    let starting = await outcome { () throws(RPCError) in try await links.describe(b) }
    #expect(throws: RPCError.self) { try starting.get() }
    let restarts = Counter()
    pair.server.serve(
      NodeDesk(
        describe: {
          .with {
            $0.nodeID = "b"
            $0.incarnation = 4
            $0.restartable = true
          }
        }, restart: { restarts.add(1) }))
    let told = await outcome { () throws(RPCError) in try await links.describe(b) }
    #expect(try told.get().incarnation == 4)
    let other = await outcome { () throws(RPCError) in
      try await links.restart(b, incarnation: 3)
    }
    #expect(throws: RPCError.self) { try other.get() }
    #expect(restarts.value == 0)
    let meant = await outcome { () throws(RPCError) in
      try await links.restart(b, incarnation: 4)
    }
    #expect(try meant.get().nodeID == "b")
    #expect(restarts.value >= 1)
  }

  @Test(
    "who is not there, or answers under another name, is said to be out of reach; with its name")
  func unreachable() async throws {
    let pair = try await self.pair()
    defer {
      pair.links.close()
      pair.server.close()
    }
    let links = pair.links
    for name in ["c", "d", "e"] {
      let end = await outcome { () throws(RPCError) in
        try await links.restart(NodeID(name), incarnation: 1)
      }
      guard case .failure(let error) = end else {
        Issue.record("\(name) has answered")
        continue
      }
      #expect(error.code == .unavailable, "\(name): \(error)")
      #expect(error.message.hasPrefix(name + " "), "\(error)")
    }
  }

  @Test("a node of a version that cannot be asked is told apart from one that is out of reach")
  func earlier() {
    let error = PeerLinks.explained(
      RPCError(code: .unimplemented, message: "no such method"), NodeID("b"))
    #expect(error.code == .failedPrecondition && error.message.contains("on its host"))
  }
}

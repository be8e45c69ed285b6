import Election
import Logging
import RedisLink
import Synchronization
import Testing

@testable import ClusterDriver

/// A member with a real Redis and real peers, in this process.
private final class Member: Sendable {
  struct State {
    var acting: [OwnedRange] = []
    var until: Instant?
    var endings: [OwnershipLoop.Ending] = []
    var view: OwnershipView?
  }

  let state = Mutex(State())
  let member = Mutex<ClusterMember?>(nil)

  init(_ name: String, _ server: StoreServer, tolerance: Int = 0) throws {
    var settings = ClusterMember.Settings(
      node: NodeID(name), incarnation: Incarnation(UInt64(Instant.now.nanoseconds)),
      redis: try RedisURL(parsing: "redis://127.0.0.1:\(server.port)"), timing: try Timing(),
      peersBind: HostPort(host: "127.0.0.1", port: 0), peersHost: "127.0.0.1")
    settings.tolerance = tolerance
    let made = try ClusterMember(
      settings, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      handlers: OwnershipLoop.Handlers(
        act: { [weak self] acting, until in
          self?.state.withLock {
            $0.acting = acting
            $0.until = until
          }
        },
        seal: { [weak self] first, move in
          self?.happened(.sealed(first, move: move))
        },
        changed: { [weak self] view in self?.state.withLock { $0.view = view } },
        ended: { [weak self] ending in self?.state.withLock { $0.endings.append(ending) } }))
    member.withLock { $0 = made }
    made.start()
  }

  func happened(_ event: NodeMachine.Event) {
    member.withLock { $0 }?.happened(event)
  }

  var view: OwnershipView? { state.withLock { $0.view } }

  /// Acts for these serials at this instant.
  func acts(for serial: UInt64) -> Bool {
    state.withLock { state in
      guard let until = state.until, .now < until else { return false }
      return state.acting.contains { $0.serials.contains(Serial(serial)) }
    }
  }

  func close() {
    let made = member.withLock { $0.take() }
    made?.close()
  }
}

/// Looks again and again until it is so; false after 10 s.
private func comes(_ condition: () async throws -> Bool) async throws -> Bool {
  let end = ContinuousClock.now.advanced(by: .seconds(10))
  while .now < end {
    if try await condition() { return true }
    try await Task.sleep(for: .milliseconds(5))
  }
  return false
}

@Suite("A member of a cluster, with a real Redis and real peers", .serialized)
struct ClusterMemberTests {
  @Test("a member alone comes to own every serial, and gives it back when it stops")
  func alone() async throws {
    let server = try StoreServer()
    defer { server.stop() }
    let a = try Member("a", server)
    defer { a.close() }
    #expect(try await comes { a.acts(for: 1) && a.acts(for: .max - 1) })
    a.happened(.stop)
    a.happened(.workEnded)
    #expect(try await comes { a.state.withLock { $0.endings } == [.stopped] })
    #expect(!a.acts(for: 1), "what was given back is not acted for")
  }

  @Test("while Redis hangs, members that reach each other act on by their promises")
  func promises() async throws {
    let server = try StoreServer()
    defer { server.stop() }
    let a = try Member("a", server)
    defer { a.close() }
    let b = try Member("b", server)
    defer { b.close() }
    #expect(try await comes { a.acts(for: 1) || b.acts(for: 1) })
    // Each must have seen the other with the newest member list.
    #expect(
      try await comes {
        [a.view, b.view].allSatisfy { view in
          guard let view else { return false }
          return view.list.added.count == 2
            && view.peers.sessions.allSatisfy { $0.list == view.list.number }
        }
      })
    let owner = a.acts(for: 1) ? a : b
    server.pause()
    defer { server.resume() }
    // Longer than a lease lasts; at no instant in between may it be without.
    let end = ContinuousClock.now.advanced(by: .seconds(4))
    var misses = 0
    while .now < end {
      if !owner.acts(for: 1) { misses += 1 }
      try await Task.sleep(for: .milliseconds(2))
    }
    #expect(misses == 0)
    #expect(owner.view?.actsByPromises == true)
    server.resume()
    #expect(try await comes { owner.view?.actsByPromises == false && owner.acts(for: 1) })
  }

  @Test("a second process under a node's name ends the first, which acts for nothing any more")
  func replaced() async throws {
    let server = try StoreServer()
    defer { server.stop() }
    let first = try Member("a", server)
    defer { first.close() }
    #expect(try await comes { first.acts(for: 1) })
    let second = try Member("a", server)
    defer { second.close() }
    #expect(try await comes { first.state.withLock { $0.endings.count == 1 } })
    guard case .replaced = first.state.withLock({ $0.endings[0] }) else {
      Issue.record("it stopped for another reason")
      return
    }
    #expect(!first.acts(for: 1))
    #expect(try await comes { second.acts(for: 1) })
  }
}

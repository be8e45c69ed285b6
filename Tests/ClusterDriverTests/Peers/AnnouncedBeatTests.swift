import Election
import Logging
import Synchronization
import Testing

@testable import ClusterDriver

/// A store in this process, which keeps one node's heartbeats back for as long as it is told to.
private final class SharedStore: OwnershipStore {
  private struct State {
    var store = MemoryStore(identity: StoreIdentity("s"))
    var held: [@Sendable () -> Void] = []
    var isHolding = false
    var counters: [NodeID: UInt64] = [:]
  }

  private let state = Mutex(State())
  private let slow: NodeID

  init(slow: NodeID) { self.slow = slow }

  func run(
    _ call: StoreCall, for known: StoreIdentity?,
    then tell: @escaping @Sendable (Result<StoreReply, StoreFailure>) -> Void
  ) {
    let reply = self.state.withLock { state -> StoreReply? in
      if case .heartbeat(let beat) = call {
        if beat.owner.node == self.slow, state.isHolding {
          state.held.append { self.run(call, for: known, then: tell) }
          return nil
        }
        state.counters[beat.owner.node] = beat.counter
      }
      return state.store.run(call, for: known)
    }
    if let reply { tell(.success(reply)) }
  }

  func counter(of node: NodeID) -> UInt64 { self.state.withLock { $0.counters[node] ?? 0 } }

  func hold() { self.state.withLock { $0.isHolding = true } }

  func release() {
    let held = self.state.withLock { state in
      state.isHolding = false
      defer { state.held = [] }
      return state.held
    }
    for run in held { run() }
  }
}

/// The part of a node that takes part in ownership, with real gRPC to its peers.
private final class Peer: Sendable {
  static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  let view = Mutex<OwnershipView?>(nil)
  private let server: PeerServer
  private let links: PeerLinks
  private let loop = Mutex<OwnershipLoop?>(nil)

  init(_ name: String, _ store: SharedStore) throws {
    let me = NodeID(name)
    self.links = PeerLinks(me: me, log: Self.quiet)
    self.server = try PeerServer(
      address: HostPort(host: "127.0.0.1", port: 0), me: me, commands: nil, log: Self.quiet)
    let address = "127.0.0.1:\(try self.server.port())"
    let loop = OwnershipLoop(
      NodeMachine(me: Owner(me, Incarnation(1)), timing: try Timing()),
      status: MemberStatus(peersAt: address), store: store, peers: self.links, memory: nil,
      log: Self.quiet,
      handlers: OwnershipLoop.Handlers(
        act: { _, _ in }, seal: { _, _ in },
        changed: { [weak self] view in self?.view.withLock { $0 = view } }, ended: { _ in }))
    self.loop.withLock { $0 = loop }
    self.server.serve(loop)
    loop.start()
  }

  /// The heartbeat of the other's that it sees, and since when it counts.
  func beat(of node: NodeID) -> (counter: UInt64, at: Instant)? {
    guard let peers = self.view.withLock({ $0 })?.peers, let at = peers.beatAt(node),
      let session = peers.session(of: node)
    else { return nil }
    return (session.value.counter, at)
  }

  func close() {
    self.server.close()
    self.loop.withLock { $0.take() }?.close()
    self.links.close()
  }
}

@Suite("Heartbeats that are announced, over real gRPC")
struct AnnouncedBeatTests {
  @Test(
    "a peer's silence counts from when it was heard to send a heartbeat, and not from when that is seen",
    .timeLimit(.minutes(1)))
  func announced() async throws {
    let (a, b) = (NodeID("a"), NodeID("b"))
    let store = SharedStore(slow: b)
    // To bind a port blocks until others of Swift's threads have moved.
    let made = await onThreadOfItsOwn("peers") {
      Result { try [Peer("a", store), Peer("b", store)] }
    }
    let peers = try #require(made).get()
    defer { for peer in peers { peer.close() } }
    var isSooner = false
    while !isSooner {
      store.hold()
      let before = store.counter(of: a)
      while store.counter(of: a) <= before { try await Task.sleep(for: .milliseconds(1)) }
      // What is announced comes in a moment; nothing shows that it has.
      try await Task.sleep(for: .milliseconds(20))
      let releasedAt = Instant.now
      store.release()
      while peers[1].beat(of: a)?.counter ?? 0 <= before {
        try await Task.sleep(for: .milliseconds(1))
      }
      // On a machine that is busy what is announced may come later than what is seen.
      isSooner = peers[1].beat(of: a)!.at < releasedAt
    }
  }
}

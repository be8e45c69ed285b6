import Election
import RedisLink
import Testing

@testable import ClusterDriver

@Suite("Redis and memory side by side")
struct StoreDifferentialTests {
  @Test(
    "whatever is called, both stores answer alike and hold the same",
    arguments: 1...8 as ClosedRange<UInt64>)
  func alike(_ seed: UInt64) async throws {
    // One of them in a Redis Cluster.
    let server = seed == 8 ? StoreServer.sharedCluster : StoreServer.shared
    let (redis, link, keys) = try server.get().store()
    defer { link.close() }
    var identity = try await redis.run(.release(Owner(NodeID("x"), Incarnation(1))), for: nil)
      .identity
    var memory = MemoryStore(identity: identity)
    var dice = StoreDice(seed: seed)
    var kinds: [String: Int] = [:]
    for turn in 0..<1500 {
      if dice.roll(150) == 0 {
        // As after a restart: the same contents in another store.
        let field = RedisCommand(
          "HSET", .string(keys[0]), "generation", .string("another \(turn)"))
        _ = try await link.send(field)
        let release = StoreCall.release(Owner(NodeID("x"), Incarnation(1)))
        identity = try await redis.run(release, for: nil).identity
        memory.become(identity)
      }
      let call = dice.call(StoreDice.Aim(memory.whole))
      let known = dice.roll(50) == 0 ? StoreIdentity("elsewhere") : identity
      let before = memory
      let expected = memory.run(call, for: known)
      let reply = try await redis.run(call, for: known)
      if memory != before { kinds["\(call)".prefix { $0 != "(" } + "", default: 0] += 1 }
      let all = memory.run(look, for: nil)
      let allInRedis = try await redis.run(look, for: nil)
      guard reply == expected, all == allInRedis else {
        Issue.record("seed \(seed), turn \(turn): \(call)\nmemory: \(expected)\nredis: \(reply)")
        return
      }
    }
    // Calls that nobody carries out compare nothing.
    for kind in [
      "heartbeat", "claim", "assert", "handOver", "release", "campaign", "lead", "operate",
    ] {
      #expect(kinds[kind, default: 0] > 0, "no \(kind) came to anything under seed \(seed)")
    }
  }
}

/// Somebody nobody else is, who is told all there is.
private let look = StoreCall.heartbeat(
  StoreCall.Heartbeat(owner: Owner(NodeID("looks on"), Incarnation(1)), counter: 1))

extension MemoryStore {
  fileprivate var whole: StoreView {
    var copy = self
    guard case .view(let view) = copy.run(look, for: nil) else {
      preconditionFailure("nobody else has this name")
    }
    return view
  }
}

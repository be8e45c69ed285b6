import Election
import RedisLink
import Testing

@testable import ClusterDriver

/// The stores that keep the same rules.
enum StoreKind: CaseIterable, Sendable {
  case memory
  case redis
  case redisCluster
}

/// A store with three nodes and a leader, told in the words of the rules.
final class StoreScene {
  let store: any OwnershipStore
  private let link: RedisLink?
  private(set) var identity = StoreIdentity("")
  private var counters: [Owner: UInt64] = [:]
  private var orders: UInt64 = 0
  private var list = MemberList()

  let a = Owner(NodeID("a:5001"), Incarnation(10))
  let b = Owner(NodeID("[::1]:5002"), Incarnation(20))
  let c = Owner(NodeID("c 3"), Incarnation(30))

  /// Sessions of all, all members, `a` leads, and no ranges but those given.
  init(_ kind: StoreKind, ranges: [OwnedRange] = []) async throws {
    switch kind {
    case .memory: (store, link) = (LocalStore(), nil)
    case .redis, .redisCluster:
      let server = kind == .redis ? StoreServer.shared : StoreServer.sharedCluster
      let (store, link, _) = try server.get().store()
      (self.store, self.link) = (store, link)
    }
    identity = try await store.run(.release(a), for: nil).identity
    for owner in [a, b, c] { try await beat(owner) }
    _ = try await store.run(.campaign(a, hint: .none, watched: nil), for: identity)
    try await lead([a, b, c].map { .addMember($0.node) } + [.createRanges(ranges)])
    list = try await view().list
  }

  deinit { link?.close() }

  @discardableResult
  func run(_ call: StoreCall) async throws -> StoreReply {
    try await store.run(call, for: identity)
  }

  func value(_ owner: Owner) -> SessionValue { SessionValue(owner.incarnation, counters[owner]!) }

  func watched(_ owner: Owner) -> StoreCall.Watched {
    StoreCall.Watched(owner.node, value(owner))
  }

  @discardableResult
  func beat(
    _ owner: Owner, since: UInt64 = 0, identity: StoreIdentity? = nil,
    loads: [Serial: RangeLoad] = [:]
  ) async throws -> StoreReply {
    counters[owner, default: 0] += 1
    return try await run(
      .heartbeat(
        StoreCall.Heartbeat(
          owner: owner, counter: counters[owner]!, list: list, since: since,
          identity: identity ?? self.identity, loads: loads)))
  }

  /// All there is, as `a` sees it.
  func view(since: UInt64 = 0) async throws -> StoreView {
    guard case .view(let view) = try await beat(a, since: since) else {
      throw StoreFailure.damaged("no view")
    }
    return view
  }

  func range(_ first: UInt64) async throws -> RangeRecord? {
    try await view().ranges.first { $0.first == Serial(first) }
  }

  func lead(_ actions: [LeaderAction]) async throws {
    orders += 1
    try await run(.lead(a, Term(1), order: orders, actions))
  }

  /// What the ranges are after a claim.
  @discardableResult
  func claim(
    _ claimer: Owner, from watched: StoreCall.Watched? = nil, list: UInt64? = nil,
    _ ranges: OwnedRange...
  ) async throws -> [RangeRecord] {
    let claim = StoreCall.Claim(
      claimer: claimer, list: list ?? self.list.number, watched: watched, ranges: ranges)
    guard case .ranges(_, _, let records) = try await run(.claim(claim)) else {
      throw StoreFailure.damaged("no ranges")
    }
    return records
  }

  @discardableResult
  func assert(_ owner: Owner, _ ranges: OwnedRange...) async throws -> [RangeRecord] {
    guard case .ranges(_, _, let records) = try await run(.assert(owner, ranges)) else {
      throw StoreFailure.damaged("no ranges")
    }
    return records
  }

  @discardableResult
  func handOver(_ owner: Owner, _ first: UInt64, move: UInt64) async throws -> RangeRecord? {
    let reply = try await run(.handOver(owner, range: Serial(first), move: move))
    guard case .ranges(_, _, let records) = reply else {
      throw StoreFailure.damaged("no ranges")
    }
    return records.first
  }
}

func piece(_ first: UInt64, _ last: UInt64, _ epoch: UInt64 = 0) -> OwnedRange {
  OwnedRange(first: Serial(first), last: Serial(last), epoch: Epoch(epoch))
}

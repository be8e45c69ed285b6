import Election
import RedisLink
import Testing

@testable import ClusterDriver

@Suite("The identity of a store in Redis, against real servers")
struct RedisStoreIdentityTests {
  @Test("a failed attempt to connect and the pause after it end within what a lease lasts")
  func linkIsQuick() throws {
    let timing = try Timing()
    let options = RedisStore.linkOptions(cluster: "x", timeout: timing.callTimeout).connection
    #expect(options.connectTimeout + options.backOffMost <= timing.ttl - timing.margin)
    #expect(options.sentinelTimeout < options.connectTimeout)
  }

  @Test("all keys of a store, whatever its cluster is called, lie in the slot of its link")
  func slot() throws {
    for name in ["doors", "two words", "{x}", "a}b{c", "{}", "}", "ü"] {
      let key = RedisStore.linkOptions(cluster: name, timeout: .seconds(1)).connection.slotKey
      let slot = RedisSlot(ofKey: try #require(key))
      for key in RedisStore.keys(cluster: name) { #expect(RedisSlot(ofKey: key) == slot, "\(key)") }
    }
  }

  private let me = Owner(NodeID("a"), Incarnation(1))
  private let members = MemberList(number: 1, added: [NodeID("a"): 1])

  @discardableResult
  private func beat(_ store: RedisStore, since: UInt64 = 0) async throws -> StoreView {
    let call = StoreCall.Heartbeat(owner: me, counter: 1, list: members, since: since)
    guard case .view(let view) = try await store.run(.heartbeat(call), for: nil) else {
      throw StoreFailure.damaged("no view")
    }
    return view
  }

  /// A store with one range, which is `me`'s.
  private func fill(_ store: RedisStore) async throws -> StoreView {
    let identity = try await beat(store).identity
    _ = try await store.run(.assert(me, [piece(1, 100, 7)]), for: identity)
    return try await beat(store)
  }

  private func call(_ link: RedisLink, _ name: String, _ words: String...) async throws {
    _ = try await link.send(RedisCommand(name, words.map { .string($0) }))
  }

  @Test("it stays the same from call to call, and is another one for every cluster")
  func same() async throws {
    let server = try StoreServer.shared.get()
    let (one, oneLink, _) = try server.store()
    let (two, twoLink, _) = try server.store()
    defer { for link in [oneLink, twoLink] { link.close() } }
    let identity = try await beat(one).identity
    #expect(identity.text.utf8.count == 16)
    for _ in 0..<5 { #expect(try await beat(one).identity == identity) }
    #expect(try await beat(two).identity != identity)
  }

  @Test("a store that was flushed is another one each time, and empty")
  func flushed() async throws {
    let server = try StoreServer()
    let (store, link, _) = try server.store()
    defer { link.close() }
    var seen: Set<StoreIdentity> = []
    for _ in 0..<20 {
      let view = try await fill(store)
      #expect(view.ranges.count == 1)
      #expect(seen.insert(view.identity).inserted)
      try await call(link, "FLUSHALL")
      let claim = StoreCall.Claim(
        claimer: me, list: 1, watched: nil, ranges: [piece(1, 100, 7)])
      let reply = try await store.run(.claim(claim), for: view.identity)
      guard case .otherStore(let next) = reply else {
        Issue.record("a flushed store took a claim: \(reply)")
        return
      }
      let empty = try await beat(store)
      #expect(empty.identity == next && empty.isWhole && empty.ranges.isEmpty)
    }
  }

  @Test("a server that comes back empty is another store")
  func emptyRestart() async throws {
    let server = try StoreServer()
    let (store, link, _) = try server.store()
    defer { link.close() }
    let before = try await fill(store)
    server.stop()
    try server.start()
    try await untilServerShows("a heartbeat is answered") { (try? await beat(store)) != nil }
    let after = try await beat(store, since: before.version)
    #expect(after.identity != before.identity && after.isWhole && after.ranges.isEmpty)
  }

  @Test("a server that comes back with all it had is another store, too")
  func persistentRestart() async throws {
    let server = try StoreServer()
    let (store, link, _) = try server.store()
    defer { link.close() }
    let before = try await fill(store)
    try await call(link, "SAVE")
    server.stop()
    try server.start()
    try await untilServerShows("a heartbeat is answered") { (try? await beat(store)) != nil }
    let after = try await beat(store, since: before.version)
    #expect(after.identity != before.identity)
    #expect(after.isWhole && after.ranges == before.ranges)
    #expect(after.ranges.first?.store == before.identity)
  }

  @Test("a replica that is promoted is another store, as is a master that was one in between")
  func promotion() async throws {
    let (one, two) = (try StoreServer(), try StoreServer())
    let (store, link, keys) = try one.store()
    let replica = try two.link()
    defer { for link in [link, replica] { link.close() } }
    try await call(replica, "REPLICAOF", "127.0.0.1", "\(one.port)")
    try await untilServerShows("the replica is in step", within: .seconds(20)) {
      let info = try await replica.send(RedisCommand("INFO", "replication")).string ?? ""
      return info.contains("master_link_status:up")
    }
    let before = try await fill(store)
    try await untilServerShows("the replica has the range") {
      try await replica.send(RedisCommand("HLEN", .string(keys[1]))) == .integer(1)
    }

    let cluster = String(keys[0].dropFirst("{cd:".count).prefix { $0 != "}" })
    let name = try #require(StoreText.name(Substring(cluster)))
    let other = RedisStore(link: replica, cluster: name, timeout: .seconds(20))
    // A replica takes no heartbeat, and what it answers is no word of the master.
    await #expect(throws: StoreFailure.self) { try await beat(other) }
    let claim = StoreCall.Claim(claimer: me, list: 1, watched: nil, ranges: [])
    let reply = try await other.run(.claim(claim), for: before.identity)
    #expect(reply != .ranges(before.identity, version: before.version, []))

    try await call(replica, "REPLICAOF", "NO", "ONE")
    let promoted = try await beat(other)
    #expect(promoted.identity != before.identity && promoted.ranges == before.ranges)

    // The same process again, with the data of another: its run id alone would not tell.
    try await call(link, "REPLICAOF", "127.0.0.1", "\(two.port)")
    try await untilServerShows("the former master is in step", within: .seconds(20)) {
      let info = try await link.send(RedisCommand("INFO", "replication")).string ?? ""
      return info.contains("master_link_status:up")
    }
    try await call(link, "REPLICAOF", "NO", "ONE")
    let again = try await beat(store)
    #expect(again.identity != before.identity && again.identity != promoted.identity)
  }

  @Test("a server that has forgotten the scripts is given them again, and is the same store")
  func scriptsForgotten() async throws {
    let server = try StoreServer()
    let (store, link, _) = try server.store()
    defer { link.close() }
    let before = try await fill(store)
    let calls: [StoreCall] = [
      .heartbeat(StoreCall.Heartbeat(owner: me, counter: 9, list: members)),
      .heartbeat(
        StoreCall.Heartbeat(owner: me, counter: 9, loads: [Serial(1): RangeLoad(weight: 3)])),
      .claim(StoreCall.Claim(claimer: me, list: 1, watched: nil, ranges: [piece(1, 100, 7)])),
      .assert(me, [piece(1, 100, 7)]), .handOver(me, range: Serial(1), move: 1),
      .campaign(me, hint: .none, watched: nil), .lead(me, Term(1), order: 1, []), .release(me),
    ]
    for call in calls {
      try await self.call(link, "SCRIPT", "FLUSH")
      #expect(try await store.run(call, for: before.identity).identity == before.identity)
    }
  }

  @Test(
    "a key that is gone with all it held (evicted, deleted) makes another store",
    arguments: 0..<4)
  func evicted(_ key: Int) async throws {
    let (store, link, keys) = try StoreServer.shared.get().store()
    defer { link.close() }
    let before = try await fill(store)
    try await call(link, "DEL", keys[key])
    let after = try await beat(store, since: before.version)
    #expect(after.identity != before.identity && after.isWhole && after.ranges.isEmpty)
    for key in keys.dropFirst() {
      #expect(try await link.send(RedisCommand("EXISTS", .string(key))) == .integer(0))
    }
  }

  @Test("the rights that the operating guide names are enough")
  func rights() async throws {
    let server = try StoreServer()
    let admin = try server.link()
    defer { admin.close() }
    let guide = OperatingGuideRights.line
    #expect(guide.contains("+info"))
    let words = ["SETUSER", "node", "on", ">secret"] + guide
    _ = try await admin.send(RedisCommand("ACL", words.map { .string($0) }))
    let link = try RedisLink(
      RedisURL(host: "127.0.0.1", port: server.port, user: "node", password: "secret"),
      options: server.patientOptions())
    defer { link.close() }
    let store = RedisStore(link: link, cluster: "c", timeout: .seconds(20))
    let view = try await fill(store)
    #expect(view.ranges.count == 1)
    let orders: [LeaderAction] = [
      .split(range: Serial(1), at: Serial(9)), .merge(range: Serial(1)), .createRanges([]),
    ]
    _ = try await store.run(.campaign(me, hint: .none, watched: nil), for: view.identity)
    _ = try await store.run(.lead(me, Term(1), order: 1, orders), for: view.identity)
    #expect(try await beat(store, since: view.version).leader?.orders == 1)
    _ = try await admin.send(RedisCommand("SET", "{cd:c}:gone", "mine"))
    await #expect(throws: StoreFailure.self) { try await beat(store) }
  }
}

/// What Docs/OPERATING.md says a node's user needs.
private enum OperatingGuideRights {
  static var line: [String] {
    let words =
      ["~{cd:*", "&*", "+@hash", "+@sortedset", "+@scripting", "+@connection", "+@pubsub"]
      + ["+info", "+time", "+unlink", "+type"]
    let said = "`\(words.joined(separator: " "))`"
    #expect(OperatingGuideTests.guide.contains(said), "the guide does not say \(said)")
    return words
  }
}

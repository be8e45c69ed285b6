import CSystem
import Election
import Testing

@testable import ClusterDriver

@Suite("Where the controllers of others are served")
struct RouteTests {
  private static let a = Owner(NodeID("a"), Incarnation(1))
  private static let b = Owner(NodeID("b"), Incarnation(1))
  private static let store = StoreIdentity("0123456789abcdef")

  /// A cluster as node a sees it, by a store that holds these ranges.
  private static func view(_ ranges: [RangeRecord], b place: String) throws -> OwnershipView {
    var machine = NodeMachine(me: a, timing: try Timing())
    var sessions: [SessionRecord] = []
    for (owner, place) in [(a, "10.0.0.1:5001"), (b, place)] {
      sessions.append(
        SessionRecord(
          node: owner.node, value: SessionValue(owner.incarnation, 1),
          status: MemberStatus(controllersAt: place)))
    }
    let calls = machine.step(.wake, at: Instant(nanoseconds: 0)).compactMap { directive in
      if case .call(let id, _, _) = directive { id } else { nil }
    }
    let reply = StoreReply.view(
      StoreView(
        identity: store, version: 1, sessions: sessions, leader: nil, list: MemberList(),
        ranges: ranges, isWhole: true))
    _ = machine.step(.replied(try #require(calls.first), reply), at: Instant(nanoseconds: 1))
    var places = PeerPlaces()
    _ = places.see(sessions)
    return OwnershipView(machine, places)
  }

  /// Right after the view was seen.
  private static let now = Instant(nanoseconds: 2)

  private static func range(
    _ first: UInt64, _ last: UInt64, _ owner: Owner?, in store: StoreIdentity? = store
  ) -> RangeRecord {
    RangeRecord(
      first: Serial(first), last: Serial(last), owner: owner, epoch: Epoch(first), store: store,
      changed: 1)
  }

  private static func address(_ text: String) -> csys_address? {
    var address = csys_address()
    guard let place = try? HostPort(parsing: text),
      csys_address_parse(place.host, place.port, &address) == 0
    else { return nil }
    return address
  }

  @Test("what others own by the word of the present store is routed to them, by first serial")
  func routes() throws {
    let view = try Self.view(
      [
        Self.range(1, 9, Self.b), Self.range(10, 19, Self.a), Self.range(20, 29, nil),
        Self.range(30, 39, Self.b, in: StoreIdentity("f")), Self.range(40, 49, Self.b),
        Self.range(50, 59, Owner(NodeID("c"), Incarnation(1))),
      ], b: "10.0.0.2:5001")
    let routes = Route.routes(view, at: Self.now) { Self.address($0) }
    #expect(routes.map(\.range.first) == [Serial(1), Serial(40)])
    #expect(routes.map(\.range.epoch) == [Epoch(1), Epoch(40)])
    #expect(
      routes.allSatisfy {
        var text = [CChar](repeating: 0, count: 64)
        var address = $0.address
        let count = csys_address_print(&address, &text, text.count)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
          == "10.0.0.2:5001"
      })
  }

  @Test("an owner is alive for as long as its heartbeats are new")
  func alive() throws {
    let view = try Self.view([Self.range(1, 9, Self.b)], b: "10.0.0.2:5001")
    for (ms, isAlive) in [(0, true), (1499, true), (1501, false)] {
      let now = Instant(nanoseconds: Int64(ms) * 1_000_000)
      let routes = Route.routes(view, at: now) { Self.address($0) }
      #expect(routes.map(\.isAlive) == [isAlive], "at \(ms) ms")
    }
  }

  @Test("of ranges that lie over one another, which a peer may say, the first counts")
  func overlapping() throws {
    let view = try Self.view(
      [Self.range(1, 9, Self.b), Self.range(5, 20, Self.b), Self.range(21, 30, Self.b)],
      b: "10.0.0.2:5001")
    #expect(
      Route.routes(view, at: Self.now) { Self.address($0) }.map(\.range.first) == [
        Serial(1), Serial(21),
      ])
  }

  @Test("a node whose address is not known, or is none, gets no controllers")
  func noAddress() throws {
    #expect(
      try Route.routes(Self.view([Self.range(1, 9, Self.b)], b: ""), at: Self.now) {
        Self.address($0)
      }.isEmpty)
    #expect(
      try Route.routes(Self.view([Self.range(1, 9, Self.b)], b: "b.invalid:5001"), at: Self.now) {
        _ in nil
      }
      .isEmpty)
  }
}

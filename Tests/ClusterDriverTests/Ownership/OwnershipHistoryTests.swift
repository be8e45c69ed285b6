import CSystem
import Election
import Testing

@testable import ClusterDriver

@Suite("What has changed in a cluster")
struct OwnershipHistoryTests {
  private static let a = Owner(NodeID("a"), Incarnation(1))
  private static let b = Owner(NodeID("b"), Incarnation(1))
  private static let store = StoreIdentity("0123456789abcdef")

  /// Node a in a cluster whose store answers what it is told to.
  private struct Desk {
    var machine: NodeMachine
    var history = OwnershipHistory()
    var now: Int64 = 0
    var version: UInt64 = 0
    private var call: NodeMachine.CallID?

    init() throws {
      machine = NodeMachine(me: a, timing: try Timing())
    }

    /// What is seen after the next heartbeat, 250 ms later.
    mutating func see(
      _ ranges: [RangeRecord], b isThere: Bool = true, counter: UInt64? = nil,
      leader: Owner? = a, list: [NodeID: UInt64] = [a.node: 1, b.node: 2],
      identity: StoreIdentity = store, isPaused: Bool = false
    ) throws -> [OwnershipHistory.Entry] {
      version += 1
      now += 250_000_000
      let call = machine.step(.wake, at: Instant(nanoseconds: now)).lazy.compactMap { directive in
        if case .call(let id, .heartbeat, _) = directive { id } else { nil }
      }.first
      var sessions = [SessionRecord(node: a.node, value: SessionValue(Incarnation(1), version))]
      if isThere {
        sessions.append(
          SessionRecord(node: b.node, value: SessionValue(Incarnation(1), counter ?? version)))
      }
      _ = machine.step(
        .replied(
          try #require(call),
          .view(
            StoreView(
              identity: identity, version: version, sessions: sessions,
              leader: leader.map { LeaderRecord(leader: $0, term: Term($0 == a ? 1 : 2)) },
              list: MemberList(number: version, added: list), ranges: ranges, isWhole: true,
              isPaused: isPaused))), at: Instant(nanoseconds: now))
      let last = history.entries.last?.number ?? 0
      history.look(
        OwnershipView(machine, PeerPlaces()), now: Instant(nanoseconds: now),
        at: UInt64(now / 1_000_000))
      return Array(history.entries(after: last))
    }
  }

  private static func range(
    _ first: UInt64, _ last: UInt64, _ owner: Owner?, _ epoch: UInt64 = 1, move: PendingMove? = nil
  ) -> RangeRecord {
    RangeRecord(
      first: Serial(first), last: Serial(last), owner: owner, epoch: Epoch(epoch), move: move,
      store: store)
  }

  private static func told(_ entries: [OwnershipHistory.Entry]) -> [String] {
    entries.map { entry in
      var words = [entry.what.rawValue]
      if let range = entry.range { words.append("\(range.first)…\(range.last)") }
      if let from = entry.from { words.append("from \(from)") }
      if let node = entry.node { words.append("\(node)") }
      return words.joined(separator: " ")
    }
  }

  @Test("it begins with who is there, and tells each change once")
  func tells() throws {
    var desk = try Desk()
    let range = Self.range
    #expect(Self.told(try desk.see([])) == ["alive a", "alive b", "leads a"])
    #expect(
      Self.told(try desk.see([range(1, 99, nil, 1, nil)])) == ["created 1…99"])
    #expect(
      Self.told(try desk.see([range(1, 99, Self.a, 2, nil)])) == ["claimed 1…99 a"])
    #expect(try desk.see([range(1, 99, Self.a, 2, nil)]).isEmpty)
    #expect(
      Self.told(try desk.see([range(1, 49, Self.a, 2, nil), range(50, 99, Self.a, 2, nil)]))
        == ["split 50…99 a"])
    let move = PendingMove(to: Self.b.node, number: 7)
    #expect(
      Self.told(try desk.see([range(1, 49, Self.a, 2, nil), range(50, 99, Self.a, 2, move)]))
        == ["moving 50…99 from a b"])
    #expect(
      Self.told(try desk.see([range(1, 49, Self.a, 2, nil), range(50, 99, Self.b, 3, nil)]))
        == ["moved 50…99 from a b"])
    #expect(desk.history.moveMs == 250)
    #expect(
      Self.told(try desk.see([range(1, 49, Self.a, 2, move), range(50, 99, Self.b, 3, nil)]))
        == ["moving 1…49 from a b"])
    #expect(
      Self.told(try desk.see([range(1, 49, Self.a, 2, nil), range(50, 99, Self.b, 3, nil)]))
        == ["taken back 1…49 from b a"])
    #expect(
      Self.told(
        try desk.see(
          [range(1, 99, Self.b, 4, nil)], leader: Self.b, isPaused: true))
        == ["leads b", "paused", "claimed 1…99 from a b", "merged 50…99 b"])
  }

  @Test("a node is dead when it has been silent for a TTL, and a member is on the list or off it")
  func nodes() throws {
    var desk = try Desk()
    _ = try desk.see([Self.range(1, 99, Self.b)])
    var told: [String] = []
    for _ in 0..<8 { told += Self.told(try desk.see([Self.range(1, 99, Self.b)], counter: 1)) }
    #expect(told == ["dead b"])
    told = Self.told(try desk.see([Self.range(1, 99, Self.b)], list: [Self.a.node: 1]))
    #expect(told == ["alive b", "removed b"])
  }

  @Test("another store is told of, and what it brings back as before is not")
  func otherStore() throws {
    var desk = try Desk()
    let other = StoreIdentity("fedcba9876543210")
    _ = try desk.see([Self.range(1, 99, Self.b)])
    #expect(Self.told(try desk.see([], identity: other)) == ["store"])
    #expect(try desk.see([Self.range(1, 99, Self.b)], identity: other).isEmpty)
  }

  @Test("the oldest go, the numbers do not")
  func bounded() throws {
    var desk = try Desk()
    for _ in 0..<OwnershipHistory.entriesMax {
      _ = try desk.see([Self.range(1, 99, Self.a)])
      _ = try desk.see([Self.range(1, 99, Self.b)])
    }
    let entries = desk.history.entries
    #expect(entries.count <= OwnershipHistory.entriesMax)
    #expect(entries.count >= OwnershipHistory.entriesMax / 2)
    #expect(zip(entries, entries.dropFirst()).allSatisfy { $0.number + 1 == $1.number })
    let last = try #require(entries.last).number
    #expect(desk.history.entries(after: last - 3).count == 3)
    #expect(desk.history.entries(after: last).isEmpty)
    #expect(desk.history.entries(after: 0).count == entries.count)
  }
}

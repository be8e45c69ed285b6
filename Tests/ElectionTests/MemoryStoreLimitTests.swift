import Election
import Testing

@Suite("The store in memory at its limits")
struct MemoryStoreLimitTests {
  private let identity = StoreIdentity("s")
  private let a = Owner(NodeID("a"), Incarnation(1))

  /// A store with `a` as leader and only member, which owns these ranges.
  private func store(_ cuts: [OwnedRange], list: UInt64 = 1) -> MemoryStore {
    var store = MemoryStore(identity: identity)
    let members = MemberList(number: list, added: [a.node: 1])
    _ = store.run(
      .heartbeat(StoreCall.Heartbeat(owner: a, counter: 1, list: members)), for: nil)
    _ = store.run(.campaign(a, hint: .none, watched: nil), for: identity)
    _ = store.run(.lead(a, Term(1), order: 1, [.createRanges(cuts)]), for: identity)
    _ = store.run(
      .claim(StoreCall.Claim(claimer: a, list: list, watched: nil, ranges: cuts)), for: identity)
    return store
  }

  private func cut(_ first: UInt64, _ last: UInt64) -> OwnedRange {
    OwnedRange(first: Serial(first), last: Serial(last), epoch: .none)
  }

  @Test("the loads of one heartbeat come to the same versions every time")
  func loadsInOrder() {
    let cuts = (0..<50).map { cut($0 * 10 + 1, $0 * 10 + 10) }
    var store = store(cuts)
    let before = store.allRanges.map(\.changed).max()!
    let loads = Dictionary(uniqueKeysWithValues: cuts.map { ($0.first, RangeLoad(weight: 7)) })
    _ = store.run(.heartbeat(StoreCall.Heartbeat(owner: a, counter: 2, loads: loads)), for: nil)
    #expect(store.allRanges.map(\.changed) == (1...50).map { before + $0 })
  }

  @Test("two ranges whose loads are beyond counting can be merged")
  func mergeOfGreatLoads() {
    var store = store([cut(1, 10), cut(11, 20)])
    let loads = [
      Serial(1): RangeLoad(weight: .max - 1), Serial(11): RangeLoad(weight: .max - 1),
    ]
    _ = store.run(.heartbeat(StoreCall.Heartbeat(owner: a, counter: 2, loads: loads)), for: nil)
    _ = store.run(.lead(a, Term(1), order: 2, [.merge(range: Serial(1))]), for: identity)
    #expect(store.allRanges.map(\.last) == [Serial(20)])
    #expect(store.allRanges.map(\.load.weight) == [.max])
  }

  @Test("a member list with the highest number there is stays as it is")
  func lastList() {
    var store = store([], list: .max)
    let b = Owner(NodeID("b"), Incarnation(1))
    _ = store.run(.heartbeat(StoreCall.Heartbeat(owner: b, counter: 1)), for: nil)
    let orders: [LeaderAction] = [
      .addMember(b.node),
      .removeMember(StoreCall.Watched(a.node, SessionValue(a.incarnation, 1)), list: .max),
    ]
    _ = store.run(.lead(a, Term(1), order: 2, orders), for: identity)
    #expect(store.list == MemberList(number: .max, added: [a.node: 1]))
  }

  @Test("ranges that lie over one another, or are inside out, are neither made nor taken")
  func overlapping() {
    for wrong in [[cut(1, 10), cut(5, 20)], [cut(10, 1)], [cut(11, 20), cut(1, 10)]] {
      var store = store(wrong)
      #expect(store.allRanges.isEmpty)
      _ = store.run(.assert(a, wrong), for: identity)
      #expect(store.allRanges.isEmpty)
    }
  }
}

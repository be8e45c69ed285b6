import Election

// Short words for the tests of the machines.

let defaults: Timing = {
  do { return try Timing() } catch { preconditionFailure("\(error)") }
}()

let nodeA = NodeID("node-a")
let nodeB = NodeID("node-b")
let nodeC = NodeID("node-c")
let nodeD = NodeID("node-d")

let first = StoreIdentity("first")
let second = StoreIdentity("second")

func at(_ ms: Int64) -> Instant { Instant(nanoseconds: ms * 1_000_000) }

func life(_ node: NodeID, _ incarnation: UInt64 = 1) -> Owner {
  Owner(node, Incarnation(incarnation))
}

func value(_ counter: UInt64, life: UInt64 = 1) -> SessionValue {
  SessionValue(Incarnation(life), counter)
}

func session(
  _ node: NodeID, _ counter: UInt64, life: UInt64 = 1, released: Bool = false,
  draining: Bool = false, healthy: Bool = true, list: UInt64 = 0, knows: StoreIdentity? = nil
) -> SessionRecord {
  SessionRecord(
    node: node, value: value(counter, life: life), released: released,
    status: MemberStatus(draining: draining, healthy: healthy), list: list, knows: knows)
}

func piece(_ first: UInt64, _ last: UInt64, _ epoch: UInt64) -> OwnedRange {
  OwnedRange(first: Serial(first), last: Serial(last), epoch: Epoch(epoch))
}

func record(
  _ from: UInt64, _ to: UInt64, _ owner: Owner?, _ epoch: UInt64, in store: StoreIdentity? = first,
  move: PendingMove? = nil, successors: [NodeID] = [], weight: UInt64 = 1, median: UInt64? = nil
) -> RangeRecord {
  RangeRecord(
    first: Serial(from), last: Serial(to), owner: owner, epoch: Epoch(epoch),
    load: RangeLoad(weight: weight, median: median.map(Serial.init)), successors: successors,
    move: move, store: store)
}

func view(
  _ version: UInt64, _ ranges: [RangeRecord] = [], of identity: StoreIdentity = first,
  sessions: [SessionRecord] = [], leader: LeaderRecord? = nil, list: MemberList = MemberList(),
  removed: [UInt64] = [], isWhole: Bool = false
) -> StoreView {
  StoreView(
    identity: identity, version: version, sessions: sessions, leader: leader, list: list,
    ranges: ranges, removed: removed.map(Serial.init), isWhole: isWhole)
}

/// A list whose members were all added with the same list.
func members(_ nodes: [NodeID], number: UInt64 = 1, added: UInt64 = 1) -> MemberList {
  MemberList(number: number, added: Dictionary(uniqueKeysWithValues: nodes.map { ($0, added) }))
}

let everything = RangeMap().last(at: 0).rawValue

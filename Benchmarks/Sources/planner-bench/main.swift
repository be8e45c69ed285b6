import Election

// How long a plan takes for 10,000 ranges and 64 nodes, in the cases a leader meets, beside sorting as many numbers.

let n = 10_000
let nodes = 64

func members(_ count: Int) -> [Planner.Member] {
  (0..<count).map { Planner.Member(id: NodeID("host-\($0 / 8):\(5001 + $0 % 8)")) }
}

func ranges(_ owner: (Int) -> NodeID?) -> [Planner.Range] {
  (0..<n).map {
    Planner.Range(
      first: Serial(1 + UInt64($0) * 1000), weight: .random(in: 1...500),
      owner: owner($0))
  }
}

let all = members(nodes)
let planner = Planner()
/// Balanced by the planner itself.
let start = ranges { _ in nil }
var settled = start
var owners: [Serial: NodeID] = [:]
for claim in planner.plan(members: all, ranges: start).claims { owners[claim.range] = claim.to }
for i in settled.indices { settled[i].owner = owners[settled[i].first] }
let crowded = settled.map { range in
  var range = range
  if range.owner == all[63].id { range.owner = all[0].id }
  return range
}

let cases: [(String, [Planner.Member], [Planner.Range])] = [
  ("nobody owns anything", all, start), ("all is well", all, settled),
  ("a node is new", all, crowded), ("a node has died", Array(all.dropLast()), settled),
]

func milliseconds(_ body: () -> Int) -> (Double, Int) {
  let clock = ContinuousClock()
  var times: [Double] = []
  var outcome = 0
  for _ in 0..<21 {
    let took = clock.measure { outcome = body() }
    times.append(Double(took.components.attoseconds) / 1e15 + Double(took.components.seconds) * 1e3)
  }
  return (times.sorted()[10], outcome)
}

let keys = (0..<n).map { _ in UInt64.random(in: .min ... .max) }
let (sorting, _) = milliseconds { keys.sorted().count }
func text(_ value: Double) -> String { "\(Double(Int(value * 100 + 0.5)) / 100)" }
print("\(n) ranges, \(nodes) nodes; medians of 21")
print("sorting \(n) numbers: \(text(sorting)) ms")
var isSlow = false
for (name, members, ranges) in cases {
  let (took, changes) = milliseconds {
    let plan = planner.plan(members: members, ranges: ranges)
    return plan.claims.count + plan.moves.count
  }
  if took > 50 { isSlow = true }
  print("\(name): \(text(took)) ms, \(text(took / sorting)) times the sorting; \(changes) changes")
}
print(isSlow ? "above the limit of 50 ms" : "within the limit of 50 ms")

/// Which messages arrive, and when.
struct SimulatedNetwork {
  private var toStore: [Bool]
  private var fromStore: [Bool]
  private var between: [[Bool]]
  /// One message in so many is lost; 0 = none.
  var lossOneIn = 0
  /// One message in so many takes seconds.
  var slowOneIn = 0

  private let isPlain: Bool

  init(nodes: Int, isPlain: Bool) {
    self.isPlain = isPlain
    toStore = Array(repeating: true, count: nodes)
    fromStore = toStore
    between = Array(repeating: toStore, count: nodes)
  }

  func reachesStore(_ i: Int) -> Bool { toStore[i] }
  func reachedByStore(_ i: Int) -> Bool { fromStore[i] }
  func reaches(_ i: Int, _ j: Int) -> Bool { between[i][j] }

  func loses(_ random: inout Seeded) -> Bool { lossOneIn > 0 && random.once(in: lossOneIn) }

  /// Messages overtake one another.
  func delay(_ random: inout Seeded) -> Int64 {
    if isPlain { return 1_000_000 }
    if slowOneIn > 0, random.once(in: slowOneIn) { return random.ns(ms: 10...5000) }
    return random.ns(ms: 0.05...1.5)
  }

  mutating func setStore(_ i: Int, to: Bool? = nil, from: Bool? = nil) {
    if let to { toStore[i] = to }
    if let from { fromStore[i] = from }
  }

  mutating func setPeers(_ i: Int, _ works: Bool, isOneWay: Bool) {
    for j in between.indices where j != i {
      between[i][j] = works
      if !isOneWay { between[j][i] = works }
    }
  }

  /// What is sent to the node is lost. It has no way to the store then: a connection on which no answer comes is
  /// given up, and none is made anew.
  mutating func deafen(_ i: Int) {
    setStore(i, to: false, from: false)
    for j in between.indices where j != i { between[j][i] = false }
  }

  mutating func heal() {
    self = SimulatedNetwork(nodes: toStore.count, isPlain: isPlain)
  }
}

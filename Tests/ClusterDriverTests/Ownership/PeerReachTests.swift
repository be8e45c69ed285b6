import Election
import Testing

@testable import ClusterDriver

@Suite("Which side of a cut a node is on")
struct PeerReachTests {
  /// Nodes that look at each other ten times a second, and what each hears of the others.
  private struct World {
    let names: [NodeID]
    var reaches: [PeerReach]
    /// Last instant, in ms, at which the one heard the other.
    var heardAt: [[Int]]
    var beatAt: [Int]
    var beats: [Bool]
    var now = 0
    var cut: (Int, Int) -> Bool = { _, _ in false }

    init(_ n: Int) {
      self.names = (0..<n).map { NodeID("node-\($0)") }
      self.reaches = Array(repeating: PeerReach(), count: n)
      self.heardAt = Array(repeating: Array(repeating: 0, count: n), count: n)
      self.beatAt = Array(repeating: 0, count: n)
      self.beats = Array(repeating: true, count: n)
    }

    mutating func pass(_ ms: Int) {
      let end = self.now + ms
      while self.now < end {
        self.now += 50
        if self.now % 250 == 0 {
          for i in self.names.indices {
            if self.beats[i] { self.beatAt[i] = self.now }
            for j in self.names.indices where self.beats[j] && !self.cut(i, j) {
              self.heardAt[i][j] = self.now
            }
          }
        }
        guard self.now % 100 == 0 else { continue }
        for i in self.names.indices { self.look(i) }
      }
    }

    private mutating func look(_ i: Int) {
      let sights = self.names.indices.compactMap { j -> PeerReach.Sight? in
        guard j != i, self.now < self.beatAt[j] + 1500 else { return nil }
        return PeerReach.Sight(
          node: self.names[j], incarnation: Incarnation(1), beatAt: Self.instant(self.beatAt[j]),
          silence: .milliseconds(self.now - self.heardAt[i][j]))
      }
      self.reaches[i].look(self.names[i], sights, at: Self.instant(self.now))
    }

    static func instant(_ ms: Int) -> Instant { Instant(nanoseconds: Int64(ms) * 1_000_000) }

    var apart: [Int] { self.reaches.indices.filter { self.reaches[$0].isApart } }
  }

  /// Parts that are whole in themselves and cut from each other, by the nodes of each.
  private func cut(_ parts: [[Int]]) -> (Int, Int) -> Bool {
    { i, j in !parts.contains { $0.contains(i) && $0.contains(j) } }
  }

  @Test("of a cluster that is cut in two all of one side are apart and none of the other")
  func sides() {
    for n in 2...5 {
      for side in 1..<(1 << n) - 1 {
        var world = World(n)
        world.pass(5000)
        #expect(world.apart.isEmpty)
        let parts = [
          (0..<n).filter { side & (1 << $0) != 0 }, (0..<n).filter { side & (1 << $0) == 0 },
        ]
        world.cut = cut(parts)
        world.pass(2000)
        let larger = parts.max { a, b in
          a.count == b.count ? a[0] > b[0] : a.count < b.count
        }
        #expect(world.apart == parts.first { $0 != larger }, "of \(n), \(parts)")
        world.cut = { _, _ in false }
        world.pass(1800)
        #expect(!world.apart.isEmpty, "it may be cut again")
        world.pass(1000)
        #expect(world.apart.isEmpty)
      }
    }
  }

  /// A node that had been dead counted for 3 s as one that is reached: with it the one that was cut off was no fewer.
  @Test("one that was dead shortly before counts as the others do")
  func backFromTheDead() {
    var world = World(3)
    world.pass(5000)
    world.beats[0] = false
    world.pass(4000)
    world.beats[0] = true
    world.pass(800)
    world.cut = cut([[2], [0, 1]])
    world.pass(1700)
    #expect(world.apart == [2])
  }

  /// Found under faults: a node that nobody had heard for 8 s was cut off from the others when Redis had it again and
  /// they had not. It did not count them as heard before, and its controllers waited for 9 s.
  @Test("one that comes back is the one that was heard before")
  func cutWhenBack() {
    var world = World(3)
    world.pass(5000)
    for i in 0...1 { world.beats[i] = false }
    world.pass(4000)
    for i in 0...1 { world.beats[i] = true }
    world.cut = cut([[2], [0, 1]])
    world.pass(2500)
    #expect(world.apart == [2])
  }

  @Test("one line between two of three puts nobody apart")
  func oneLine() {
    var world = World(3)
    world.pass(5000)
    world.cut = { i, j in i + j == 1 }
    world.pass(5000)
    #expect(world.apart.isEmpty && world.reaches[0].unreached == [NodeID("node-1")])
  }

  @Test("whoever dies is out of nobody's reach: its heartbeats end as well")
  func deaths() {
    for n in 2...3 {
      for step in 0..<10 {
        var world = World(n)
        world.pass(5000 + 50 * step)
        for dead in 0..<n - 1 { world.beats[dead] = false }
        for _ in 0..<50 {
          world.pass(100)
          #expect(world.apart.isEmpty && world.reaches[n - 1].unreached.isEmpty)
        }
      }
    }
  }

  @Test("one that has just begun, or that was never heard, does not count")
  func strangers() {
    func apart(incarnation: (Int) -> UInt64, silence: (Int) -> Int?) -> Bool {
      var reach = PeerReach()
      for ms in stride(from: 0, through: 10_000, by: 250) {
        let sight = PeerReach.Sight(
          node: NodeID("a"), incarnation: Incarnation(incarnation(ms)),
          beatAt: World.instant(ms), silence: silence(ms).map { .milliseconds($0) })
        reach.look(NodeID("b"), [sight], at: World.instant(ms))
        if reach.isApart { return true }
      }
      return false
    }
    #expect(apart(incarnation: { _ in 1 }, silence: { max(0, $0 - 5000) }))
    #expect(!apart(incarnation: { _ in 1 }, silence: { $0 + 1000 }))
    #expect(!apart(incarnation: { _ in 1 }, silence: { _ in nil }))
    // It died, and its next life is heard of 1 s after its first heartbeat.
    #expect(
      !apart(incarnation: { $0 < 7000 ? 1 : 2 }, silence: { $0 < 8000 ? max(0, $0 - 6800) : 0 }))
  }
}

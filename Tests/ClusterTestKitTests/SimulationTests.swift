import ClusterTestKit
import Election
import Testing

@Suite("Simulated clusters")
struct SimulationTests {
  /// `make sim` runs hundreds of hours of these, optimised; here it is seen that each kind works.
  @Test(
    "no promise is broken, and in peace everything is served again",
    arguments: [
      (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (5, 0), (5, 1), (7, 0), (7, 1), (7, 2),
    ])
  func holds(nodes: Int, tolerance: Int) throws {
    var options = Simulation.Options()
    options.nodes = nodes
    options.tolerance = tolerance
    var faults = 0
    for seed in UInt64(1)...3 {
      var simulation = Simulation(seed: seed, options: options)
      try simulation.run(seconds: 85)
      faults += simulation.report.faults
    }
    #expect(faults > 20, "a simulation without faults shows nothing")
  }

  /// Found by 30, 301004 and 541000 of two nodes: one that was taken off while it was stopped woke beside an
  /// empty store, showed it the list it knew and claimed, while the other acted by its own promise alone.
  @Test("one that was taken off the list and does not know makes no cluster of its own")
  func takenOff() throws {
    var options = Simulation.Options()
    options.nodes = 2
    for (seed, seconds) in [(30, 470.0), (301_004, 900), (541_000, 380)] as [(UInt64, Double)] {
      var simulation = Simulation(seed: seed, options: options)
      try simulation.run(seconds: seconds)
    }
  }

  /// Seed 5066004 of five nodes: a range that node-0 had by the word of one store was claimed by node-3 in the
  /// next, which no assertion of it had reached, and asserted in the one after that before node-3 had met it.
  @Test("what was not asserted in one emptied store is not asserted in the next")
  func emptiedTwice() throws {
    var simulation = Simulation(seed: 5_066_004, options: Simulation.Options())
    try simulation.run(seconds: 860)
  }

  @Test("a seed and its options decide everything that happens")
  func isReplayable() throws {
    var options = Simulation.Options()
    options.tolerance = 1
    var first = Simulation(seed: 4, options: options)
    var second = Simulation(seed: 4, options: options)
    var other = Simulation(seed: 5, options: options)
    try first.run(seconds: 170)
    try second.run(seconds: 170)
    try other.run(seconds: 170)
    #expect(first.report == second.report)
    #expect(first.report != other.report)
  }

  @Test("a node that dies is replaced within 1.9 s, whatever moment it dies at", arguments: 0...1)
  func failover(tolerance: Int) throws {
    let gaps = try gaps("deaths", tolerance: tolerance) { $0.kill($1, forSeconds: 60) }
    #expect(gaps.upperBound <= 1900)
    #expect(gaps.lowerBound >= 1200, "nobody can know so early")
  }

  /// One that did, by asking for promises whose giving it could not hear, kept its ranges from everybody until
  /// TCP gave its connections up: 5.8 s for one in a hundred of its controllers.
  @Test(
    "nor does it take longer when it can still ask its peers, and hears no answer", arguments: 0...1
  )
  func deafness(tolerance: Int) throws {
    // It has a right by then that ends up to 1.2 s after it was deafened, and 0.95 s at the least.
    let gaps = try gaps("deaf nodes", tolerance: tolerance) { $0.deafen($1) }
    #expect(gaps.upperBound <= 1900 - 950)
    #expect(gaps.lowerBound >= 0, "two at once")
  }

  /// From the end of a right until another's began, of 200 nodes that something happens to, in ms.
  private func gaps(
    _ what: String, tolerance: Int, _ happen: (inout Simulation, Int) -> Void
  ) throws -> ClosedRange<Double> {
    var options = Simulation.Options()
    options.tolerance = tolerance
    options.faultEvery = nil
    options.loadsEvery = nil
    options.faultyFor = 3600
    var gaps: [Double] = []
    for seed in UInt64(1)...200 {
      var simulation = Simulation(seed: seed, options: options)
      try simulation.run(seconds: 10 + Double(seed) / 97)
      let before = simulation.report.gapsMs.count
      let victim = try #require(simulation.ownerOfMost)
      happen(&simulation, victim)
      try simulation.run(seconds: 15)
      let found = simulation.report.gapsMs[before...]
      #expect(!found.isEmpty, "seed \(seed): nothing was taken over")
      gaps += found
    }
    gaps.sort()
    let longest = try #require(gaps.last)
    func ms(_ share: Double) -> Int { Int(gaps[Int(Double(gaps.count - 1) * share)]) }
    print(
      "f = \(tolerance): served again after p50 \(ms(0.5)) ms, p99 \(ms(0.99)) ms,"
        + " max \(Int(longest)) ms (200 \(what), \(gaps.count) controllers)")
    return gaps[0]...longest
  }
}

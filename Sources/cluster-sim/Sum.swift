import ClusterTestKit

/// What many simulations came to.
struct Sum: Sendable {
  private(set) var violations: [Simulation.Violation] = []
  private var seconds = 0.0
  private var report = Simulation.Report()

  mutating func add(_ seed: UInt64, options: Simulation.Options, seconds: Double) {
    var simulation = Simulation(seed: seed, options: options)
    do {
      try simulation.run(seconds: seconds)
      self.seconds += seconds
    } catch {
      violations.append(error)
      self.seconds += error.atSeconds
    }
    add(simulation.report)
  }

  mutating func add(_ other: Sum) {
    violations += other.violations
    seconds += other.seconds
    add(other.report)
  }

  private mutating func add(_ other: Simulation.Report) {
    report.steps += other.steps
    report.faults += other.faults
    report.crashes += other.crashes
    report.grants += other.grants
    report.moves += other.moves
    report.recoveriesMs += other.recoveriesMs
  }

  func print(took: Duration, jobs: Int, replay: String) {
    let wall = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
    for violation in violations {
      Swift.print("BROKEN \(violation)\n       again: \(replay) SEED=\(violation.seed)")
    }
    let hours = (seconds / 36).rounded() / 100
    let speed = Int(seconds / wall / Double(jobs))
    Swift.print(
      "\(hours) cluster-hours, \(report.faults) faults (\(report.crashes) crashes),"
        + " \(report.grants) changes of owner, \(report.moves) moves,"
        + " \(violations.count) broken promises; \(speed) times real time on a core")
    let sorted = report.recoveriesMs.sorted()
    guard let longest = sorted.last else { return }
    func ms(_ share: Double) -> Int { Int(sorted[Int(Double(sorted.count - 1) * share)]) }
    Swift.print(
      "served again after the last fault, where that took time: \(sorted.count) times,"
        + " p50 \(ms(0.5)) ms, p99 \(ms(0.99)) ms, max \(Int(longest)) ms")
  }
}

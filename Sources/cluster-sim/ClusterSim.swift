import ArgumentParser
import ClusterTestKit
import Election

/// Runs simulated clusters, each from a seed, until one of them breaks a promise or all are through.
@main
struct ClusterSim: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cluster-sim",
    abstract: "Simulated clusters full of faults, watched for broken promises.",
    discussion: """
      A simulation is decided by its seed and these options: the same again is the same again. Ends
      with 1 when a promise was broken, and names the seed. Docs/OWNERSHIP.md has the promises.
      """)

  @Option(help: "The first seed.") var seed: UInt64 = 1
  @Option(help: "How many hours of cluster time to simulate.") var hours = 1.0
  @Option(help: "Minutes of cluster time with one seed.") var minutes = 17.0
  @Option(help: "Nodes of a cluster, 1 … 16.") var nodes = 5
  @Option(help: "f: members without whose promise a node holds, 0 … 3.") var tolerance = 0
  @Option(help: "Mean seconds between faults.") var faultEvery = 3.0
  @Option(help: "Simulations at a time.") var jobs = 1
  @Flag(help: "Simulate the first seed only, and print what happens.") var trace = false

  func validate() throws {
    guard hours > 0, minutes > 0, faultEvery > 0 else {
      throw ValidationError("--hours, --minutes and --fault-every must be above 0")
    }
    guard (1...16).contains(nodes) else { throw ValidationError("--nodes must be 1 … 16") }
    guard (0...3).contains(tolerance) else { throw ValidationError("--tolerance must be 0 … 3") }
    guard (1...64).contains(jobs) else { throw ValidationError("--jobs must be 1 … 64") }
  }

  private var options: Simulation.Options {
    var options = Simulation.Options()
    options.nodes = nodes
    options.tolerance = tolerance
    options.faultEvery = faultEvery
    return options
  }

  func run() async throws {
    if trace { return try runTraced() }
    let count = UInt64((hours * 60 / minutes).rounded(.up))
    let (options, seconds) = (options, minutes * 60)
    var sum = Sum()
    let began = ContinuousClock.now
    await withTaskGroup(of: Sum.self) { group in
      for job in 0..<UInt64(jobs) {
        let seeds = stride(from: seed + job, to: seed + count, by: jobs)
        group.addTask {
          var sum = Sum()
          for seed in seeds { sum.add(seed, options: options, seconds: seconds) }
          return sum
        }
      }
      for await part in group { sum.add(part) }
    }
    let took = ContinuousClock.now - began
    sum.print(took: took, jobs: jobs, replay: replay)
    if !sum.violations.isEmpty { throw ExitCode(1) }
  }

  private var replay: String { "make sim NODES=\(nodes) TOLERANCE=\(tolerance)" }

  private func runTraced() throws {
    var simulation = Simulation(seed: seed, options: options, isTraced: true)
    do {
      try simulation.run(seconds: minutes * 60)
      for line in simulation.trace { print(line) }
    } catch {
      for line in simulation.trace { print(line) }
      print(error)
      throw ExitCode(1)
    }
  }
}

internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2
internal import SwiftProtobuf

struct Rollout: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restarts the nodes, one by one, onto the program that is installed on their hosts.",
    discussion: """
      Restarted is who runs another program than the one installed; by name, the leader last. Each must be
      well again, and stay so, before the next: it runs what is installed, serves, has the vendor app and
      Redis, acts for its ranges, and its controllers are connected. The first that is not ends the rollout.
      No controller is disconnected: nodes that run without --parking, or without a service manager that
      keeps descriptors, are refused. It begins only when all members are well.
      It keeps nothing of its own: interrupted, or stopped, it is run again, and goes on.
      With -f json one object a line; the last one says how it ended.
      Examples:
        clusterctl rollout --dry-run
        clusterctl rollout --node node-1         this one first, to see how it does
      Exit status: 0 done or nothing to do, 1 refused or stopped, 5 node not reached, 130 interrupted.
      """)

  @OptionGroup var options: Options
  @Option(
    parsing: .upToNextOption, help: ArgumentHelp("Only these nodes.", valueName: "name"))
  var node: [String] = []
  @Option(help: "How many nodes may be restarting at a time.") var maxUnavailable = 1
  @Flag(help: "Also nodes that run what is installed.") var all = false
  @Option(help: "How long a node may take to be well again; default: 60s.")
  var within: DurationArgument?
  @Flag(help: "Only say what would be done.") var dryRun = false

  func validate() throws {
    guard maxUnavailable >= 1 else {
      throw ValidationError("--max-unavailable must be 1 or more")
    }
  }

  func run() async throws {
    var settings = RolloutMachine.Settings()
    settings.nodes = node
    settings.all = all
    settings.unavailableMax = maxUnavailable
    settings.within = .milliseconds(Int64(within?.milliseconds ?? 60_000))
    settings.isDryRun = dryRun
    let wanted = settings
    let address = try options.address()
    let format = options.format
    Interruption.watch()
    // The node that is asked restarts as well.
    let ending = try await Connection.with(
      address,
      backoff: NGHTTP2Backoff(
        initial: .milliseconds(50), multiplier: 1.5, maximum: .milliseconds(300), jitter: 0.2)
    ) { admin in
      var shell = RolloutShell(RolloutMachine(wanted, at: .now), admin, format)
      return try await shell.run()
    }
    if ending.exit != .done { throw ExitCode(ending.exit.rawValue) }
  }
}

/// Does what a ``RolloutMachine`` says, and tells it what is seen.
struct RolloutShell {
  private static let lookEvery: Duration = .milliseconds(200)

  private var machine: RolloutMachine
  private let admin: Connection.Admin
  private var printer: RolloutPrinter
  private var view: RolloutView?

  init(_ machine: RolloutMachine, _ admin: Connection.Admin, _ format: Format) {
    self.machine = machine
    self.admin = admin
    self.printer = RolloutPrinter(format: format, beganAt: machine.beganAt)
  }

  mutating func run() async throws -> RolloutEnding {
    while true {
      if let ending = try await follow(try await look()) { return ending }
      try await Task.sleep(for: RolloutShell.lookEvery)
    }
  }

  private mutating func look() async throws -> RolloutMachine.Event {
    if Interruption.happened { return .interrupted }
    do {
      let view = try await RolloutView.look(admin)
      self.view = view
      return .seen(view)
    } catch let error as RPCError {
      // A node that is not there, or in no cluster, may be just starting.
      let isLate = ContinuousClock.now - machine.beganAt >= machine.settings.patience
      guard view == nil, isLate else { return .lost(error.message) }
      guard error.code == .failedPrecondition else { throw error }
      throw Failure(exit: .refused, message: error.message)
    }
  }

  private mutating func follow(_ event: RolloutMachine.Event) async throws -> RolloutEnding? {
    var directives = machine.step(event, at: .now)[...]
    while let directive = directives.popFirst() {
      switch directive {
      case .say(let notice): printer.show(notice, view)
      case .restart(let name, let incarnation):
        let answer = await RolloutView.restart(name, incarnation, admin)
        directives += machine.step(.answered(name, answer), at: .now)
      case .end(let ending):
        printer.show(ending, view)
        return ending
      }
    }
    return nil
  }
}

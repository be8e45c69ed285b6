internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import SwiftProtobuf

struct Plan: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The ranges the leader will move, most urgent first; nothing is done.",
    discussion: """
      What is under way is not shown: see ranges. An empty plan means that the load is shared well
      enough: below that nothing is moved.
      Example: clusterctl plan -f json | jq length
      """)

  @OptionGroup var options: Options

  func run() async throws {
    let plan = try await Connection.with(try options.address()) { admin in
      try await admin.getPlan(.init(), options: Connection.prompt)
    }
    show(plan, options)
  }
}

private func show(_ plan: Clusterdriver_V1_ClusterPlan, _ options: Options) {
  options.show(plan.moves.map(Records.move)) { table in
    table.title = Records.title(plan)
    table.columns = [
      .init(title: "First", field: "first", isNumber: true),
      .init(title: "Last", field: "last", isNumber: true),
      .init(title: "From", field: "from"),
      .init(title: "To", field: "to"),
      .init(title: "Load", field: "weight", isNumber: true),
      .init(title: "Reason", field: "reason"),
    ]
  }
}

struct Rebalance: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Starts, stops or shows the moving of ranges for balance.",
    discussion: """
      The leader keeps the load shared by itself, unless that was stopped. Controllers notice nothing of
      a move. The ranges of nodes that drain or are dead are taken over in any case.
      """,
    subcommands: [Start.self, Stop.self, Status.self])

  struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Lets the leader move ranges for balance, and waits until it has nothing left to move.")

    @OptionGroup var options: Options
    @Flag(help: "Return at once.") var noWait = false
    @Option(help: "How long to wait, then exit status 1; default: 5m.")
    var within: DurationArgument?

    func run() async throws {
      let limit = within?.milliseconds ?? 300_000
      let isWaiting = !noWait
      let plan = try await Connection.with(try options.address()) { admin in
        _ = try await admin.setBalancing(.init(), options: Connection.prompt)
        var plan = try await admin.getPlan(.init(), options: Connection.prompt)
        let end = ContinuousClock.now.advanced(by: .milliseconds(Int64(limit)))
        while isWaiting, Rebalance.isBusy(plan), .now < end {
          try await Task.sleep(for: .milliseconds(500))
          plan = try await admin.getPlan(.init(), options: Connection.prompt)
        }
        return plan
      }
      show(plan, options)
      guard isWaiting, Rebalance.isBusy(plan) else { return }
      throw Failure(
        exit: .refused,
        message: "\(plan.moves.count) moves are left and \(plan.underWay) under way; it goes on:"
          + " clusterctl rebalance status")
    }
  }

  struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Has no more ranges moved for balance, split or merged, until start.",
      discussion:
        "What is under way ends. Redis keeps this; one that comes back empty has forgotten it.")

    @OptionGroup var options: Options

    func run() async throws {
      let plan = try await Connection.with(try options.address()) { admin in
        _ = try await admin.setBalancing(.with { $0.paused = true }, options: Connection.prompt)
        return try await admin.getPlan(.init(), options: Connection.prompt)
      }
      show(plan, options)
    }
  }

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Whether ranges are moved for balance, how many are under way and how many are left.")

    @OptionGroup var options: Options

    func run() async throws {
      let plan = try await Connection.with(try options.address()) { admin in
        try await admin.getPlan(.init(), options: Connection.prompt)
      }
      options.show(Records.balance(plan))
    }
  }

  static func isBusy(_ plan: Clusterdriver_V1_ClusterPlan) -> Bool {
    !plan.moves.isEmpty || plan.underWay > 0
  }
}

struct Forget: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says that a node that was taken off the list is gone for good.",
    discussion: """
      While one that was taken off may come back, not knowing of it, the others act without Redis for two
      minutes at most. Only when its state file is gone too, or its host: a node that comes back after it
      was forgotten, and reaches a Redis that has lost its memory before all others, would act beside them.
      """)

  @OptionGroup var options: Options
  @Argument(help: "Its name, as topology had it.") var node: String

  func run() async throws {
    let name = node
    let cluster = try await Connection.with(try options.address()) { admin in
      try await admin.forgetMember(.with { $0.nodeID = name }, options: Connection.prompt)
    }
    show(cluster, options)
  }
}

extension Records {
  static func move(_ move: Clusterdriver_V1_PlannedMove) -> Record {
    Record([
      "first": .unsigned(move.first),
      "last": .unsigned(move.last),
      "from": .text(move.from),
      "to": .text(move.to),
      "weight": .unsigned(move.weight),
      "reason": .text(move.reason),
    ])
  }

  static func balance(_ plan: Clusterdriver_V1_ClusterPlan) -> Record {
    Record([
      "balancing": .text(plan.paused ? "stopped" : "on"),
      "under_way": .unsigned(UInt64(plan.underWay)),
      "left": .unsigned(UInt64(plan.moves.count)),
      "left_weight": .unsigned(plan.moves.reduce(0) { $0 &+ $1.weight }),
      "move_ms": .optional(plan.moveMs),
      "eta_ms": .optional(plan.timeLeftMs),
    ])
  }

  static func title(_ plan: Clusterdriver_V1_ClusterPlan) -> String {
    var text = "Moves to make: \(plan.moves.count), \(plan.underWay) under way"
    if plan.timeLeftMs > 0 { text += ", about \(Times.age(plan.timeLeftMs))" }
    return plan.paused ? text + ", BALANCING IS STOPPED" : text
  }
}

internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2

struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The nodes: state, role, ranges, controllers, events per second, links.",
    discussion: "Example: clusterctl list -f json | jq '.[].controllers'")

  @OptionGroup var options: Options

  func run() async throws {
    var rows: [Record] = []
    var failed = false
    for address in try options.addresses() {
      do {
        let node = try await Connection.with(address) { admin in
          try await admin.getNode(.init(), options: Connection.prompt)
        }
        rows.append(Records.node(node, at: address.description, now: Times.now()))
      } catch let failure as Failure {
        failed = true
        rows.append(Records.unreachable(address.description, why: failure.message))
      }
    }
    options.show(rows) { table in
      table.title = "Nodes: \(rows.count)"
      table.columns = [
        .init(title: "Node", field: "node"),
        .init(title: "Port", field: "port", isNumber: true),
        .init(title: "State", field: "state"),
        .init(title: "Role", field: "role"),
        .init(title: "Ranges", field: "ranges", isNumber: true),
        .init(title: "Controllers", field: "controllers", isNumber: true),
        .init(title: "Events/s", field: "events_per_second", isNumber: true),
        .init(title: "In flight", field: "in_flight", isNumber: true),
        .init(title: "Commands", field: "commands_pending", isNumber: true),
        .init(title: "Redis", field: "redis"),
        .init(title: "Vendor app", field: "vendor"),
        .init(title: "Up", field: "up_ms", isNumber: true, show: Table.age),
        .init(title: "Version", field: "version"),
      ]
    }
    for row in rows {
      if case .text(let why) = row["why"] { Standard.error(why) }
    }
    if failed { throw ExitCode(Exit.unreachable.rawValue) }
  }
}

extension Table {
  /// A field in ms as an age.
  static func age(_ value: Value) -> String {
    if case .unsigned(let ms) = value { Times.age(ms) } else { "" }
  }
}

struct Controllers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The controllers connected to a node.",
    discussion: """
      Example: clusterctl controllers --backlog 100
      The state is online for all of them: a node knows those that are connected. Those that are not
      are the vendor app's to list.
      """)

  enum State: String, ExpressibleByArgument, CaseIterable { case online, offline }

  @OptionGroup var options: Options
  @Option(help: "Only this one.") var serial: UInt64?
  @Option(help: "Only those in this state, online or offline.") var state: State?
  @Option(help: "Only those with at least so many events not yet acknowledged.") var backlog:
    UInt64?

  func run() async throws {
    let address = try options.address()
    var request = Clusterdriver_V1_ListNodeControllersRequest()
    request.serial = serial ?? 0
    request.backlogMin = backlog ?? 0
    let asked = request
    var rows: [Record] = []
    if state != .offline {
      rows = try await Connection.with(address) { admin in
        try await admin.listControllers(asked) { response in
          var rows: [Record] = []
          for try await controller in response.messages {
            rows.append(Records.controller(controller))
          }
          return rows
        }
      }
    }
    if let serial, state != .online, rows.isEmpty {
      rows = [Record(["serial": .unsigned(serial), "state": .text("offline")])]
    }
    options.show(rows) { table in
      table.title = "Controllers: \(rows.count)"
      table.columns = [
        .init(title: "Serial", field: "serial", isNumber: true),
        .init(title: "State", field: "state"),
        .init(title: "Address", field: "peer"),
        .init(title: "Model", field: "model"),
        .init(title: "Firmware", field: "firmware"),
        .init(title: "Received", field: "received_seq", isNumber: true),
        .init(title: "Acked", field: "acked_seq", isNumber: true),
        .init(title: "Backlog", field: "backlog", isNumber: true),
        .init(title: "Commands", field: "commands_pending", isNumber: true),
        .init(title: "Idle", field: "idle_ms", isNumber: true, show: Table.age),
      ]
    }
  }
}

struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Whether the nodes serve and have their links; exit status 0 when all is well.")

  @OptionGroup var options: Options

  func run() async throws {
    var problems: [String] = []
    for address in try options.addresses() {
      do {
        let node = try await Connection.with(address) { admin in
          try await admin.getNode(.init(), options: Connection.prompt)
        }
        let found = Check.problems(of: node)
        problems += found
        if found.isEmpty { print("\(node.nodeID): serving, \(node.controllers) controllers") }
      } catch let failure as Failure {
        problems.append(failure.message)
      }
    }
    for problem in problems { Standard.error(problem) }
    if !problems.isEmpty { throw ExitCode(Exit.refused.rawValue) }
  }

  static func problems(of node: Clusterdriver_V1_NodeStatus) -> [String] {
    var problems: [String] = []
    if node.state != "serving" { problems.append("\(node.nodeID): is \(node.state)") }
    if !["up", "not configured"].contains(node.redis) {
      problems.append("\(node.nodeID): Redis is \(node.redis); commands by pub/sub do not arrive")
    }
    if node.vendor != "up" {
      problems.append(
        "\(node.nodeID): the vendor app is \(node.vendor); controllers keep their events meanwhile")
    }
    return problems
  }
}

internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2
internal import SwiftProtobuf

struct Topology: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The nodes of the cluster, as one of them sees it: who lives, leads and owns what.",
    discussion: """
      States: alive, unhealthy (the vendor app does not take what it sends), draining, stopped (it gave
      its ranges back), dead (silent for a TTL), missing (on the list, without a session).
      Example: clusterctl topology -f json | jq '.[] | select(.state != "alive")'
      """)

  @OptionGroup var options: Options

  func run() async throws {
    let cluster = try await Connection.with(try options.address()) { admin in
      try await admin.getCluster(.with { $0.withoutRanges = true }, options: Connection.prompt)
    }
    show(cluster, options)
  }
}

/// What `topology`, `drain`, `undrain` and `forget` print.
func show(_ cluster: Clusterdriver_V1_ClusterStatus, _ options: Options) {
  options.show(cluster.members.map { Records.member($0, of: cluster) }) { table in
    table.title = Records.title(cluster)
    table.columns = [
      .init(title: "Node", field: "node"),
      .init(title: "State", field: "state"),
      .init(title: "Leads", field: "leader", show: { $0 == .bool(true) ? "leader" : "" }),
      .init(title: "Listed", field: "listed", show: { $0 == .bool(true) ? "yes" : "no" }),
      .init(title: "Ranges", field: "ranges", isNumber: true),
      .init(title: "Load", field: "weight", isNumber: true),
      .init(title: "Controllers at", field: "controllers_at"),
      .init(title: "Peers at", field: "peers_at"),
    ]
  }
}

struct Ranges: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The ranges of serial numbers: who owns each, and who takes it next.",
    discussion: """
      Example: clusterctl ranges --serial 12345
      The load counts a controller as one, and four events a second as one.
      """)

  @OptionGroup var options: Options
  @Option(help: "Only the range that has this serial.") var serial: UInt64?

  func run() async throws {
    let cluster = try await Connection.with(try options.address()) { admin in
      try await admin.getCluster(.init(), options: Connection.prompt)
    }
    let ranges = cluster.ranges.filter { range in
      serial.map { range.first <= $0 && $0 <= range.last } ?? true
    }
    options.show(ranges.map(Records.range)) { table in
      table.title = "Ranges: \(ranges.count)"
      table.columns = [
        .init(title: "First", field: "first", isNumber: true),
        .init(title: "Last", field: "last", isNumber: true),
        .init(title: "Owner", field: "owner"),
        .init(title: "Epoch", field: "epoch", isNumber: true),
        .init(title: "Load", field: "weight", isNumber: true),
        .init(title: "Moving to", field: "moving_to"),
        .init(title: "Successors", field: "successors", show: Records.names),
      ]
    }
  }
}

struct Drain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Moves everything a node owns to the others, and gives it nothing until undrain.",
    discussion: """
      Waits until the node owns nothing, and then says that it may be stopped; with --no-wait it returns
      at once. Controllers notice nothing. The node goes on relaying. A node that starts anew does not
      drain.
      """)

  @OptionGroup var options: Options
  @Flag(help: "Return at once.") var noWait = false
  @Option(help: "How long to wait, then exit status 1; default: 60s.")
  var within: DurationArgument?

  func run() async throws {
    let address = try options.address()
    let limit = within?.milliseconds ?? 60_000
    let isWaiting = !noWait
    let (cluster, isEmpty) = try await Connection.with(address) { admin in
      var cluster = try await admin.setDraining(
        .with { $0.draining = true }, options: Connection.prompt)
      let end = ContinuousClock.now.advanced(by: .milliseconds(Int64(limit)))
      while isWaiting, Drain.ranges(cluster) > 0, .now < end {
        try await Task.sleep(for: .milliseconds(200))
        cluster = try await admin.getCluster(
          .with { $0.withoutRanges = true }, options: Connection.prompt)
      }
      return (cluster, Drain.ranges(cluster) == 0)
    }
    show(cluster, options)
    guard isWaiting else { return }
    guard isEmpty else {
      throw Failure(
        exit: .refused,
        message: "\(cluster.nodeID) still owns \(Drain.ranges(cluster)) ranges: is another node"
          + " there to take them?")
    }
    if options.format == .pretty { print("\(cluster.nodeID) owns nothing: it may be stopped") }
  }

  private static func ranges(_ cluster: Clusterdriver_V1_ClusterStatus) -> UInt64 {
    cluster.members.first { $0.nodeID == cluster.nodeID }?.ranges ?? 0
  }
}

struct Undrain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lets a node own ranges again.")

  @OptionGroup var options: Options

  func run() async throws {
    let cluster = try await Connection.with(try options.address()) { admin in
      try await admin.setDraining(.with { $0.draining = false }, options: Connection.prompt)
    }
    show(cluster, options)
  }
}

extension Records {
  static func member(
    _ member: Clusterdriver_V1_ClusterMember, of cluster: Clusterdriver_V1_ClusterStatus
  ) -> Record {
    Record([
      "node": .text(member.nodeID),
      "state": .text(member.state),
      "leader": .bool(member.nodeID == cluster.leader),
      "listed": .bool(member.listed),
      "ranges": .unsigned(member.ranges),
      "weight": .unsigned(member.weight),
      "controllers_at": .optional(member.controllersAt),
      "peers_at": .optional(member.peersAt),
      "incarnation": .optional(member.incarnation),
      "version": .optional(member.version),
    ])
  }

  static func range(_ range: Clusterdriver_V1_ClusterRange) -> Record {
    Record([
      "first": .unsigned(range.first),
      "last": .unsigned(range.last),
      "owner": .optional(range.owner),
      "epoch": .unsigned(range.epoch),
      "weight": .unsigned(range.weight),
      "moving_to": .optional(range.movingTo),
      "successors": .list(range.successors.map(Value.text)),
    ])
  }

  static func names(_ value: Value) -> String {
    guard case .list(let values) = value else { return "" }
    return values.map(\.plain).joined(separator: ", ")
  }

  /// Who says so, and on what its right rests.
  static func title(_ cluster: Clusterdriver_V1_ClusterStatus) -> String {
    let leader = cluster.leader.isEmpty ? "no leader" : "term \(cluster.term)"
    var right = "lease for \(cluster.leaseMs) ms"
    if cluster.leaseMs == 0 { right = "NO LEASE" }
    if cluster.actingByPromises { right = "Redis is away, acting by promises" }
    var text = "Cluster as \(cluster.nodeID) sees it (\(leader), \(right))"
    if cluster.paused { text += ", BALANCING IS STOPPED" }
    if !cluster.removed.isEmpty {
      text += ", taken off: \(cluster.removed.joined(separator: ", "))"
    }
    return text
  }
}

internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import SwiftProtobuf

struct History: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What has changed in the cluster, as a node has seen it since it started.",
    discussion: """
      The last 1,000 to 2,000 changes are remembered. Ranges are created, claimed (from a node that is
      dead or has stopped), moving, moved, taken back, split and merged; nodes are alive, unhealthy,
      draining, stopped, dead, listed, removed, or lead; store: another Redis, or one that has lost something.
      Example: clusterctl history -f json | jq '.[] | select(.what == "claimed")'
      """)

  @OptionGroup var options: Options
  @Option(help: "Only changes of the range that has this serial.") var serial: UInt64?
  @Option(help: "Only the last so many.") var last: Int?

  func run() async throws {
    let history = try await Connection.with(try options.address()) { admin in
      try await admin.getHistory(.init(), options: Connection.prompt)
    }
    var changes = history.changes
    if let serial { changes = changes.filter { $0.first <= serial && serial <= $0.last } }
    if let last { changes = changes.suffix(max(last, 0)) }
    options.show(changes.map(Records.change)) { table in
      table.title = "Changes as \(history.nodeID) has seen them: \(changes.count)"
      table.columns = [
        .init(title: "At", field: "at_ms", show: Records.localTime),
        .init(title: "What", field: "what"),
        .init(title: "First", field: "first", isNumber: true),
        .init(title: "Last", field: "last", isNumber: true),
        .init(title: "From", field: "from"),
        .init(title: "Node", field: "node"),
        .init(title: "Epoch", field: "epoch", isNumber: true),
      ]
    }
  }
}

struct Watch: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Changes in the cluster as a node sees them, from now on, until interrupted.",
    discussion: """
      With -f json one object a line. A node that starts anew is followed on.
      Example: clusterctl watch -f json | jq 'select(.what == "dead")'
      """)

  @OptionGroup var options: Options
  @Option(help: "End after so many changes.") var count: UInt64?

  private static let lookEvery = Duration.milliseconds(250)

  func run() async throws {
    let address = try options.address()
    let format = options.format
    let limit = count ?? .max
    try await Connection.with(address) { admin in
      var shown: UInt64 = 0
      var seen: (incarnation: UInt64, number: UInt64)?
      while shown < limit {
        let after = seen?.number ?? 0
        var history = try await admin.getHistory(
          .with { $0.after = after }, options: Connection.prompt)
        if let seen, seen.incarnation != history.incarnation {
          history = try await admin.getHistory(.init(), options: Connection.prompt)
        }
        // What was before is history's to show.
        let isFirst = seen == nil
        seen = (history.incarnation, history.changes.last?.number ?? (isFirst ? 0 : after))
        for change in history.changes where !isFirst && shown < limit {
          Watch.show(change, format, isFirst: shown == 0)
          shown += 1
        }
        if shown < limit { try await Task.sleep(for: Watch.lookEvery) }
      }
    }
  }

  private static func show(
    _ change: Clusterdriver_V1_ClusterChange, _ format: Format, isFirst: Bool
  ) {
    switch format {
    case .pretty: print(Table.printable(Records.line(change)))
    case .json: print(Value.record(Records.change(change)).json(indent: nil))
    case .yaml: print("---\n" + Value.record(Records.change(change)).yaml())
    case .tsv: Options.printTSV([Records.change(change)], heading: isFirst)
    }
    Standard.flush()
  }
}

extension Records {
  static func change(_ change: Clusterdriver_V1_ClusterChange) -> Record {
    Record([
      "number": .unsigned(change.number),
      "at": .text(Times.rfc3339(change.atMs)),
      "what": .text(change.what),
      "first": .optional(change.first),
      "last": .optional(change.last),
      "epoch": .optional(change.epoch),
      "from": .optional(change.from),
      "node": .optional(change.node),
      "at_ms": .unsigned(change.atMs),
    ])
  }

  static func localTime(_ value: Value) -> String {
    if case .unsigned(let ms) = value { Times.local(ms) } else { "" }
  }

  /// "09:15:30.250 moved 1…4999 from node-1 to node-2 under 7".
  static func line(_ change: Clusterdriver_V1_ClusterChange) -> String {
    var words = [Times.local(change.atMs), change.what]
    if change.first > 0 { words.append("\(change.first)…\(change.last)") }
    if !change.from.isEmpty { words.append("from \(change.from)") }
    if !change.node.isEmpty { words.append(change.first > 0 ? "to \(change.node)" : change.node) }
    if change.epoch > 0 { words.append("under \(change.epoch)") }
    return words.joined(separator: " ")
  }
}

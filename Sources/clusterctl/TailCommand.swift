internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore

struct Tail: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Events as the node takes them, until interrupted.",
    discussion: """
      Example: clusterctl tail --serial 12345
      For people to look at. With -f json one object a line. A reader that is too slow misses events,
      and is told how many.
      """)

  @OptionGroup var options: Options
  @Option(help: "Only this controller's.") var serial: UInt64?
  @Option(help: "End after so many events.") var count: UInt64?

  func run() async throws {
    let address = try options.address()
    let format = options.format
    let limit = count ?? .max
    var request = Clusterdriver_V1_NodeTailRequest()
    request.serial = serial ?? 0
    let asked = request
    try await Connection.with(address) { admin in
      try await admin.tail(asked) { response in
        var shown: UInt64 = 0
        for try await item in response.messages {
          Tail.show(item, format, isFirst: shown == 0)
          if case .event = item.content { shown += 1 }
          if shown >= limit { return }
        }
      }
    }
  }

  private static func show(_ item: Clusterdriver_V1_NodeTailItem, _ format: Format, isFirst: Bool) {
    switch item.content {
    case .event(let event):
      switch format {
      case .pretty: print(Table.printable(EventNames.line(event)))
      case .json: print(Value.record(Records.event(event)).json(indent: nil))
      case .yaml: print("---\n" + Value.record(Records.event(event)).yaml())
      case .tsv: Options.printTSV([Records.event(event)], heading: isFirst)
      }
      Standard.flush()
    case .missed(let missed): Standard.error("\(missed) events missed: this reader is too slow")
    case nil: break
    }
  }
}

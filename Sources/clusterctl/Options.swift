internal import ArgumentParser
internal import GRPCCore
internal import GRPCNGHTTP2
internal import Glibc

/// How every command reaches a node and shows what it finds.
struct Options: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The node's admin address, unix:/PATH or host:port.",
      discussion: "Else CLUSTER_DRIVER_ADMIN, else the sockets of the nodes on this host.",
      valueName: "address"))
  var admin: String?

  @Option(name: [.customShort("f"), .long], help: "pretty, json, yaml or tsv.")
  var format = Format.pretty

  @Flag(
    name: .long,
    help:
      "Allow plain gRPC to an admin address that is not on this host: anybody between can read it.")
  var insecure = false

  private var environment: [String: String] {
    var all: [String: String] = [:]
    for name in ["CLUSTER_DRIVER_ADMIN", "XDG_RUNTIME_DIR"] {
      if let value = getenv(name) { all[name] = String(cString: value) }
    }
    return all
  }

  func addresses() throws -> [NGHTTP2Address] {
    let all = try unreachable {
      try Sockets.addresses(admin: admin, environment: environment, found: Sockets.find)
    }
    for address in all { try allow(address) }
    return all
  }

  func address() throws -> NGHTTP2Address {
    let address = try unreachable {
      try Sockets.address(admin: admin, environment: environment, found: Sockets.find)
    }
    try allow(address)
    return address
  }

  private func unreachable<T>(_ body: () throws -> T) throws -> T {
    do { return try body() } catch let problem as Sockets.Problem {
      throw Failure(exit: .unreachable, message: problem.description)
    }
  }

  private func allow(_ address: NGHTTP2Address) throws {
    guard case .tcp(let host, _) = address, !insecure else { return }
    guard host == "localhost" || host == "::1" || host.hasPrefix("127.") else {
      throw Failure(
        exit: .usage,
        message: "\(address) is not on this host, and the admin service speaks plain gRPC: anybody"
          + " between could read and steer it. Use the node's socket, or --insecure in a laboratory"
      )
    }
  }

  /// Prints records in the format asked for; `table` is what pretty shows of them.
  func show(_ records: [Record], table: (inout Table) -> Void) {
    switch format {
    case .pretty:
      var view = Table(title: "", columns: [], rows: records)
      table(&view)
      print(view.rendered())
    case .json: print(Value.list(records.map(Value.record)).json())
    case .yaml: print(records.isEmpty ? "[]" : Value.list(records.map(Value.record)).yaml())
    case .tsv: Options.printTSV(records)
    }
  }

  static func printTSV(_ records: [Record], heading: Bool = true) {
    if heading, let first = records.first {
      print(first.fields.map(\.name).joined(separator: "\t"))
    }
    for record in records { print(record.fields.map(\.value.tsv).joined(separator: "\t")) }
  }

  /// Prints one record; pretty shows it as lines "name: value".
  func show(_ record: Record) {
    switch format {
    case .pretty:
      let width = record.fields.map(\.name.count).max() ?? 0
      for field in record.fields where field.value != .null {
        let space = String(repeating: " ", count: width - field.name.count)
        print("\(field.name):\(space) \(Table.printable(field.value.plain))")
      }
    case .json: print(Value.record(record).json())
    case .yaml: print(Value.record(record).yaml())
    case .tsv: Options.printTSV([record])
    }
  }
}

/// How a command ends (documented in `clusterctl --help`).
enum Exit: Int32 {
  case done = 0
  case refused = 1
  case usage = 2
  case expired = 3
  case offline = 4
  case unreachable = 5
  case superseded = 6
  case interrupted = 130
}

/// An end that is said in one line on stderr.
struct Failure: Error {
  var exit: Exit
  var message: String
}

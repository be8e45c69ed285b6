internal import ArgumentParser
internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2

/// `send SERIAL unlock --door 2 --within 5s`. The serial comes before what is to be done, so the
/// subcommand's name is an argument of ours and not the parser's.
struct Send: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Sends a command to a controller and waits for its result.",
    usage: "clusterctl send <serial> <action> [<options>]",
    discussion: """
      Actions and their options:
        unlock      --door N [--duration 3s]      release a door for a moment
        door-mode   --door N --mode card|locked|unlocked
        output      --output N --state off|on|pulse [--duration 500ms]
        set-clock                                 to the node's time
        status                                    state of doors and outputs
        reboot      [--delay 5s]
        raw         --code N [--body HEX]         any other command of the protocol

      Examples:
        clusterctl send 12345 unlock --door 2 --within 5s
        clusterctl send 12345 door-mode --door 1 --mode locked

      Exit status: 0 done, 1 refused, 2 wrong usage, 3 expired, 4 offline, 5 node not reached,
      6 superseded.
      """)

  @OptionGroup var options: Options
  @Argument(help: "The controller.") var serial: UInt64
  @Argument(help: "What it is to do.") var action: String
  @Option(help: "Door number.") var door: UInt32?
  @Option(help: "Output number.") var output: UInt32?
  @Option(help: "card, locked or unlocked.") var mode: String?
  @Option(help: "off, on or pulse.") var state: String?
  @Option(help: "How long: 500ms, 3s.") var duration: DurationArgument?
  @Option(help: "How long to wait before: 5s.") var delay: DurationArgument?
  @Option(help: "Command number, 1 to 65535.") var code: UInt32?
  @Option(help: "The command's body in hexadecimal.") var body: String?
  @Option(
    help: """
      The command is not carried out later than this after now. 10s by default for what must not \
      happen late (unlock, output); otherwise without limit, and the result is waited for 60s.
      """)
  var within: DurationArgument?
  @Option(help: "urgent, normal or bulk.") var lane: String?
  @Option(help: "The command's id, 32 hexadecimal digits; chosen at random otherwise.") var id:
    String?

  func run() async throws {
    let command = try ActionArguments(self).command(now: Times.now())
    let address = try options.address()
    let wait = (within?.milliseconds ?? (command.notAfterMs == 0 ? 60_000 : 10_000)) + 10_000
    var callOptions = CallOptions.defaults
    callOptions.timeout = .milliseconds(Int64(wait))
    let call = callOptions
    let result = try await Connection.with(address) { admin in
      try await admin.sendCommand(command, options: call)
    }
    options.show(Send.shown(result, of: command, pretty: options.format == .pretty))
    let exit = Send.exit(for: result.status)
    if exit != .done { throw ExitCode(exit.rawValue) }
  }

  /// The result, and with it what `status` asked for.
  static func shown(
    _ result: Clusterdriver_V1_CommandResult, of command: Clusterdriver_V1_Command, pretty: Bool
  ) -> Record {
    var record = Records.result(result)
    guard case .queryStatus = command.action, let report = StatusReport(result.body) else {
      return record
    }
    if pretty { record.fields.removeAll { $0.name == "body" } }
    record.fields += (pretty ? Records.lines(report) : Records.report(report)).fields
    return record
  }

  static func exit(for status: Clusterdriver_V1_CommandStatus) -> Exit {
    switch status {
    case .done: .done
    case .expired: .expired
    case .offline: .offline
    case .superseded: .superseded
    case .refused, .unspecified, .UNRECOGNIZED: .refused
    }
  }
}

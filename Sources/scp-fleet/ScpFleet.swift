internal import ArgumentParser
internal import CFleet
internal import Glibc

@main
struct ScpFleet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scp-fleet",
    abstract: "Simulated door controllers: the test instrument and oracle.",
    discussion: """
      Each controller keeps a real log, obeys commands and knows what it was made to do. At the end \
      comes a report. Exit status: 0 when no record was lost or stored twice, and no command \
      executed twice, late, or sent under a stale owner epoch; 1 otherwise; 2 for wrong usage or \
      when no controller could connect at all. SIGINT and SIGTERM end it early, with a report.

      Faults (--faults NAME[:RATE],… with RATE per controller and second; the default in \
      parentheses):
      \(String(cString: fleet_fault_help()))

      Example: scp-fleet --connect 127.0.0.1:5001 --controllers 200 --event-rate 10 --duration 20s \
      --faults disconnect:0.05,half-open --verify grpc://127.0.0.1:6001
      """,
    version: "1.0.0")

  @OptionGroup var options: Options

  static func main() async {
    do {
      var command = try parseAsRoot()
      if var fleet = command as? ScpFleet {
        try await fleet.run()
      } else {
        try command.run()
      }
    } catch let failure as Failure {
      Standard.error("scp-fleet: \(failure.message)")
      Glibc.exit(2)
    } catch {
      // The parser's own status for wrong usage is 64.
      guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
      Standard.error(fullMessage(for: error))
      Glibc.exit(2)
    }
  }

  mutating func run() async throws {
    let target = try options.verify.map { try Verification.address($0) }
    let fleet = try Fleet(options)
    try fleet.start()
    fleet.watch(progress: options.progressStyle)
    var failure: Failure?
    if let target {
      do {
        try await Verification.run(fleet, target, options)
      } catch let error as Failure {
        failure = error
      }
    }
    let report = fleet.report()
    fleet.print(report, json: options.json)
    try fleet.write(ledger: options.ledger, commands: options.commandsLog)
    if let failure { throw failure }
    if report.controllers_welcomed == 0 {
      throw Failure("none of \(report.controllers) controllers was welcomed by \(options.connect)")
    }
    if !withUnsafePointer(to: report, fleet_report_is_clean) { throw ExitCode(1) }
  }
}

/// What ends the program with status 2.
struct Failure: Error {
  var message: String

  init(_ message: String) { self.message = message }
}

enum Standard {
  /// Writes a line to stderr.
  static func error(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) }
  }
}

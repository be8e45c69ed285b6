internal import ArgumentParser
internal import Foundation

/// Holds the subcommands. It has no options of its own: the parser would take `--db` for them, and
/// not for the subcommand it was written behind.
@main
struct VendorAppCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vendor-app",
    abstract: "The reference vendor app: stores events, answers access requests, sends commands.",
    version: "1.0.0",
    subcommands: [Serve.self, Cards.self],
    defaultSubcommand: Serve.self)

  static func main() async {
    signal(SIGPIPE, SIG_IGN)
    var arguments = Array(CommandLine.arguments.dropFirst())
    // What nearly everybody wants to know are the options of serving.
    if arguments == ["--help"] || arguments == ["-h"] { arguments.insert("serve", at: 0) }
    do {
      var command = try parseAsRoot(arguments)
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let failure as Failure {
      FileHandle.standardError.write(Data("vendor-app: \(failure.message)\n".utf8))
      Foundation.exit(1)
    } catch {
      exit(withError: error)
    }
  }
}

/// Why the program ends, for the person who started it.
struct Failure: Error {
  var message: String
}

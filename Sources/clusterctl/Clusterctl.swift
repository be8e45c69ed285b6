internal import ArgumentParser
internal import Glibc

@main
struct Clusterctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clusterctl",
    abstract: "Shows and steers cluster-driver nodes.",
    discussion: """
      Nodes are found by --admin, else CLUSTER_DRIVER_ADMIN, else by the sockets of the nodes on this
      host.
      Exit status: 0 done, 1 refused or not well, 2 wrong usage, 3 expired, 4 offline, 5 node not
      reached, 6 superseded, 130 rollout was interrupted.
      """,
    version: "1.0.0",
    subcommands: [
      List.self, Topology.self, Ranges.self, Controllers.self, History.self, Watch.self, Send.self,
      Tail.self, Plan.self, Rebalance.self, Drain.self, Undrain.self, Rollout.self, Forget.self,
      Check.self,
    ])

  static func main() async {
    signal(SIGPIPE, SIG_DFL)  // `clusterctl tail | head` ends in silence
    do {
      var command = try parseAsRoot(optionsLast(Array(CommandLine.arguments.dropFirst())))
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let failure as Failure {
      Standard.error(failure.message)
      Glibc.exit(failure.exit.rawValue)
    } catch {
      // The parser's own status for wrong usage is 64; ours is in the table of exit statuses.
      guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
      Standard.lines(fullMessage(for: error))
      Glibc.exit(Exit.usage.rawValue)
    }
  }
}

extension Clusterctl {
  /// The parser knows the common options behind a command only; people write them before it too.
  static func optionsLast(_ arguments: [String]) -> [String] {
    var rest = arguments[...]
    var leading: [String] = []
    while let option = rest.first {
      switch option {
      case "--insecure": leading.append(rest.removeFirst())
      case "--admin", "-f", "--format":
        leading += rest.prefix(2)
        rest = rest.dropFirst(2)
      case _ where option.hasPrefix("--admin=") || option.hasPrefix("--format="):
        leading.append(rest.removeFirst())
      default: return rest + leading
      }
    }
    return leading
  }
}

extension DurationArgument: ExpressibleByArgument {}

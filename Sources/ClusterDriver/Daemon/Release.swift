import CSystem
import Election
import Glibc
import RedisLink

/// `--release`: gives back what a process of this node that has ended still holds, so that its peers need not
/// wait until the session runs out.
///
/// Never what a living one holds: the process of a node has its state file locked, and what is released
/// is the session of the incarnation that this file names, of which the store knows whether it still is
/// the node's.
enum Release {
  private static let limit: Duration = .seconds(3)

  /// Prints what became of it. True: there is nothing (any more) that was to be given back.
  static func run(_ config: NodeConfiguration, environment: [String: String]) -> Bool {
    do {
      print(try Release.perform(config, environment: environment))
      return true
    } catch {
      print("nothing was released: \(error)")
      return false
    }
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private static func perform(
    _ config: NodeConfiguration, environment: [String: String]
  ) throws -> String {
    guard case .server(let url) = config.redis else {
      return "nothing is to be released with \(config.redis)"
    }
    guard config.port != 0,
      let path = config.stateFile(boundPort: config.port, environment: environment)
    else {
      throw Failure(
        description: "whose session it would be is in the state file: give --state-file and --port")
    }
    // Held until this process ends.
    _ = try StateLock(path)
    guard let incarnation = try MemoryKeeper.former(path) else {
      return "there was no process of this node: no state file \(path)"
    }
    let owner = Owner(
      NodeID(config.nodeName(boundPort: config.port, hostname: hostName())), incarnation)
    try Release.give(owner, back: url, cluster: config.cluster)
    return "the session of \(owner) is given back, if it was still there"
  }

  private static func give(_ owner: Owner, back url: RedisURL, cluster: String) throws {
    let end = ContinuousClock.now.advanced(by: Release.limit)
    let bell = Bell()
    let link = try RedisLink(
      url, options: RedisStore.linkOptions(cluster: cluster, timeout: Release.limit),
      onState: { _ in bell.ring() })
    defer { link.close() }
    while !link.state.isUp, .now < end {
      bell.wait(milliseconds: (end - .now).millisecondsRoundedUp)
    }
    let store = RedisStore(link: link, cluster: cluster, timeout: Release.limit)
    let answer = Awaited {
      await withCheckedContinuation { continuation in
        store.run(.release(owner), for: nil) { continuation.resume(returning: $0) }
      }
    }
    switch answer.wait(Release.limit) {
    case .success: return
    case .failure(let failure): throw Failure(description: "\(url): \(failure)")
    case nil: throw Failure(description: "\(url) did not answer in \(Release.limit)")
    }
  }
}

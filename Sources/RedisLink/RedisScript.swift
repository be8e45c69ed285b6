internal import Synchronization

/// A Lua script of the server's, run by its digest.
///
/// The server computes the digest (SCRIPT LOAD), either at every connect for the scripts in
/// `RedisLinkOptions.scripts`, or with the first run of any other. A server that has forgotten it
/// (restart, SCRIPT FLUSH, failover) says NOSCRIPT without having run anything, and is given the
/// source.
public final class RedisScript: Sendable {
  public let source: String
  private let digest = Mutex<[UInt8]?>(nil)

  public init(_ source: String) {
    self.source = source
  }

  /// 40 hexadecimal digits, once a server has told them. The same for every server.
  public var sha1: String? {
    digest.withLock { $0 }.map { String(decoding: $0, as: UTF8.self) }
  }

  func learn(_ sha: [UInt8]) {
    guard sha.count == 40 else { return }
    digest.withLock { $0 = sha }
  }

  fileprivate func byDigest(_ tail: [RedisArgument]) -> RedisCommand? {
    digest.withLock { $0 }.map { RedisCommand("EVALSHA", [.bytes($0)] + tail) }
  }

  fileprivate func bySource(_ tail: [RedisArgument]) -> RedisCommand {
    RedisCommand("EVAL", [.string(source)] + tail)
  }
}

extension RedisLink {
  /// Runs a script. `timeout` (nil: the link's) covers everything. A run by source after NOSCRIPT
  /// takes its place in the order of commands then, not where the first one stood.
  ///
  /// Throws `.server` when the script failed, perhaps midway; else as `send` does.
  public func run(
    _ script: RedisScript, keys: [RedisArgument] = [], arguments: [RedisArgument] = [],
    timeout: Duration? = nil
  ) async throws(RedisError) -> RedisValue {
    try await waitForOne { (tell) throws(RedisError) in
      try self.run(script, keys: keys, arguments: arguments, timeout: timeout, then: tell)
    }
  }

  /// The same for threads that do not wait: `tell` is called as for `submit`.
  public func run(
    _ script: RedisScript, keys: [RedisArgument] = [], arguments: [RedisArgument] = [],
    timeout: Duration? = nil,
    then tell: @escaping @Sendable (Result<RedisValue, RedisError>) -> Void
  ) throws(RedisError) {
    let tail = [.integer(Int64(keys.count))] + keys + arguments
    let deadline = deadline(timeout)
    guard let command = script.byDigest(tail) else {
      let load = RedisCommand("SCRIPT", "LOAD", .string(script.source))
      try submit(load, deadline: deadline) { result in
        if case .success(.bytes(let sha)) = result { script.learn(sha) }
      }
      // No batch with it: that goes again as a whole only, when a node of a cluster has turned the
      // run away and not the other.
      return try submit(script.bySource(tail), deadline: deadline, then: tell)
    }
    try submit(command, deadline: deadline) { [weak self] result in
      guard case .failure(.server(let error)) = result, error.code == "NOSCRIPT" else {
        return tell(result)
      }
      guard let self else { return tell(.failure(.notSent(.closed))) }
      do throws(RedisError) {
        try self.submit(script.bySource(tail), deadline: deadline, then: tell)
      } catch {
        tell(.failure(error))
      }
    }
  }
}

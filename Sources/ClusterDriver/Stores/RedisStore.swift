import Election
import RedisLink
import Synchronization

/// The ownership store in Redis: each call is one script, run by its digest, and so one instant there.
/// Docs/OWNERSHIP.md (In Redis) has the keys; `MemoryStore` is what it is held to.
///
/// Any thread may call. Replies are decoded and told on the link's own thread, which should carry
/// nothing else: a heartbeat must not wait behind a command.
final class RedisStore: OwnershipStore {
  private let link: RedisLink
  private let keys: [RedisArgument]
  private let timeout: Duration
  /// Makes a generation that is made now another one than any before.
  private let nonce = UInt64.random(in: .min ... .max)
  private let calls = Atomic<UInt64>(0)

  /// - Parameters:
  ///   - link: of this store's own, with `linkOptions`.
  ///   - cluster: whose store it is. Clusters share a Redis without touching each other.
  ///   - timeout: of each call, after which its outcome is unknown (`Timing.callTimeout`).
  init(link: RedisLink, cluster: String, timeout: Duration) {
    self.link = link
    self.keys = RedisStore.keys(cluster: cluster).map { .string($0) }
    self.timeout = timeout
  }

  /// State, ranges, serials, changes, tombstones: in one slot, all that a call touches.
  static func keys(cluster: String) -> [String] {
    ["state", "ranges", "serials", "changes", "gone"].map {
      "{cd:\(StoreText.token(cluster))}:\($0)"
    }
  }

  /// For the link that the store of `cluster` is given: it knows the scripts from the first call on
  /// and, in a Redis Cluster, whose master to speak to. It tells at once when Redis is not there,
  /// rather than after the timeout. An attempt to connect and the pause after it are short: a lease
  /// does not outlive the link's own defaults.
  static func linkOptions(cluster: String, timeout: Duration) -> RedisLinkOptions {
    var options = RedisLinkOptions()
    options.connection.slotKey = keys(cluster: cluster)[0]
    options.connection.clientName = "cluster-driver-lease"
    options.connection.threadName = "lease"
    options.connection.connectTimeout = timeout
    options.connection.sentinelTimeout = timeout / 2
    options.connection.backOffMost = timeout / 2
    options.commandTimeout = timeout
    options.whenDown = .fail
    options.scripts = StoreScripts.all
    return options
  }

  func run(
    _ call: StoreCall, for known: StoreIdentity?,
    then tell: @escaping @Sendable (Result<StoreReply, StoreFailure>) -> Void
  ) {
    let number = self.calls.add(1, ordering: .relaxed).newValue
    let (script, words) = StoreScripts.encode(call)
    let meant = call.isForAnyStore ? "*" : StoreText.token(known)
    let arguments = [meant, "\(String(self.nonce, radix: 16)).\(number)"] + words
    do throws(RedisError) {
      try self.link.run(
        script, keys: self.keys, arguments: arguments.map { .string($0) }, timeout: self.timeout
      ) { result in
        tell(RedisStore.judge(result, of: call))
      }
    } catch {
      tell(.failure(StoreFailure(error)))
    }
  }

  private static func judge(
    _ result: Result<RedisValue, RedisError>, of call: StoreCall
  ) -> Result<StoreReply, StoreFailure> {
    do {
      return .success(try StoreReply(result.get(), to: call))
    } catch let failure as StoreFailure {
      return .failure(failure)
    } catch let error as RedisError {
      return .failure(StoreFailure(error))
    } catch {
      return .failure(.damaged("\(error)"))
    }
  }
}

extension StoreFailure {
  init(_ error: RedisError) {
    switch error {
    case .server(let answer):
      // Ours is marked, whatever a version of Redis writes around it.
      if let mark = answer.message.firstRange(of: "CDDATA ") {
        self = .damaged(String(answer.message[mark.upperBound...]))
      } else {
        self = .refused(answer.message)
      }
    case .notSent(let failure): self = .unreachable("\(failure)")
    case .unknown(let failure): self = .unreachable("\(failure); it may have run")
    }
  }
}

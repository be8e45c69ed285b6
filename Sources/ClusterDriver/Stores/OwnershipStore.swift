import Election
import Synchronization

/// Where ownership is kept: what runs a `StoreCall`. The rules are those of Docs/OWNERSHIP.md, which
/// `MemoryStore` is the reference for.
protocol OwnershipStore: Sendable {
  /// Hands over a call. `tell` is called once, on a thread of the store's own or on the caller's, and
  /// must not block. After a failure the call may have run, or may still.
  ///
  /// - Parameter known: the store the caller means; see `StoreCall.isForAnyStore`.
  func run(
    _ call: StoreCall, for known: StoreIdentity?,
    then tell: @escaping @Sendable (Result<StoreReply, StoreFailure>) -> Void)
}

extension OwnershipStore {
  /// The same for those who wait.
  func run(
    _ call: StoreCall, for known: StoreIdentity?
  ) async throws(StoreFailure) -> StoreReply {
    let result: Result<StoreReply, StoreFailure> = await withCheckedContinuation { continuation in
      self.run(call, for: known) { continuation.resume(returning: $0) }
    }
    return try result.get()
  }
}

/// Why a call to a store brought no reply.
enum StoreFailure: Error, Sendable, Hashable, CustomStringConvertible {
  /// Nobody answered, or not in time.
  case unreachable(String)
  /// The store is there and does not take the call: it is a replica, out of memory, without the
  /// replicas it wants, or does not let us.
  case refused(String)
  /// What it holds is not what this program, or one like it, has written.
  case damaged(String)

  var description: String {
    switch self {
    case .unreachable(let why): "the ownership store was not reached: \(why)"
    case .refused(let why): "the ownership store refused the call: \(why)"
    case .damaged(let what): "the ownership store holds what no node has written: \(what)"
    }
  }
}

/// The store of a node that is on its own (`memory:`): as long as the process lives. Replies come on
/// the caller's thread, before `run` returns.
final class LocalStore: OwnershipStore {
  private let store: Mutex<MemoryStore>

  init(identity: StoreIdentity = StoreIdentity("memory")) {
    self.store = Mutex(MemoryStore(identity: identity))
  }

  func run(
    _ call: StoreCall, for known: StoreIdentity?,
    then tell: @escaping @Sendable (Result<StoreReply, StoreFailure>) -> Void
  ) {
    // Outside of the lock: whoever is told may call again.
    tell(.success(self.store.withLock { $0.run(call, for: known) }))
  }
}

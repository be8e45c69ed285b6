/// Who finds a link its server, where it is not always the same: connections beside the link's own,
/// in the same loop.
///
/// What it finds is fetched by `nextFinding` once all that epoll told at a time was handled, and
/// never acted on in between: acting closes connections, of which epoll may just have told.
protocol ServerFinder: AnyObject {
  /// When `wake` wants to be called.
  var wakeAt: UInt64 { get }
  /// Whether something waits to be read that no socket tells of.
  var hasInput: Bool { get }

  func start(at now: UInt64)
  /// Search; not `avoiding`, if anybody names another.
  func find(avoiding address: RedisAddress?, at now: UInt64)
  /// The link goes there of its own accord.
  func aim(at address: RedisAddress, now: UInt64)
  /// Nothing is searched for any more.
  func giveUp(at now: UInt64)
  func close(at now: UInt64)
  func nextFinding() -> Finding?

  /// Time passed, or TLS holds what the sockets no longer tell of.
  func wake(at now: UInt64)
  /// Epoll has told of one of the connections.
  func handle(_ tag: UInt64, at now: UInt64)
  /// What the name of one of them came to.
  func resolved(_ tag: UInt64, _ resolution: Resolution, at now: UInt64)
}

enum Finding {
  /// Connect there.
  case found(RedisAddress)
  /// Nobody can tell.
  case lost(RedisFailure)
  /// Leave the server and go there.
  case follow(RedisAddress)
}

/// Whether a link or a subscriber has its server.
public enum RedisLinkState: Sendable, Hashable {
  /// Since `since` (CLOCK_BOOTTIME, ns); `attempts` connection attempts have failed since, the last
  /// one or the loss itself for `failure`.
  case down(RedisFailure, since: UInt64, attempts: Int)
  /// Since `since`; the `generation`-th connection that was let in, counted from 1.
  case up(since: UInt64, generation: UInt64)
  /// Closed by its owner. Nothing follows.
  case closed

  public var isUp: Bool {
    if case .up = self { true } else { false }
  }
}

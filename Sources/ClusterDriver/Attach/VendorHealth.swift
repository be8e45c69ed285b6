/// Whether a node can serve: whether the vendor app takes what it sends. A value; whoever looks says when.
///
/// A stream that is open proves nothing while what was sent on it stays unacknowledged.
struct VendorHealth: Sendable {
  /// So long without a stream, or with something unacknowledged and nothing acknowledged, it may last.
  static let patience: Duration = .milliseconds(1500)

  /// What is seen of the way to the vendor app.
  struct Sight: Sendable {
    var isAttached: Bool
    /// The oldest message that is not acknowledged; nil: there is none.
    var oldest: UInt64?
    /// The vendor app has asked for a pause.
    var isPaused: Bool
  }

  private var oldest: UInt64?
  /// Since when nothing has gone on.
  private var since: ContinuousClock.Instant?

  /// Returns whether it can serve.
  mutating func look(_ sight: Sight, at now: ContinuousClock.Instant) -> Bool {
    let isHeldUp =
      !sight.isAttached
      || (sight.oldest != nil && sight.oldest == self.oldest && !sight.isPaused)
    self.oldest = sight.oldest
    guard isHeldUp else {
      self.since = nil
      return true
    }
    let since = self.since ?? now
    self.since = since
    return now - since < VendorHealth.patience
  }
}

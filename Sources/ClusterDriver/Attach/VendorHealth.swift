/// Whether a node can serve: whether the vendor app takes what it sends. A value; whoever looks says when.
///
/// A stream that is open proves nothing while what was sent on it stays unacknowledged.
struct VendorHealth: Sendable {
  /// So long it may last without a stream: one that broke is opened again within it.
  static let patience: Duration = .seconds(1)
  /// So long with something unacknowledged and nothing acknowledged. A vendor app that is slow is so for all
  /// nodes, and more so for those that send much: it is not to look like one that only they do not reach.
  static let slowPatience: Duration = .seconds(3)

  /// What is seen of the way to the vendor app.
  struct Sight: Sendable {
    var isAttached: Bool
    /// By TCP nothing arrived there any more, and it has not been attached to since.
    var isLost = false
    /// The oldest message that is not acknowledged; nil: there is none.
    var oldest: UInt64?
    /// The vendor app has asked for a pause.
    var isPaused: Bool
  }

  private var oldest: UInt64?
  private var detachedSince: ContinuousClock.Instant?
  /// Since when nothing has gone on, though there was a stream.
  private var heldUpSince: ContinuousClock.Instant?

  /// Returns whether it can serve.
  mutating func look(_ sight: Sight, at now: ContinuousClock.Instant) -> Bool {
    let isHeldUp =
      sight.isAttached && sight.oldest != nil && sight.oldest == self.oldest && !sight.isPaused
    self.oldest = sight.oldest
    self.detachedSince = sight.isAttached ? nil : self.detachedSince ?? now
    self.heldUpSince = isHeldUp ? self.heldUpSince ?? now : nil
    if sight.isLost { return false }
    if let since = self.detachedSince { return now - since < VendorHealth.patience }
    return self.heldUpSince.map { now - $0 < VendorHealth.slowPatience } ?? true
  }
}

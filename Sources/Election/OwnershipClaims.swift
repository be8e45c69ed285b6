extension OwnershipMachine {
  /// What is to be claimed in one call, and what that rests on.
  public struct Wanted: Sendable, Hashable {
    /// Whose death it rests on; nil when the ranges are nobody's, or of this very node.
    public var from: StoreCall.Watched?
    /// Members must consent: somebody may act for the ranges by promises.
    public var needsConsent: Bool
    public var ranges: [OwnedRange]
  }

  /// What is to be claimed now, and when to look again. Called whenever something was seen, and at each
  /// wake; what was claimed and not granted comes again with the next call.
  ///
  /// - Parameter isDraining: this node takes only what nobody else can take.
  public func claims(
    watch: PeerWatch, isDraining: Bool, at now: Instant
  ) -> (wanted: [Wanted], nextAt: Instant) {
    guard let quarantineUntil, !isStopping else { return ([], .distantFuture) }
    var ready: [Ground: [OwnedRange]] = [:]
    var nextAt = Instant.distantFuture
    var ranks = Ranks(me: me.node, isDraining: isDraining, watch: watch, at: now)
    for record in table.values {
      let isCurrent = record.store == identity
      if isCurrent, let owner = record.owner {
        // The usual case, and so the first: there is an owner who lives.
        guard let deadAt = owner.node == me.node ? now : watch.deadAt(owner.node) else { continue }
        if now < deadAt {
          nextAt = min(nextAt, deadAt)
          continue
        }
      }
      let epoch = max(record.epoch, floors.floor(of: record.serials))
      let owner = record.owner?.node
      // One's own again, when somebody has seen a higher epoch: controllers refuse the present one.
      if isCurrent, record.owner == me, epoch == record.epoch { continue }
      // A former life's, by the word of this store: its process is gone, and nobody else can have it.
      let isOwn = isCurrent && owner == me.node
      var claimAt = isOwn ? now : quarantineUntil
      if let owner, owner != me.node {
        guard let deadAt = watch.deadAt(owner) else { continue }
        claimAt = max(claimAt, deadAt)
      }
      if owner != me.node { claimAt = claimAt + timing.rankDelay * ranks.mine(record.successors) }
      if now < claimAt {
        nextAt = min(nextAt, claimAt)
        continue
      }
      let from = owner == me.node ? nil : owner
      // Who has given its session back acts no more.
      let isReleased = isCurrent && from.flatMap { watch.session(of: $0) }?.released == true
      ready[Ground(from: from, needsConsent: !isOwn && !isReleased), default: []].append(
        OwnedRange(first: record.first, last: record.last, epoch: epoch))
    }
    let wanted = ready.sorted { $0.key < $1.key }.map { ground, ranges in
      Wanted(
        from: ground.from.map(watch.watched), needsConsent: ground.needsConsent,
        ranges: ranges.sorted { $0.first < $1.first })
    }
    return (wanted, nextAt)
  }
}

private struct Ground: Hashable, Comparable {
  var from: NodeID?
  var needsConsent: Bool

  static func < (a: Self, b: Self) -> Bool {
    (a.from?.name ?? "", a.needsConsent ? 1 : 0) < (b.from?.name ?? "", b.needsConsent ? 1 : 0)
  }
}

/// In which order nodes claim: a range's successors that are alive, then the other members by name,
/// then those that are draining.
private struct Ranks {
  private let me: NodeID
  private let isDraining: Bool
  private let watch: PeerWatch
  private let now: Instant
  /// Members that are alive and take ranges; made when it is first needed.
  private var steady: [NodeID]?
  private var known: [[NodeID]: Int] = [:]

  init(me: NodeID, isDraining: Bool, watch: PeerWatch, at now: Instant) {
    self.me = me
    self.isDraining = isDraining
    self.watch = watch
    self.now = now
  }

  mutating func mine(_ successors: [NodeID]) -> Int {
    if let rank = known[successors] { return rank }
    let steady =
      self.steady
      ?? watch.alive(at: now).filter { !$0.status.draining && $0.status.healthy }.map(\.node)
    self.steady = steady
    let order = successors.filter(steady.contains) + steady.filter { !successors.contains($0) }
    let rank = isDraining ? order.count + 1 : order.firstIndex(of: me) ?? order.count
    known[successors] = rank
    return rank
  }
}

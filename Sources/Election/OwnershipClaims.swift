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
    var ready: SortedMap<Ground, [OwnedRange]> = [:]
    var nextAt = Instant.distantFuture
    var ranks = Ranks(me: me.node, isDraining: isDraining, watch: watch, at: now)
    for i in table.indices {
      // The usual case, and so the first: there is an owner who lives. Told by two fields of the record; a
      // copy of each is what all this would take longest for.
      let isCurrent = table.values[i].store == identity
      if isCurrent, let owner = table.values[i].owner, owner.node != me.node {
        guard let deadAt = watch.deadAt(owner.node) else { continue }
        if now < deadAt {
          nextAt = min(nextAt, deadAt)
          continue
        }
      }
      let record = table.values[i]
      guard let (ground, dueAt) = ground(of: record, quarantineUntil, watch, &ranks, at: now)
      else { continue }
      if now < dueAt {
        nextAt = min(nextAt, dueAt)
      } else {
        ready[ground, default: []].append(
          OwnedRange(first: record.first, last: record.last, epoch: highest(of: record)))
      }
    }
    let wanted = ready.map { ground, ranges in
      Wanted(
        from: ground.from.map(watch.watched), needsConsent: ground.needsConsent, ranges: ranges)
    }
    return (wanted, nextAt)
  }

  /// What a claim of the range rests on, and from when on it may be made; nil: not, as things are.
  private func ground(
    of record: RangeRecord, _ quarantineUntil: Instant, _ watch: PeerWatch, _ ranks: inout Ranks,
    at now: Instant
  ) -> (Ground, dueAt: Instant)? {
    let isCurrent = record.store == identity
    // One's own again, when somebody has seen a higher epoch: controllers refuse the present one.
    if isCurrent, record.owner == me, highest(of: record) == record.epoch { return nil }
    let owner = record.owner?.node
    // A former life's, by the word of this store: its process is gone, and nobody else can have it.
    let isOwn = isCurrent && owner == me.node
    var dueAt = isOwn ? now : quarantineUntil
    if let owner, owner != me.node {
      guard let deadAt = watch.deadAt(owner) else { return nil }
      dueAt = max(dueAt, deadAt)
    }
    if owner != me.node {
      dueAt = dueAt.after(timing.rankDelay, times: ranks.mine(record.successors))
    }
    let from = owner == me.node ? nil : owner
    // Who has given its session back acts no more.
    let isReleased = isCurrent && from.map(watch.isReleased) == true
    return (Ground(from: from, needsConsent: !isOwn && !isReleased), dueAt)
  }

  /// The highest epoch that is known of a range.
  private func highest(of record: RangeRecord) -> Epoch {
    max(record.epoch, floors.floor(of: record.serials))
  }
}

private struct Ground: Comparable {
  var from: NodeID?
  var needsConsent: Bool

  static func < (a: Self, b: Self) -> Bool {
    if a.from == b.from { return !a.needsConsent && b.needsConsent }
    guard let from = a.from, let other = b.from else { return a.from == nil }
    return from < other
  }
}

/// In which order nodes claim: a range's successors that are alive and well, then the other such members by
/// name, then those that are not, and those that are draining.
private struct Ranks {
  private let me: NodeID
  private let isDraining: Bool
  private let watch: PeerWatch
  private let now: Instant
  /// Members that are alive and take ranges, by name; made when it is first needed. When nobody is well,
  /// what all depend on is missing, and one is as good as the other.
  private lazy var steady: [NodeID] = {
    let alive = watch.alive(at: now).filter { !$0.status.draining }
    let well = alive.filter(\.status.healthy)
    return (well.isEmpty ? alive : well).map(\.node)
  }()

  init(me: NodeID, isDraining: Bool, watch: PeerWatch, at now: Instant) {
    self.me = me
    self.isDraining = isDraining
    self.watch = watch
    self.now = now
  }

  mutating func mine(_ successors: [NodeID]) -> Int {
    if isDraining { return steady.count + 1 }
    guard steady.contains(me) else { return steady.count }
    let named = successors.prefix { $0 != me }.count { steady.contains($0) }
    if successors.contains(me) { return named }
    return named + steady.prefix { $0 != me }.count { !successors.contains($0) }
  }
}

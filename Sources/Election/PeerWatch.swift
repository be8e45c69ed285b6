/// Watches the sessions of peers, by this node's clock alone.
///
/// A peer is dead when its session is released, or when what is watched of it has been the same for
/// one TTL. The key's own expiry in the store proves nothing: a session that is missing is a value like
/// any other.
///
/// The time counts from when a value was first seen in the store, or from when the peer itself was heard to be sending
/// it, if that was sooner: what it gives a right to counts from before that.
public struct PeerWatch: Sendable, Equatable {
  private struct Entry: Sendable, Equatable {
    var session: SessionRecord?
    /// When this value was first seen, or heard of.
    var firstSeenAt: Instant
    /// Its newest heartbeat that it was heard to send.
    var announced: Announced?
    /// Since when it says that it can serve, or that it cannot.
    var sameHealthSince: Instant
    /// When it was seen again, in the same life, after it had been dead.
    var backAt: Instant?

    init(session: SessionRecord?, at now: Instant) {
      self.session = session
      firstSeenAt = now
      sameHealthSince = now
    }
  }

  private struct Announced: Sendable, Equatable {
    var value: SessionValue
    var at: Instant
  }

  private let ttl: Duration
  private var entries: SortedMap<NodeID, Entry> = [:]

  public init(ttl: Duration) {
    self.ttl = ttl
  }

  /// Everything that is in the store now. Peers watched before that are not among them are missing.
  /// Returns whether somebody is to be judged otherwise than by the time that passes.
  public mutating func see(_ sessions: [SessionRecord], at now: Instant) -> Bool {
    var isNews = false
    for session in sessions {
      if note(session, of: session.node, at: now) { isNews = true }
    }
    if entries.count > sessions.count {
      for node in entries.keys where !sessions.contains(where: { $0.node == node }) {
        if note(nil, of: node, at: now) { isNews = true }
      }
    }
    return isNews
  }

  /// A node is mentioned as owner or leader; if it has no session, it is missing from now on.
  public mutating func watch(_ node: NodeID, at now: Instant) {
    if !entries.contains(node) { entries[node] = Entry(session: nil, at: now) }
  }

  /// After a change of the store's identity: what was watched is of another store.
  public mutating func forget() {
    entries = [:]
  }

  private mutating func note(
    _ session: SessionRecord?, of node: NodeID, at now: Instant
  ) -> Bool {
    guard let i = entries.index(of: node) else {
      entries[node] = Entry(session: session, at: now)
      return true
    }
    let wasDead = now >= deadAt(at: i)
    return entries.change(at: i) { entry in
      if entry.session?.value != session?.value {
        let isSameLife = entry.session?.value.incarnation == session?.value.incarnation
        if wasDead && isSameLife { entry.backAt = now }
        entry.firstSeenAt = now
        if let announced = entry.announced, announced.value == session?.value {
          entry.firstSeenAt = announced.at
        }
      }
      if entry.session?.status.healthy != session?.status.healthy { entry.sameHealthSince = now }
      let isNews =
        entry.session?.released != session?.released || entry.session?.status != session?.status
        || entry.session?.value.incarnation != session?.value.incarnation
      entry.session = session
      return isNews
    }
  }

  /// A peer says that it is sending the heartbeat of that counter.
  public mutating func heard(_ peer: Owner, counter: UInt64, at now: Instant) {
    guard let i = entries.index(of: peer.node) else { return }
    let value = SessionValue(peer.incarnation, counter)
    entries.change(at: i) { entry in
      // Messages overtake one another.
      if let former = entry.announced?.value, former.incarnation == value.incarnation,
        former.counter >= counter
      {
        return
      }
      entry.announced = Announced(value: value, at: now)
    }
  }

  public func session(of node: NodeID) -> SessionRecord? { entries[node]?.session }

  /// Those there are, dead or alive, by name.
  public var sessions: [SessionRecord] { entries.values.compactMap(\.session) }

  /// What a claim from the node has to name.
  public func watched(_ node: NodeID) -> StoreCall.Watched {
    StoreCall.Watched(node, entries.index(of: node).flatMap { entries.values[$0].session?.value })
  }

  /// It has given its session back.
  public func isReleased(_ node: NodeID) -> Bool {
    entries.index(of: node).map(isReleased(at:)) ?? false
  }

  private func isReleased(at i: Int) -> Bool { entries.values[i].session?.released == true }

  /// When the node is dead, if nothing is seen of it until then; nil when it was never seen.
  public func deadAt(_ node: NodeID) -> Instant? { entries.index(of: node).map(deadAt(at:)) }

  /// When its newest heartbeat that was seen was first seen, or heard of; nil when it was never seen.
  public func beatAt(_ node: NodeID) -> Instant? {
    entries.index(of: node).map { entries.values[$0].firstSeenAt }
  }

  private func deadAt(at i: Int) -> Instant {
    isReleased(at: i) ? entries.values[i].firstSeenAt : entries.values[i].firstSeenAt + ttl
  }

  public func isDead(_ node: NodeID, at now: Instant) -> Bool {
    deadAt(node).map { now >= $0 } ?? false
  }

  /// Has a session that is not dead.
  public func isAlive(_ node: NodeID, at now: Instant) -> Bool {
    entries.index(of: node).map { isAlive($0, at: now) } ?? false
  }

  private func isAlive(_ i: Int, at now: Instant) -> Bool {
    now < deadAt(at: i) && entries.values[i].session != nil
  }

  /// Those that have a session which is not dead, by name.
  public func alive(at now: Instant) -> [SessionRecord] {
    entries.indices.compactMap { isAlive($0, at: now) ? entries.values[$0].session : nil }
  }

  /// Their names, without this one.
  public func nodesAlive(at now: Instant, but node: NodeID) -> [NodeID] {
    var nodes: [NodeID] = []
    nodes.reserveCapacity(entries.count)
    for i in entries.indices where isAlive(i, at: now) && entries.keys[i] != node {
      nodes.append(entries.keys[i])
    }
    return nodes
  }

  /// Those that were dead until less than `settle` ago, by name. The heartbeat that shows one may have been on its way
  /// for as long, and say what was so when it was sent.
  public func justBack(at now: Instant, settle: Duration) -> [NodeID] {
    entries.indices.filter { entries.values[$0].backAt.map { now < $0 + settle } ?? false }
      .map { entries.keys[$0] }
  }

  // MARK: Health

  /// Those alive that have said for `illFor` that they cannot serve, while somebody else has said for
  /// `wellFor` that it can; by name.
  ///
  /// What all depend on, such as the vendor app, fails for all of them, and comes back for all of them, but not
  /// for all in the same instant. Ranges that are moved in between go to those who are no better off, or from
  /// those who are well again. That it fails all notice soon, that it is back they find out one by one.
  public func unhealthy(at now: Instant, illFor: Duration, wellFor: Duration) -> [NodeID] {
    var unhealthy: [NodeID] = []
    var isSomebodyWell = false
    for i in entries.indices where isAlive(i, at: now) {
      let entry = entries.values[i]
      guard let session = entry.session else { continue }
      let isHealthy = session.status.healthy
      guard now >= entry.sameHealthSince + (isHealthy ? wellFor : illFor) else { continue }
      if isHealthy { isSomebodyWell = true } else { unhealthy.append(session.node) }
    }
    return isSomebodyWell ? unhealthy : []
  }

  /// When time alone will change that; the distant future when it will not.
  public func healthCountsAt(after now: Instant, illFor: Duration, wellFor: Duration) -> Instant {
    var next = entries.values.compactMap(\.backAt).map { $0 + illFor }
    if entries.values.contains(where: { $0.session?.status.healthy == false }) {
      next += entries.values.map { entry in
        entry.sameHealthSince + (entry.session?.status.healthy == false ? illFor : wellFor)
      }
    }
    return next.filter { $0 > now }.min() ?? .distantFuture
  }
}

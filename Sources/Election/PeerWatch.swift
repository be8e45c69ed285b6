/// Watches the sessions of peers, by this node's clock alone.
///
/// A peer is dead when its session is released, or when what is watched of it has been the same for
/// one TTL. The key's own expiry in the store proves nothing: a session that is missing is a value like
/// any other.
public struct PeerWatch: Sendable, Equatable {
  private struct Entry: Sendable, Equatable {
    let node: NodeID
    var session: SessionRecord?
    /// When this value was first seen.
    var firstSeenAt: Instant
  }

  private let ttl: Duration
  /// By node. A cluster has few: to look through them is quicker than to hash.
  private var entries: [Entry] = []

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
      for node in entries.map(\.node) where !sessions.contains(where: { $0.node == node }) {
        if note(nil, of: node, at: now) { isNews = true }
      }
    }
    return isNews
  }

  /// A node is mentioned as owner or leader; if it has no session, it is missing from now on.
  public mutating func watch(_ node: NodeID, at now: Instant) {
    if entry(of: node) == nil { add(Entry(node: node, session: nil, firstSeenAt: now)) }
  }

  /// After a change of the store's identity: what was watched is of another store.
  public mutating func forget() {
    entries = []
  }

  private func entry(of node: NodeID) -> Entry? { entries.first { $0.node == node } }

  private mutating func add(_ entry: Entry) {
    entries.insert(entry, at: entries.firstIndex { entry.node < $0.node } ?? entries.count)
  }

  private mutating func note(
    _ session: SessionRecord?, of node: NodeID, at now: Instant
  ) -> Bool {
    guard let i = entries.firstIndex(where: { $0.node == node }) else {
      add(Entry(node: node, session: session, firstSeenAt: now))
      return true
    }
    let old = entries[i]
    if old.session?.value != session?.value { entries[i].firstSeenAt = now }
    entries[i].session = session
    return old.session?.released != session?.released || old.session?.status != session?.status
      || old.session?.value.incarnation != session?.value.incarnation
  }

  public func session(of node: NodeID) -> SessionRecord? { entry(of: node)?.session }

  /// Those there are, dead or alive, by name.
  public var sessions: [SessionRecord] { entries.compactMap(\.session) }

  /// What a claim from the node has to name.
  public func watched(_ node: NodeID) -> StoreCall.Watched {
    StoreCall.Watched(node, entry(of: node)?.session?.value)
  }

  /// When the node is dead, if nothing is seen of it until then; nil when it was never seen.
  public func deadAt(_ node: NodeID) -> Instant? {
    guard let entry = entry(of: node) else { return nil }
    return entry.session?.released == true ? entry.firstSeenAt : entry.firstSeenAt + ttl
  }

  public func isDead(_ node: NodeID, at now: Instant) -> Bool {
    deadAt(node).map { now >= $0 } ?? false
  }

  /// Has a session that is not dead.
  public func isAlive(_ node: NodeID, at now: Instant) -> Bool {
    entry(of: node)?.session != nil && !isDead(node, at: now)
  }

  /// Those that have a session which is not dead, by name.
  public func alive(at now: Instant) -> [SessionRecord] {
    entries.compactMap(\.session).filter { isAlive($0.node, at: now) }
  }
}

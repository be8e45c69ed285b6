/// What members promise each other and what they consent to, so that a node may go on owning while the
/// store is away (Docs/OWNERSHIP.md, Failsafe).
///
/// Holding takes the promises of N − f of the N listed members, claiming the consent of f + 1, each
/// time with the node itself counted. Any two such sets share a member, and a member that has consented
/// against a node promises it nothing until that node's session has moved.
public struct FailsafeMachine: Sendable, Equatable {
  /// "Until P have passed on your clock, do not claim what is mine." Or, as a probe, "Do I hear you?", upon which
  /// nothing is promised.
  public struct PromiseRequest: Sendable, Hashable {
    public var asker: Owner
    /// Of the asker's round of questions; comes back with the answer.
    public var round: UInt64
    /// What the asker knows of the store.
    public var identity: StoreIdentity
    public var version: UInt64
    public var isProbe: Bool

    public init(
      asker: Owner, round: UInt64, identity: StoreIdentity, version: UInt64, isProbe: Bool = false
    ) {
      self.asker = asker
      self.round = round
      self.identity = identity
      self.version = version
      self.isProbe = isProbe
    }
  }

  /// "Is there a promise of yours to this node, or may I claim from it?"
  public struct ConsentRequest: Sendable, Hashable {
    public var asker: Owner
    public var identity: StoreIdentity
    /// Nil for what is nobody's, or the asker's own, by the word of a store that is no more.
    public var against: StoreCall.Watched?

    public init(asker: Owner, identity: StoreIdentity, against: StoreCall.Watched?) {
      self.asker = asker
      self.identity = identity
      self.against = against
    }
  }

  private struct Sight: Sendable, Equatable {
    var value: SessionValue?
    /// Nothing is promised while the value is this one.
    var consentedAgainst: SessionValue??
  }

  private struct Peer: Sendable, Equatable {
    /// As last seen in the present store; nil when it was not.
    var sight: Sight?
    /// Number of the member list that its session has shown at the highest, in any store.
    var listKnown: UInt64?
    /// It has met the present store.
    var hasMet = false
    /// By this node.
    var promisedUntil: Instant?
    /// When the newest of my questions that it answered with a promise was asked.
    var promisedAskedAt: Instant?
    /// The newest of my rounds of this outage that it was heard to answer.
    var heardRound: UInt64?

    /// Who is first seen counts as consented against: what this node's former life has consented to is
    /// not known.
    mutating func note(_ value: SessionValue?) {
      guard var sight else {
        self.sight = Sight(value: value, consentedAgainst: .some(value))
        return
      }
      sight.value = value
      if let against = sight.consentedAgainst, against != value { sight.consentedAgainst = nil }
      self.sight = sight
    }
  }

  private let timing: Timing
  /// Members whose promise a holder can do without.
  public let tolerance: Int
  private let me: NodeID

  private var peers: SortedMap<NodeID, Peer> = [:]
  private var round: UInt64 = 0
  private var roundAskedAt: Instant?

  /// - Parameters:
  ///   - tolerance: f, 0 … 3.
  ///   - listKnown: what this node's former life knew of that.
  public init(
    me: NodeID, tolerance: Int, timing: Timing, listKnown: SortedMap<NodeID, UInt64> = [:]
  ) {
    precondition((0...3).contains(tolerance), "a tolerance of \(tolerance) is not among 0 … 3")
    self.me = me
    self.tolerance = tolerance
    self.timing = timing
    for (node, number) in listKnown { peers[node] = Peer(listKnown: number) }
  }

  /// Number of the member list that each peer's session has shown at the highest, in any store.
  public var listKnown: SortedMap<NodeID, UInt64> {
    SortedMap(peers.lazy.compactMap { node, peer in peer.listKnown.map { (node, $0) } })
  }

  // MARK: What the store shows

  /// The sessions in the store now; those not among them are missing.
  public mutating func see(_ sessions: [SessionRecord], in identity: StoreIdentity) {
    for session in sessions where session.node != me {
      change(session.node) {
        $0.note(session.value)
        $0.listKnown = max(session.list, $0.listKnown ?? 0)
        if session.knows == identity { $0.hasMet = true }
      }
    }
    if peers.count > sessions.count - 1 {
      for (i, node) in peers.keys.enumerated()
      where peers.values[i].sight != nil && !sessions.contains(where: { $0.node == node }) {
        peers.change(at: i) { $0.note(nil) }
      }
    }
  }

  private mutating func change(_ node: NodeID, _ body: (inout Peer) -> Void) {
    if let i = peers.index(of: node) { return peers.change(at: i, body) }
    var peer = Peer()
    body(&peer)
    peers[node] = peer
  }

  private func sight(of node: NodeID) -> Sight? { peers[node]?.sight }

  /// A peer that is remembered as owner and has no session.
  public mutating func mention(_ node: NodeID) {
    if node != me, sight(of: node) == nil { change(node) { $0.note(nil) } }
  }

  /// The store is another one: what was seen, and what others have promised who know the former one,
  /// says nothing of it. What this node has promised it keeps.
  public mutating func meetStore() {
    for i in peers.indices {
      peers.change(at: i) {
        $0.sight = nil
        $0.hasMet = false
      }
    }
    storeAnswered()
  }

  // MARK: Asked by others

  /// Whether a promise is given. The caller has made sure that both know the same store. Who was taken off
  /// the list is promised nothing: it would not learn of it.
  public mutating func promise(to asker: NodeID, list: MemberList, at now: Instant) -> Bool {
    guard asker != me, list.added[asker] != nil, let sight = sight(of: asker),
      sight.consentedAgainst == nil
    else { return false }
    let until = now + timing.promise
    change(asker) { $0.promisedUntil = until }
    return true
  }

  /// Whether this member consents to a claim. Asked by peers, and for claims of its own. The caller has
  /// made sure that it has known the present store for a TTL: its promises to those that know another
  /// one only have run out, and it gives none.
  ///
  /// - Parameter against: the session of the one it is claimed from; nil when there is none.
  public mutating func consent(
    against: StoreCall.Watched?, list: MemberList, at now: Instant
  ) -> Bool {
    // Who was added with a list that another does not know yet is not among those that one counts on.
    guard let added = list.added[me],
      list.added.keys.allSatisfy({ $0 == me || isCountedOn(by: $0, since: added) })
    else { return false }
    guard let against else { return true }
    guard against.node != me, let peer = peers[against.node], added <= peer.listKnown ?? added,
      let sight = peer.sight, sight.value == against.value,
      now >= peer.promisedUntil ?? now
    else { return false }
    change(against.node) { $0.sight?.consentedAgainst = .some(sight.value) }
    return true
  }

  /// Whether the member is known to know a list on which this node is.
  private func isCountedOn(by member: NodeID, since added: UInt64) -> Bool {
    let peer = peers[member]
    return peer?.hasMet == true || added <= peer?.listKnown ?? 0
  }

  // MARK: Asking

  /// Begins a round of questions to all listed members; returns its number.
  public mutating func ask(at now: Instant) -> UInt64 {
    round += 1
    roundAskedAt = now
    return round
  }

  /// What the store confirms reaches further than any promise that was asked for before.
  public mutating func storeAnswered() {
    guard roundAskedAt != nil else { return }
    roundAskedAt = nil
    for i in peers.indices {
      peers.change(at: i) {
        $0.promisedAskedAt = nil
        $0.heardRound = nil
      }
    }
  }

  /// Rounds of which one must have been answered.
  private static let heardWithin: UInt64 = 2

  /// Whether the member was heard lately. Of another a promise is of no use, as its answer would not be heard
  /// either: it would only keep others from claiming what this node has stopped acting for.
  public func isHeard(_ member: NodeID) -> Bool {
    peers[member]?.heardRound.map { $0 + FailsafeMachine.heardWithin >= round } ?? false
  }

  /// A member was heard to answer that round. Returns whether that is news of the present one: then it is asked
  /// for its promise now.
  public mutating func heard(_ member: NodeID, round: UInt64) -> Bool {
    guard roundAskedAt != nil, round <= self.round else { return false }
    let before = peers[member]?.heardRound
    guard before.map({ $0 < round }) ?? true else { return false }
    change(member) { $0.heardRound = round }
    return round == self.round
  }

  /// A member has promised, in answer to that round. An answer to an earlier one is left out: it
  /// would have to be counted from its own asking, and the newer one will come.
  public mutating func promised(by member: NodeID, round: UInt64) {
    guard round == self.round, let roundAskedAt else { return }
    change(member) { $0.promisedAskedAt = roundAskedAt }
  }

  /// Until when the node may act by promises: the latest instant for which those of N − f count. Nil
  /// when there are not so many, or the node is not listed.
  public func deadline(list: MemberList) -> Instant? {
    guard let roundAskedAt, list.added[me] != nil else { return nil }
    // Its own promise is as new as its newest question.
    var askedAt: [Instant] = []
    askedAt.reserveCapacity(list.added.count)
    for node in list.added.keys {
      if let at = node == me ? roundAskedAt : peers[node]?.promisedAskedAt { askedAt.append(at) }
    }
    let needed = max(list.added.count - tolerance, 1)
    guard askedAt.count >= needed else { return nil }
    askedAt.sort(by: >)
    return askedAt[needed - 1] + (timing.promise - timing.margin)
  }

  /// Consents that a claim takes, the claimer's own among them.
  public func consentsNeeded(list: MemberList) -> Int { min(tolerance + 1, list.added.count) }
}

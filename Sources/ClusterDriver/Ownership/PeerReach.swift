import Election

/// Whether a node is on the smaller side of a cut between nodes that all reach Redis. A value; whoever looks
/// says when.
///
/// A peer is out of reach when its heartbeats go on, by Redis, after nothing was heard of it itself for a while. A
/// node that has so many of them out of reach that with those it reaches it is the smaller part, or as large a part
/// without the first name of all, is apart: its controllers are better off with the others. Of two parts that
/// are whole in themselves and cut from each other one is apart and the other is not, without a word between them.
struct PeerReach: Sendable {
  /// A peer that is well is heard of every 250 ms (`PeerLinks`).
  static let quietAfter: Duration = .milliseconds(500)
  /// So long after it was found quiet a heartbeat must have been seen: one that it sent before it died is seen
  /// sooner.
  static let provenAfter: Duration = .milliseconds(300)
  /// A peer that has just begun is connected to by then; what was heard may have been of the life before.
  static let knownAfter: Duration = .milliseconds(1500)
  /// So long a node that was apart must not be before it counts as one of the others again.
  static let settle: Duration = .seconds(2)
  /// With more than these, those that are not alive are forgotten.
  private static let absentMax = 256

  struct Sight: Sendable {
    var node: NodeID
    var incarnation: Incarnation
    /// When its newest heartbeat was first seen.
    var beatAt: Instant
    /// Since something was heard of it; nil: that is not known.
    var silence: Duration?
  }

  private struct Peer: Sendable {
    var incarnation: Incarnation
    var since: Instant
    /// In this life of its. One that never was may be told its address wrongly.
    var wasHeard = false
    var quietSince: Instant?
    /// It was alive when last looked.
    var isHere = true
  }

  private var peers: [NodeID: Peer] = [:]
  private var wasApartAt: Instant?
  private(set) var unreached: Set<NodeID> = []
  /// Since there are any.
  private(set) var unreachedSince: Instant?
  private(set) var isApart = false

  /// - Parameter sights: of the peers that are alive.
  mutating func look(_ me: NodeID, _ sights: [Sight], at now: Instant) {
    // One that is taken for dead and comes back is the one that was heard before.
    var present = self.peers.count <= PeerReach.absentMax ? self.peers : [:]
    for node in present.keys { present[node]!.isHere = false }
    self.unreached = []
    for sight in sights {
      var peer = self.peers[sight.node] ?? Peer(incarnation: sight.incarnation, since: now)
      if peer.incarnation != sight.incarnation {
        peer = Peer(incarnation: sight.incarnation, since: now)
      }
      if !peer.isHere {
        peer.isHere = true
        peer.since = now
        peer.quietSince = nil
      }
      let isQuiet = sight.silence.map { $0 >= PeerReach.quietAfter } ?? false
      if sight.silence != nil, !isQuiet { peer.wasHeard = true }
      peer.quietSince = isQuiet ? peer.quietSince ?? now : nil
      if let since = peer.quietSince, peer.wasHeard, now >= peer.since + PeerReach.knownAfter,
        sight.beatAt >= since + PeerReach.provenAfter
      {
        self.unreached.insert(sight.node)
      }
      present[sight.node] = peer
    }
    self.peers = present
    self.unreachedSince = self.unreached.isEmpty ? nil : self.unreachedSince ?? now
    let reached = sights.map(\.node).filter { !self.unreached.contains($0) } + [me]
    if self.isOutnumbered(reached) {
      self.wasApartAt = now
      self.isApart = true
    } else if let at = self.wasApartAt, now >= at + PeerReach.settle {
      self.wasApartAt = nil
      self.isApart = false
    }
  }

  private func isOutnumbered(_ reached: [NodeID]) -> Bool {
    guard let first = self.unreached.min(), let mine = reached.min() else { return false }
    return self.unreached.count > reached.count
      || (self.unreached.count == reached.count && first < mine)
  }
}

extension PeerReach {
  /// Those alive beside this node.
  static func sights(
    _ view: OwnershipView, silences: [NodeID: Duration], at now: Instant
  ) -> [Sight] {
    view.peers.alive(at: now).compactMap { session in
      guard session.node != view.me.node, let beatAt = view.peers.beatAt(session.node) else {
        return nil
      }
      return Sight(
        node: session.node, incarnation: session.value.incarnation, beatAt: beatAt,
        silence: silences[session.node])
    }
  }
}

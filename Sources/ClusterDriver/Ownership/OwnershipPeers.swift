package import Election

/// The way to a node's peers. Any thread; nothing here blocks.
protocol OwnershipPeers: Sendable {
  /// Where each is reached from now on.
  func reach(_ places: PeerPlaces)
  /// `tell` is called once if the peer answers, and never else: to a node that is silent is one that
  /// refuses.
  func ask(
    _ node: NodeID, _ question: NodeMachine.Question,
    tell: @escaping @Sendable (NodeMachine.Answer) -> Void)
  /// Tells it to look into the store.
  func nudge(_ node: NodeID)
  /// Tells them that this node is sending the heartbeat of that counter.
  func announce(_ me: Owner, counter: UInt64, to nodes: [NodeID])
}

/// Where the nodes of the cluster are reached, and whether they serve, as each said when it was last
/// seen. What was said once is kept while Redis is away, and when it has lost everything: then it is
/// needed most.
package struct PeerPlaces: Sendable, Equatable {
  package struct Place: Sendable, Equatable {
    /// `host:port`; empty: nowhere.
    package var controllersAt: String
    package var peersAt: String
    /// It can serve, and is not being emptied.
    package var serves = true
  }

  /// Nodes remembered at most; none is forgotten before that.
  static let placesMax = 1024

  package private(set) var places: [NodeID: Place] = [:]
  /// Grows with every change.
  package private(set) var version: UInt64 = 0

  /// True: somebody is reached elsewhere than before, or serves now, or does not any more.
  mutating func see(_ sessions: [SessionRecord]) -> Bool {
    var isNews = false
    for session in sessions {
      let place = Place(
        controllersAt: session.status.controllersAt, peersAt: session.status.peersAt,
        serves: session.status.healthy && !session.status.draining)
      guard self.places[session.node] != place else { continue }
      if self.places.count >= PeerPlaces.placesMax, self.places[session.node] == nil {
        let present = Set(sessions.map(\.node))
        self.places = self.places.filter { present.contains($0.key) }
      }
      self.places[session.node] = place
      isNews = true
    }
    if isNews { self.version += 1 }
    return isNews
  }
}

/// A cluster as one of its nodes sees it.
package struct OwnershipView: Sendable {
  package var me: Owner
  /// Of the store, that anything in it is from.
  package var version: UInt64
  /// Everything the store has, as last seen.
  package var table: SortedMap<Serial, RangeRecord>
  package var identity: StoreIdentity?
  package var acting: [OwnedRange]
  package var validUntil: Instant?
  package var role: LeaderMachine.Role
  package var leader: LeaderRecord?
  package var list: MemberList
  /// Who lives, by this node's clock.
  package var peers: PeerWatch
  package var actsByPromises: Bool
  package var places: PeerPlaces
  /// An operator has had balancing paused.
  package var isPaused: Bool
  private let machine: NodeMachine

  var isLeading: Bool { if case .leading = self.role { true } else { false } }

  init(_ machine: NodeMachine, _ places: PeerPlaces) {
    self.me = machine.me
    self.table = machine.ownership.table
    self.identity = machine.ownership.identity
    self.acting = machine.acting
    self.validUntil = machine.validUntil
    self.role = machine.role
    self.leader = machine.leader
    self.list = machine.list
    self.peers = machine.peers
    self.actsByPromises = machine.actsByPromises(at: .now)
    self.places = places
    self.version = machine.ownership.newest
    self.isPaused = machine.isPaused
    self.machine = machine
  }

  /// What a leader that sees this will move, most urgent first. Takes milliseconds with thousands of ranges.
  package func plannedMoves(at now: Instant) -> [Planner.Move] {
    self.machine.plannedMoves(at: now)
  }

  /// How long those take, and what is under way before them, with moves of this length.
  package func movingTime(of moves: [Planner.Move], length: Duration) -> Duration {
    self.machine.movingTime(of: moves, length: length)
  }
}

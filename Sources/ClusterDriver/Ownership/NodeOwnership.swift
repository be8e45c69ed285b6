import DriverProtocol
import Election

/// What says for which controllers a node acts. Any thread, unless a function says otherwise.
protocol NodeOwnership: Sendable {
  /// Lowest and highest epoch in force; nil: the node acts for nobody.
  var epochs: ClosedRange<UInt64>? { get }
  /// How the cluster looks from here; nil for a node that is none's.
  var view: OwnershipView? { get }
  /// What has changed in it; nil for a node that is none's.
  var history: OwnershipHistory? { get }
  /// Of the loops behind it.
  var beats: [Beat] { get }

  /// From now on controllers are welcomed, as far as they are this node's.
  func begin()
  /// Controllers, or the vendor app for them, have seen these epochs.
  func seen(_ reports: [SoleOwnership.Report])
  /// Lets time pass, on the event thread. Returns when it is to be called next.
  func tick() -> ContinuousClock.Instant?
  /// Counts what the node's controllers cost it. BLOCKS on the controllers' threads, for seconds at most. False:
  /// of some it is not known yet, and to be counted again soon.
  func survey() -> Bool
  /// What the node has is moved to the others, and nothing given to it; or that is taken back.
  func drain(_ isDraining: Bool)
  /// Whether the node can serve. Of one that cannot, the leader moves what it has to those who can.
  func serves(_ isHealthy: Bool)
  /// Looks whether the node is apart: most of the others are alive and not reached from here. What it has is moved
  /// to those then.
  func lookAtPeers()
  /// It is apart, and there are others that serve: controllers are better off there.
  var isApart: Bool { get }
  /// The way to the other nodes for an operator; nil for a node that is none's.
  var peers: (any NodePeers)? { get }
  /// What the other nodes may ask of this one for an operator.
  func serve(_ desk: NodeDesk)
  /// What an operator wants of the whole cluster; what it has come to shows in a later view.
  func order(_ order: OperatorOrder)
  /// Reads the files of Redis' TLS for the connections to come. BLOCKS on the disk. Throws what is wrong
  /// with them; then the former ones stay.
  func renewTLS() throws
  /// Nothing more is taken up.
  func stop()
  /// Results the vendor app has not acknowledged go to peers that tell it. BLOCKS, a second at most.
  /// Returns how many were taken.
  func handOver(_ results: [Clusterdriver_V1_CommandResult]) -> Int
  /// All work has ended: gives back what is held, and waits for that. BLOCKS, a second at most.
  func finish()
  /// Ends what lies behind it. BLOCKS, for seconds at most.
  func close()
}

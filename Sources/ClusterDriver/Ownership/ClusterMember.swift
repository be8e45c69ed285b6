import CSystem
import DriverProtocol
package import Election
package import Logging
package import RedisLink

/// A node's membership in its cluster, put together: the ownership loop, its store in Redis, the way to
/// its peers and theirs to it, and what it keeps over its lives.
///
/// Begins with `start`; ends with `close`, which gives nothing back: that is `happened(.stop)` and, when
/// all work has ended, `happened(.workEnded)`, after which the handlers hear `.stopped`.
package final class ClusterMember: Sendable {
  package struct Settings: Sendable {
    package var node: NodeID
    /// Of the node's present life; raised above the former one's if that is known to be higher.
    package var incarnation: Incarnation
    package var redis: RedisURL
    /// Whose store it is: clusters share a Redis without touching each other.
    package var cluster = "main"
    package var timing: Timing
    /// f of the failsafe, 0 … 3.
    package var tolerance = 0
    package var limits = LeaderDuties.Limits()
    package var status = MemberStatus()
    /// Where peers are listened to; port 0 = any free one.
    package var peersBind: HostPort
    /// The host under which peers reach it.
    package var peersHost: String
    /// Nil: nothing is kept over lives.
    package var stateFile: String?

    package init(
      node: NodeID, incarnation: Incarnation, redis: RedisURL, timing: Timing,
      peersBind: HostPort, peersHost: String
    ) {
      self.node = node
      self.incarnation = incarnation
      self.redis = redis
      self.timing = timing
      self.peersBind = peersBind
      self.peersHost = peersHost
    }
  }

  package let me: Owner
  /// What it says of itself at first.
  package let status: MemberStatus
  private let redis: RedisLink
  private let loop: OwnershipLoop
  private let links: PeerLinks
  private let server: PeerServer

  /// Reaches for Redis and listens for peers. Neither Redis nor any peer has to be there; what throws is
  /// a port that is taken or a state file that cannot be written.
  package convenience init(
    _ settings: Settings, log: Logger, handlers: OwnershipLoop.Handlers
  ) throws {
    try self.init(settings, commands: nil, log: log, handlers: handlers)
  }

  /// - Parameter commands: where commands go that peers pass on; nil: none are taken.
  init(
    _ settings: Settings, commands: CommandPipeline?, log: Logger, handlers: OwnershipLoop.Handlers
  ) throws {
    let memory = try settings.stateFile.map {
      try MemoryKeeper(path: $0, incarnation: settings.incarnation, log: log)
    }
    let me = Owner(settings.node, memory?.incarnation ?? settings.incarnation)
    let redis = try RedisLink(
      settings.redis,
      options: RedisStore.linkOptions(
        cluster: settings.cluster, timeout: settings.timing.callTimeout))
    let links = PeerLinks(me: me.node, log: log)
    let server = try PeerServer(
      address: settings.peersBind, me: me.node, commands: commands, log: log)
    var status = settings.status
    status.peersAt = HostPort(host: settings.peersHost, port: try server.port()).description
    self.loop = OwnershipLoop(
      NodeMachine(
        me: me, timing: settings.timing, tolerance: settings.tolerance,
        memory: memory?.memory ?? NodeMachine.Memory(), limits: settings.limits),
      status: status,
      store: RedisStore(
        link: redis, cluster: settings.cluster, timeout: settings.timing.callTimeout),
      peers: links, memory: memory, log: log, handlers: handlers)
    self.me = me
    self.status = status
    self.redis = redis
    self.links = links
    self.server = server
  }

  /// The way for commands to the other nodes.
  var commandPeers: any CommandPeers { self.links }

  /// The way to the other nodes for an operator.
  var nodePeers: any NodePeers { self.links }

  /// For how long nothing has been heard of each of the other nodes that are connected to.
  var silences: [NodeID: Duration] { self.links.silences }

  /// What peers may ask of this node for an operator.
  func serve(_ desk: NodeDesk) { self.server.serve(desk) }

  /// Results the vendor app has not acknowledged go to peers. BLOCKS, a second at most. Returns how many
  /// were taken.
  func handOver(_ results: [Clusterdriver_V1_CommandResult]) -> Int {
    self.links.handOver(results, within: .seconds(1))
  }

  package func start() {
    self.server.serve(self.loop)
    self.loop.start()
  }

  /// Any thread; does not block.
  package func happened(_ event: NodeMachine.Event) { self.loop.happened(event) }

  /// Everything here that moves by itself.
  var beats: [Beat] {
    [
      Beat("the ownership thread", self.loop.progress),
      Beat("the lease's Redis thread", self.redis.turns),
      Beat("the thread that serves peers", self.server.turns),
    ] + self.links.beats
  }

  /// Reads the files of Redis' TLS for the connections to come. BLOCKS on the disk. Throws what is wrong
  /// with them; then the former ones stay.
  func renewTLS() throws { try self.redis.renewTLS() }

  /// Ends the threads. BLOCKS for up to some seconds.
  package func close() {
    self.server.close()
    self.loop.close()
    self.links.close()
    self.redis.close()
  }
}

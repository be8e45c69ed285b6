import CSystem
import DriverProtocol
import Election
import GRPCNGHTTP2
import Glibc
import Logging
import Synchronization

/// One node, put together: the controller layer below, the vendor app and Redis above, the event and
/// the command pipeline between them. Decides nothing itself.
final class Node: Sendable {
  typealias VendorLink = AttachLink<NGHTTP2ClientTransport>

  enum State: String, Sendable {
    case starting, serving, stopping
  }

  let config: NodeConfiguration
  let identity: VendorLink.Identity
  let startedAt = Moment.now()
  let layer: ControllerLayer
  let outbox: Outbox
  let commands: CommandPipeline
  let ownership: any NodeOwnership
  let tail: TailHub
  let link: VendorLink
  private let vendor: NGHTTP2ClientTransport
  /// Nil with `memory:`.
  let redis: RedisDoor?
  let mailbox: Mailbox?
  let taker: EventTaker
  let logQueue: LogQueue
  private let log: Logger
  private let changing = Mutex(
    (
      state: State.starting, eventsPerSecond: 0.0,
      look: (health: Health.alive, at: ContinuousClock.now)
    ))
  private let refusedReload = Mutex<String?>(nil)
  private let poolProbe = PoolProbe()

  /// Binds the controllers' port, and reaches for Redis. Nothing is served yet.
  init(_ config: NodeConfiguration, log: NodeLog) throws {
    let settings = CommandMachine.Settings()
    let parking = try Parking.of(
      config, environment: ProcessEnvironment.variables, pid: getpid())
    let layer = try ControllerLayer(config.layer, parking: parking)
    let outbox = Outbox(bytesMax: config.inFlightBytes)
    let name = config.nodeName(boundPort: layer.port, hostname: hostName())
    let commands = CommandPipeline(
      layer: layer, outbox: outbox, log: log.logger("commands"), settings: settings,
      me: config.redis == .memory ? nil : NodeID(name))
    let ownership: any NodeOwnership
    var incarnation = csys_clock_realtime()
    var mailbox: Mailbox?
    if case .server(let url) = config.redis {
      let keeper = try ClusterKeeper(
        config.membership(
          of: name, incarnation: incarnation, redis: url, boundPort: layer.port,
          hostname: hostName(), environment: ProcessEnvironment.variables),
        layer: layer, commands: commands, log: log.logger("ownership"))
      ownership = keeper
      incarnation = keeper.incarnation
      let box = try Mailbox(
        url: url, cluster: config.cluster,
        owner: Owner(NodeID(name), Incarnation(incarnation)), commands: commands, outbox: outbox,
        log: log.logger("mailbox"))
      keeper.follow { box.happened(.acting($0)) }
      mailbox = box
    } else {
      ownership = SoleKeeper(layer: layer, log: log.logger("ownership"))
    }
    let identity = VendorLink.Identity(
      nodeID: name, incarnation: incarnation, version: NodeVersion.current)
    let vendor = try VendorTransport(config.vendor)
    let link = VendorLink(
      transport: vendor.transport, identity: identity, outbox: outbox,
      handlers: VendorLink.Handlers(
        layer: layer, commands: commands, ownership: ownership, mailbox: mailbox),
      log: log.logger("vendor"))
    // Weak: the link holds the transport, and the transport this.
    vendor.events.handle { [weak link] event in
      if case .unanswered = event { link?.unanswered() }
      if let why = event.failure { link?.unreachable(why) }
    }
    var redis: RedisDoor?
    if case .server(let url) = config.redis {
      redis = try RedisDoor(
        url: url, channelsMax: config.connectionsMax, grace: settings.grace, commands: commands,
        bell: mailbox.map { box in
          RedisDoor.MailBell(
            channel: MailboxStore.bell(cluster: config.cluster),
            rang: { box.happened(.rang($0)) }, listening: { box.happened(.listening) })
        },
        log: log.logger("redis"))
    }
    let tail = TailHub()
    self.taker = EventTaker(
      EventTaker.Parts(
        layer: layer, outbox: outbox, commands: commands, ownership: ownership, tail: tail,
        sessions: { [redis, mailbox] changes in
          if !changes.isEmpty { mailbox?.happened(.sessions(changes)) }
          return redis?.sessions(changes)
        }, log: log.logger("events")))
    self.config = config
    self.identity = identity
    self.layer = layer
    self.outbox = outbox
    self.commands = commands
    self.ownership = ownership
    self.tail = tail
    self.link = link
    self.vendor = vendor.transport
    self.redis = redis
    self.mailbox = mailbox
    self.logQueue = log.queue
    self.log = log.logger("node")
  }

  var state: State {
    get { self.changing.withLock { $0.state } }
    set { self.changing.withLock { $0.state = newValue } }
  }

  /// Mean over the last second; kept by `Chores`.
  var eventsPerSecond: Double {
    get { self.changing.withLock { $0.eventsPerSecond } }
    set { self.changing.withLock { $0.eventsPerSecond = newValue } }
  }

  /// Of `Chores`: what it saw, and when.
  var lastLook: (health: Health, at: ContinuousClock.Instant) {
    get { self.changing.withLock { $0.look } }
    set { self.changing.withLock { $0.look = newValue } }
  }

  /// Why the configuration was not taken when it was read again last; nil: it was, or never was read again.
  var refusal: String? {
    get { self.refusedReload.withLock { $0 } }
    set { self.refusedReload.withLock { $0 = newValue } }
  }

  /// Reads the files of Redis' TLS for the connections to come. BLOCKS on the disk. Throws what is wrong
  /// with them; then the former ones stay.
  func renewTLS() throws {
    try self.redis?.renewTLS()
    try self.mailbox?.renewTLS()
    try self.ownership.renewTLS()
  }

  /// As SIGTERM does; the daemon's thread takes it up from there.
  func restart() {
    self.log.notice("an operator has this node restart")
    kill(getpid(), SIGTERM)
  }

  /// Every loop of the node that must move, but for the controllers' threads and the admin service. What
  /// waits for a disk, a name server or the service manager is not among them: no other process would
  /// get the answer sooner.
  var beats: [Beat] {
    [
      Beat("the event thread", self.taker.progress),
      Beat("the vendor app's thread", self.vendor.turns),
      Beat("the tasks' pool", self.poolProbe.look()),
    ] + (self.redis.map { [Beat("the Redis thread", $0.progress)] } ?? [])
      + (self.mailbox?.beats ?? []) + self.ownership.beats
  }
}

extension AttachLink.Handlers {
  /// What the vendor app says goes to the controllers.
  init(
    layer: ControllerLayer, commands: CommandPipeline, ownership: any NodeOwnership,
    mailbox: Mailbox?
  ) {
    self.init(
      acknowledge: {
        layer.acknowledge($0)
        commands.acknowledged()
        mailbox?.acknowledged()
      },
      // The controllers have their events still. The higher epoch begins new sessions, in which they
      // send them again.
      refused: { refusals in
        ownership.seen(
          refusals.map { SoleOwnership.Report(serial: $0.serial, epoch: $0.epochSeen) })
      },
      command: { commands.take($0) })
  }
}

extension NodeConfiguration {
  /// A range that is given to this node, or away from it, is nobody's here for a moment.
  private static let hold: Duration = .seconds(2)

  /// What the controller layer is told.
  var layer: LayerSettings {
    LayerSettings(
      bind: self.bind, port: self.port, ioThreads: self.ioThreads,
      connectionsMax: self.connectionsMax, window: self.window, t1: self.t1, t2: self.t2,
      t3: self.t3, trusted: self.trustedProxies,
      hold: self.redis == .memory ? .zero : NodeConfiguration.hold)
  }
}

/// Of the machine.
func hostName() -> String {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { room in
    room.initialize(repeating: 0)
    // A name that is too long is cut, and then perhaps without an end: the last place stays 0.
    guard gethostname(room.baseAddress!, room.count - 1) == 0 else { return "localhost" }
    return String(cString: room.baseAddress!)
  }
}

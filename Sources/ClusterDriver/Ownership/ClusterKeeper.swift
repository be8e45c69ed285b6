import CSCP
import CSystem
import DriverProtocol
import Election
import Glibc
import Logging
import Synchronization

/// The ownership of a node that is a member of a cluster: tells the controller layer what the member may
/// act for, and the member what the controllers have to say to that.
///
/// Locks: none is held while the member or the layer is called, but `layering`, which keeps changes of
/// ranges and of their deadline in order.
final class ClusterKeeper: NodeOwnership {
  /// How long commands that are under way may hold up a range that is to be given away. Most are answered
  /// within milliseconds; one whose answer comes later ends at the next owner, by its id.
  static let sealLimit: Duration = .milliseconds(500)
  /// And when the node is apart: the controllers that came in by other nodes do not hear of them, nor are they heard.
  static let sealLimitApart: Duration = .milliseconds(50)
  /// So long the controllers of a node that is out of reach wait for it to be emptied as one that is apart.
  private static let waitsForOthers: Duration = .seconds(1)
  /// So long after other nodes went out of reach it is looked into the store as often as at them.
  private static let looksAfterCut: Duration = .seconds(3)
  private static let sealLook: Duration = .milliseconds(5)
  /// For the session to be given back.
  static let releaseLimit: Duration = .seconds(1)
  /// Reports of higher epochs that are followed: each makes the range's controllers begin again.
  private static let raises = (burst: UInt32(5), every: Duration.seconds(2))

  private struct Sealing {
    var first: Serial
    var last: Serial
    var move: UInt64
    var until: ContinuousClock.Instant
  }

  private struct State {
    var acting: [OwnedRange] = []
    var view: OwnershipView?
    var history = OwnershipHistory()
    var sealing: [Sealing] = []
    var survey = LoadSurvey()
    /// What the node says of itself.
    var status = MemberStatus()
    var reach = PeerReach()
    /// An operator wants it emptied.
    var isDraining = false
    /// It is apart, and there are others that serve.
    var isApart = false

    /// Whether it says that it is to be emptied.
    var drains: Bool { self.isDraining || self.reach.isApart }
    var ration = RateLimit<String>(
      burst: ClusterKeeper.raises.burst, every: ClusterKeeper.raises.every, keysMax: 4)
  }

  private let layer: ControllerLayer
  private let routes: RouteTable
  private let commands: CommandPipeline
  private let log: Logger
  private let state = Mutex(State())
  private let member: Mutex<ClusterMember?> = Mutex(nil)
  private let followers = Mutex<[@Sendable ([OwnedRange]) -> Void]>([])
  private let isReleased = Atomic<Bool>(false)
  private let bell = Bell()

  /// Joins the cluster as soon as `begin` is called. Throws what keeps it from that: a port that is taken,
  /// a file that cannot be written.
  init(
    _ settings: ClusterMember.Settings, layer: ControllerLayer, commands: CommandPipeline,
    log: Logger
  ) throws {
    self.layer = layer
    self.routes = RouteTable(layer: layer, log: log)
    self.commands = commands
    self.log = log
    let member = try ClusterMember(
      settings, commands: commands, log: log,
      handlers: OwnershipLoop.Handlers(
        act: { [weak self] in self?.act(for: $0, until: $1) },
        seal: { [weak self] in self?.seal($0, move: $1) },
        changed: { [weak self] view in
          self?.state.withLock {
            $0.view = view
            $0.history.look(view, now: .now, at: Moment.utcMsNow())
          }
          self?.routes.follow(view)
          self?.commands.see(view.table, in: view.identity)
        },
        ended: { [weak self] in self?.ended($0) }))
    self.state.withLock { $0.status = member.status }
    commands.join(member.commandPeers)
    self.member.withLock { $0 = member }
  }

  /// Of the node's present life.
  var incarnation: UInt64 { self.present?.me.incarnation.rawValue ?? 0 }

  private var present: ClusterMember? { self.member.withLock { $0 } }

  var epochs: ClosedRange<UInt64>? {
    self.state.withLock { state in
      let epochs = state.acting.lazy.map(\.epoch.rawValue)
      guard let low = epochs.min(), let high = epochs.max() else { return nil }
      return low...high
    }
  }

  var view: OwnershipView? { self.state.withLock { $0.view } }
  var history: OwnershipHistory? { self.state.withLock { $0.history } }

  var beats: [Beat] { self.present?.beats ?? [] }

  var peers: (any NodePeers)? { self.present?.nodePeers }
  func serve(_ desk: NodeDesk) { self.present?.serve(desk) }

  func begin() {
    self.routes.start()
    self.present?.start()
  }

  /// From now on `tell` hears the ranges to act for, by first serial, whenever they change; on the
  /// member's thread, which it must not block. To be said before `begin`.
  func follow(_ tell: @escaping @Sendable ([OwnedRange]) -> Void) {
    self.followers.withLock { $0.append(tell) }
  }

  // MARK: From the member, on its thread

  private func act(for acting: [OwnedRange], until: Instant?) {
    let isSame = self.state.withLock { state in
      defer { state.acting = acting }
      return state.acting == acting
    }
    // What is ended as the owner's is so at an instant at which it is the owner's.
    self.commands.act(for: isSame ? nil : acting, until: until)
    // The ranges first: a deadline that reaches further is not for one that is lost.
    if !isSame { self.layer.own(acting) }
    self.layer.actUntil(until)
    if !isSame { for tell in self.followers.withLock({ $0 }) { tell(acting) } }
  }

  private func seal(_ first: Serial, move: UInt64) {
    let sealed = self.state.withLock { state in state.acting.first { $0.first == first } }
    guard let range = sealed else { return }
    self.commands.leave(range.first.rawValue...range.last.rawValue)
    self.state.withLock { state in
      let limit =
        state.reach.isApart ? ClusterKeeper.sealLimitApart : ClusterKeeper.sealLimit
      state.sealing.append(
        Sealing(first: first, last: range.last, move: move, until: .now.advanced(by: limit)))
    }
    self.layer.wake()
  }

  private func ended(_ ending: OwnershipLoop.Ending) {
    switch ending {
    case .stopped:
      self.isReleased.store(true, ordering: .releasing)
      self.bell.ring()
    case .replaced(let by):
      self.log.critical(
        """
        another process has joined the cluster under this node's name: this one ends. Give each node a \
        --node-id of its own
        """, metadata: ["incarnation": "\(by)"])
      self.isReleased.store(true, ordering: .releasing)
      kill(getpid(), SIGTERM)
    }
  }

  // MARK: To the member

  func tick() -> ContinuousClock.Instant? {
    let sealing = self.state.withLock { $0.sealing }
    guard !sealing.isEmpty else { return nil }
    let now = ContinuousClock.now
    let done = sealing.filter { range in
      now >= range.until
        || self.commands.isIdle(for: range.first.rawValue...range.last.rawValue)
    }
    for range in done { self.present?.happened(.sealed(range.first, move: range.move)) }
    return self.state.withLock { state in
      state.sealing.removeAll { range in
        done.contains { $0.first == range.first && $0.move == range.move }
      }
      return state.sealing.isEmpty ? nil : now.advanced(by: ClusterKeeper.sealLook)
    }
  }

  func seen(_ reports: [SoleOwnership.Report]) {
    var epochs: [OwnedRange] = []
    for report in reports where report.serial >= 1 && report.serial < UInt64.max {
      guard report.epoch <= SoleOwnership.epochMax else {
        if self.isAllowed("implausible") {
          self.log.error(
            """
            owner epoch \(report.epoch) was reported, which no cluster reaches: the controller is not \
            served; reset what it remembers of its hosts
            """, metadata: ["serial": "\(report.serial)"])
        }
        continue
      }
      // Who is left out reports again when it comes back.
      guard self.isAllowed("raise") else { continue }
      let serial = Serial(report.serial)
      epochs.append(OwnedRange(first: serial, last: serial, epoch: Epoch(report.epoch)))
    }
    if !epochs.isEmpty { self.present?.happened(.epochsSeen(epochs)) }
  }

  private func isAllowed(_ what: String) -> Bool {
    let verdict = self.state.withLock { $0.ration.take(what, at: csys_clock_boottime()) }
    if case .say = verdict { return true } else { return false }
  }

  func survey() -> Bool {
    let acting = self.state.withLock { $0.acting }
    guard !acting.isEmpty else { return true }
    var count = LoadSurvey.Count(ranges: acting)
    var from: UInt64 = 1
    while true {
      // A thread that does not answer is the watchdog's to notice.
      guard let page = self.layer.sessions(from: from, limit: 1024, timeoutMs: 1000) else {
        return true
      }
      for session in page { count.add(serial: session.serial, received: session.received_seq) }
      guard page.count == 1024, let last = page.last?.serial, last < .max else { break }
      from = last + 1
    }
    let (loads, isComplete) = self.state.withLock {
      ($0.survey.changes(count, at: .now), $0.survey.isComplete)
    }
    if !loads.isEmpty { self.present?.happened(.loads(loads)) }
    return isComplete
  }

  // MARK: End

  func drain(_ isDraining: Bool) {
    let status = self.state.withLock { state in
      state.isDraining = isDraining
      state.status.draining = state.drains
      return state.status
    }
    self.log.notice(
      isDraining ? "draining: what this node has goes to the others" : "drains no more")
    self.present?.happened(.status(status))
  }

  var isApart: Bool { self.state.withLock { $0.isApart } }

  func lookAtPeers() {
    guard let view = self.view, let member = self.present else { return }
    let now = Instant.now
    let sights = PeerReach.sights(view, silences: member.silences, at: now)
    let (reach, wasApart, isApart, status) = self.state.withLock { state in
      let wasApart = state.reach.isApart
      state.reach.look(view.me.node, sights, at: now)
      // Others that cannot serve either are no better.
      state.isApart =
        state.reach.isApart
        && view.peers.alive(at: now).contains {
          state.reach.unreached.contains($0.node) && $0.status.healthy && !$0.status.draining
        }
      state.status.draining = state.drains
      return (state.reach, wasApart, state.isApart, state.status)
    }
    if isApart {
      self.routes.leaveOut(reach.unreached)
    } else if let since = reach.unreachedSince, now >= since + ClusterKeeper.waitsForOthers {
      self.routes.leaveOut(
        reach.unreached.filter { view.peers.session(of: $0)?.status.draining == false })
    } else {
      self.routes.leaveOut([])
    }
    // What is going to be moved, and has been, nodes tell each other, if they are heard.
    let isCutLately = reach.unreachedSince.map { now < $0 + ClusterKeeper.looksAfterCut } ?? false
    if isCutLately || (isApart && !view.acting.isEmpty) { member.happened(.nudged) }
    guard reach.isApart != wasApart else { return }
    if reach.isApart {
      let names = reach.unreached.sorted().map(\.name).joined(separator: " ")
      self.log.warning(
        """
        most of the nodes live and are not reached from here: what this node has, and its controllers, \
        go to those; see to the network between the nodes
        """, metadata: ["unreached": "\(names)"])
    } else {
      self.log.notice("the other nodes are reached again")
    }
    member.happened(.status(status))
  }

  func serves(_ isHealthy: Bool) {
    let status: MemberStatus? = self.state.withLock { state in
      guard state.status.healthy != isHealthy else { return nil }
      state.status.healthy = isHealthy
      return state.status
    }
    guard let status else { return }
    if isHealthy {
      self.log.notice("the vendor app takes what this node sends again")
    } else {
      self.log.warning(
        """
        the vendor app does not take what this node sends: its ranges go to other nodes, if those \
        are better off
        """)
    }
    self.present?.happened(.status(status))
  }

  func order(_ order: OperatorOrder) {
    self.log.notice("an operator's order: \(order)")
    self.present?.happened(.order(order))
  }

  func renewTLS() throws { try self.present?.renewTLS() }

  func stop() { self.present?.happened(.stop) }

  func handOver(_ results: [Clusterdriver_V1_CommandResult]) -> Int {
    self.present?.handOver(results) ?? 0
  }

  func finish() {
    self.present?.happened(.workEnded)
    let end = ContinuousClock.now.advanced(by: ClusterKeeper.releaseLimit)
    while !self.isReleased.load(ordering: .acquiring), .now < end {
      self.bell.wait(milliseconds: (end - .now).millisecondsRoundedUp)
    }
    if !self.isReleased.load(ordering: .acquiring) {
      self.log.warning("the session could not be given back: peers take over after its TTL")
    }
  }

  func close() {
    let member = self.member.withLock { $0.take() }
    member?.close()
    self.routes.close()
    // Whatever was held: this node is over.
    self.layer.actUntil(nil)
  }
}

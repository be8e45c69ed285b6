import CSCP
import CSystem
import DriverProtocol
import Election
import RedisLink

extension Node: NodeView {
  func status() -> Clusterdriver_V1_NodeStatus {
    let layer = self.layer.counters()
    var status = Clusterdriver_V1_NodeStatus()
    status.nodeID = self.identity.nodeID
    status.incarnation = self.identity.incarnation
    status.version = self.identity.version
    status.port = UInt32(self.layer.port)
    status.startedAtMs = self.startedAt.utcMs
    status.state = self.state.rawValue
    status.controllers = layer.sessions
    status.eventsTotal = layer.events
    status.eventsPerSecond = self.eventsPerSecond
    status.eventsAckedTotal = self.outbox.counters.eventsAcked
    status.eventsInFlight = layer.unacked
    status.commandsTotal = self.commands.taken
    status.commandsPending = UInt64(self.commands.pending)
    status.redis = self.redisText
    status.vendor = self.vendorText
    status.rssBytes = UInt64(max(0, csys_memory_rss()))
    if let epochs = self.ownership.epochs {
      status.ownerEpochMin = epochs.lowerBound
      status.ownerEpochMax = epochs.upperBound
    }
    status.role = self.role
    status.ranges = UInt64(self.ownership.view?.acting.count ?? 0)
    status.program = ProgramFile.own.path
    status.programReplaced = ProgramFile.own.state != .same
    let why = ProgramFile.own.whyNotRestartable(isParked: self.layer.isParked)
    status.restartable = why == nil
    status.whyNotRestartable = why ?? ""
    status.controllersLeft = layer.left + UInt64(self.layer.resumption.ended)
    return status
  }

  private var role: String {
    guard self.ownership.history != nil else { return "alone" }
    guard let view = self.ownership.view, let until = view.validUntil else { return "joining" }
    guard Instant.now < until else { return "fenced" }
    if view.actsByPromises { return "by promises" }
    return view.isLeading ? "leader" : "member"
  }

  /// "up", "down since …: why", "not configured".
  var redisText: String {
    guard let redis = self.redis else { return "not configured" }
    switch redis.link {
    case .up: return "up"
    case .down(let failure, let since, _):
      return Node.down(since: Node.utcMs(boottime: since), "\(failure)")
    case .closed: return "closed"
    }
  }

  var vendorText: String {
    if self.link.up != nil { return "up" }
    guard let down = self.link.down else {
      return Node.down(since: self.startedAt.utcMs, "not attached yet")
    }
    return Node.down(since: down.since.utcMs, down.why)
  }

  private static func down(since utcMs: UInt64, _ why: String) -> String {
    "down since \(LogText.time(ms: utcMs)): \(why)"
  }

  static func utcMs(boottime: UInt64) -> UInt64 {
    let now = csys_clock_boottime()
    return Moment.utcMsNow() - (now > boottime ? (now - boottime) / 1_000_000 : 0)
  }

  func sessions(
    from serial: UInt64, limit: Int
  ) throws(NodeViewError) -> [Clusterdriver_V1_NodeController] {
    guard let sessions = self.layer.sessions(from: serial, limit: limit, timeoutMs: 1000) else {
      throw .timedOut(
        """
        a thread that serves controllers did not answer within 1 s: the node hangs or is far too \
        busy; look at its CPU, and restart it if that stays
        """)
    }
    return sessions.map { Clusterdriver_V1_NodeController($0) }
  }

  var cluster: OwnershipView? { self.ownership.view }

  var history: OwnershipHistory? { self.ownership.history }

  func drain(_ isDraining: Bool) { self.ownership.drain(isDraining) }

  var peers: (any NodePeers)? { self.ownership.peers }

  func order(_ order: OperatorOrder) { self.ownership.order(order) }

  func send(_ command: Clusterdriver_V1_Command) async -> Clusterdriver_V1_CommandResult {
    do {
      return Clusterdriver_V1_CommandResult(try await self.commands.send(command))
    } catch {
      // Without an id there is nothing to remember a result by; the caller gets one all the same.
      var result = Clusterdriver_V1_CommandResult()
      result.id = command.id
      result.serial = command.serial
      result.status = .refused
      result.reason = DriverReason.badCommand
      result.detail = (error as? CommandEncoding.Refusal)?.detail ?? "the caller gave up"
      result.atMs = Moment.utcMsNow()
      return result
    }
  }
}

extension cscp_counters {
  /// Connections that ended without this node's doing.
  fileprivate var left: UInt64 {
    let reasons = [
      CSCP_REASON_PEER_CLOSED, CSCP_REASON_CONNECTION_ERROR, CSCP_REASON_PING_TIMEOUT,
      CSCP_REASON_SLOW_READER,
    ]
    return withUnsafeBytes(of: self.closed) { bytes in
      let counts = bytes.bindMemory(to: UInt64.self)
      return reasons.reduce(0) { $0 + counts[Int($1.rawValue)] }
    }
  }
}

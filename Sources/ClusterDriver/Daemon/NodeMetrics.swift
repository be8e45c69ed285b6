import CSCP
import Election
import RedisLink

extension Node: MetricsSource {
  func metrics() -> MetricsSnapshot {
    var snapshot = MetricsSnapshot(
      version: self.identity.version, nodeID: self.identity.nodeID,
      startedAtMs: self.startedAt.utcMs, nowMs: Moment.utcMsNow(), readiness: self.readiness())
    if self.ownership.history != nil {
      // Before Redis is first reached there is nothing to see, and nothing is owned.
      snapshot.ownership =
        self.ownership.view.map { MetricsSnapshot.Ownership($0, at: .now) }
        ?? MetricsSnapshot.Ownership()
    }
    snapshot.layer = self.layer.counters()
    let outbox = self.outbox.counters
    snapshot.events = Node.events(outbox)
    snapshot.events.latency = self.outbox.latency.snapshot()
    snapshot.commands = self.commands.metrics.snapshot()
    snapshot.commands.pending = UInt64(self.commands.pending)
    snapshot.commands.away = UInt64(self.commands.away)
    snapshot.commands.sequences = self.commands.sequences
    snapshot.commands.resultsUnacked = UInt64(outbox.results)
    snapshot.mailbox = self.mailbox?.counts
    snapshot.redis = self.redis.map { Node.link($0.link) }
    snapshot.vendor = self.vendorLink
    snapshot.process = .current()
    snapshot.logLinesTotal = self.logQueue.writtenTotal
    snapshot.logLinesDroppedTotal = self.logQueue.droppedTotal
    return snapshot
  }

  private static func events(_ outbox: Outbox.Counters) -> MetricsSnapshot.Events {
    var events = MetricsSnapshot.Events()
    events.sentTotal = outbox.sentEvents
    events.ackedTotal = outbox.eventsAcked
    events.staleTotal = outbox.eventsRefused
    events.batchesTotal = outbox.sentMessages
    events.inFlight = UInt64(outbox.events)
    events.batchesInFlight = UInt64(outbox.messages)
    events.bytesInFlight = UInt64(outbox.bytes)
    events.bytesInFlightMax = UInt64(outbox.limit)
    events.reattachesTotal = outbox.streams > 0 ? outbox.streams - 1 : 0
    events.batchesRepeatedTotal = outbox.repeatedMessages
    events.stallsTotal = outbox.stalls
    return events
  }

  private static func link(_ state: RedisLinkState) -> MetricsSnapshot.Link {
    var link = MetricsSnapshot.Link()
    switch state {
    case .up(let since, let generation):
      link.isUp = true
      link.sinceMs = Node.utcMs(boottime: since)
      link.connectsTotal = generation
    case .down(_, let since, let attempts):
      link.sinceMs = Node.utcMs(boottime: since)
      link.failuresTotal = UInt64(attempts)
    case .closed:
      link.sinceMs = Moment.utcMsNow()
    }
    return link
  }

  private var vendorLink: MetricsSnapshot.Link {
    var link = MetricsSnapshot.Link()
    link.isUp = self.link.up != nil
    link.sinceMs = (self.link.up ?? self.link.down?.since ?? self.startedAt).utcMs
    link.connectsTotal = self.link.opened.value
    link.failuresTotal = self.link.failed.value
    return link
  }

  func readiness() -> Readiness {
    switch self.state {
    case .starting: return .notReady("starting")
    case .serving: return self.ownership.readiness
    case .stopping: return .notReady("stopping")
    }
  }

  func health() -> Health {
    let (health, at) = self.lastLook
    // Whoever looks may be what is stuck.
    let isLate = self.state != .starting && .now - at >= Pulse.patience
    return isLate ? .stuck("stuck: the chores thread") : health
  }
}

extension NodeOwnership {
  /// A member that may act is ready, whether or not it has ranges at present: it will.
  fileprivate var readiness: Readiness {
    guard self.history != nil else { return .ready }
    guard let view = self.view else {
      return .notReady("joining the cluster: Redis is not reached")
    }
    guard let until = view.validUntil, .now < until else {
      return .notReady("the lease has run out: neither Redis nor enough of the other nodes answer")
    }
    if self.isApart {
      return .notReady("most of the other nodes serve, and are not reached from here")
    }
    return .ready
  }
}

extension MetricsSnapshot.Ownership {
  fileprivate init(_ view: OwnershipView, at now: Instant) {
    self.ranges = UInt64(view.acting.count)
    self.members = UInt64(view.list.added.count)
    self.isLeading = view.isLeading
    self.byPromises = view.actsByPromises
    if let until = view.validUntil, now < until {
      self.leaseSeconds = Double((until - now).wholeNanoseconds) / 1e9
    }
  }
}

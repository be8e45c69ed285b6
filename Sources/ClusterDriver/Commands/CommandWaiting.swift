import Election

/// Commands that wait for their controller, and what they come to without its word.
extension CommandMachine {
  // MARK: Sessions

  mutating func connected(
    _ serial: UInt64, connection: UInt64, at now: Moment
  ) -> [Directive] {
    self.sessions[serial] = connection
    guard var controller = self.controllers[serial] else { return [] }
    controller.leftAt = nil
    self.controllers[serial] = controller.pending.isEmpty ? nil : controller
    guard controller.waiting > 0 else { return [] }
    var directives: [Directive] = []
    for id in controller.pending {
      // A session is an owner's. What a peer is being asked about is that peer's to answer first.
      switch self.pending[id]?.phase {
      case .waiting, .held: directives += self.post(id)
      case .posted, .sent, .passing, .awaited, nil: break
      }
    }
    return directives
  }

  mutating func disconnected(
    _ serial: UInt64, connection: UInt64, at now: Moment
  ) -> [Directive] {
    if self.sessions[serial] == connection {
      self.sessions[serial] = nil
      self.controllers[serial, default: Controller()].leftAt = now.uptime
      self.departures.append((serial: serial, at: now.uptime))
      self.sweep(by: now.uptime.advanced(by: self.settings.grace))
    }
    return self.sessionEnded(connection, of: serial, at: now)
  }

  /// What was sent by that session goes to the next one, at once if it is here already, or to the next
  /// owner.
  mutating func sessionEnded(
    _ connection: UInt64, of serial: UInt64, at now: Moment
  ) -> [Directive] {
    guard let controller = self.controllers[serial], !controller.pending.isEmpty else { return [] }
    let isHere = self.sessions[serial].map { $0 != connection } ?? false
    var directives: [Directive] = []
    for id in controller.pending where self.pending[id]?.phase == .sent(connection: connection) {
      if isHere, !self.stopping {
        directives += self.post(id)
      } else {
        directives += self.waitOrGiveUp(id, at: now)
      }
    }
    return directives
  }

  // MARK: Waiting and giving up

  /// There is no session to give it to. One that may have been carried out can wait for long; any other,
  /// and a step, whose sequence is kept elsewhere, only while its controller is expected within the grace.
  mutating func waitOrGiveUp(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    let serial = entry.command.serial
    guard case .mine = self.standing(of: serial, at: now) else { return self.hold(id, at: now) }
    if self.stopping { return self.giveUp(id, at: now) }
    if entry.wasSent || self.isElsewhere(entry, at: now), entry.door != .sequence {
      self.wait(id, for: self.settings.reconnectLimit, at: now)
      return []
    }
    let expected = [
      self.controllers[serial]?.leftAt, self.sessions[serial] != nil ? now.uptime : nil,
      self.gainedAt,
    ].lazy.compactMap(\.self).max()
    if let expected, now.uptime - expected < self.settings.grace {
      self.wait(id, for: self.settings.grace - (now.uptime - expected), at: now)
      return []
    }
    return self.giveUp(id, at: now)
  }

  /// Whether another node may have it, too, and end it: then this one's own word could be contradicted,
  /// and the controller's cannot. What was published soon after its range was got, the former owner heard.
  private func isElsewhere(_ entry: Pending, at now: Moment) -> Bool {
    if entry.isShared { return true }
    guard self.owners != nil, entry.door == .redis else { return false }
    return entry.epoch.map { self.standing(of: entry.command.serial, at: now) != .mine($0) } ?? true
  }

  /// For the controller's next session; no longer than its deadline, if that is still to come, unless
  /// another node may have it: then the controller is to be asked.
  mutating func wait(_ id: CommandID, for duration: Duration, at now: Moment) {
    let limit = now.uptime.advanced(by: duration)
    guard let entry = self.pending[id] else { return }
    let endsItself = !self.isElsewhere(entry, at: now) && !entry.isPast(at: now.uptime)
    let notAfter = endsItself ? entry.notAfter : nil
    self.put(id, in: .waiting, until: notAfter.map { min($0, limit) } ?? limit)
  }

  /// The phase of a command has ended by itself.
  mutating func overdue(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    if entry.phase.isAway {
      return self.finish(id, .offline, detail: CommandDetail.noOwner, at: now)
    }
    guard case .mine = self.standing(of: entry.command.serial, at: now) else {
      return self.hold(id, at: now)
    }
    return self.giveUp(id, at: now)
  }

  /// The owner's word, when the controller's is not to be had.
  private mutating func giveUp(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    if entry.door.keeps { return self.putBack(entry, at: now) }
    if entry.wasSent {
      return self.finish(id, .offline, detail: CommandDetail.noAnswer, at: now)
    }
    guard self.isSole(entry, at: now) else {
      return self.finish(id, .offline, detail: CommandDetail.notAsked, at: now)
    }
    if self.stopping {
      return self.finish(
        id, .refused, reason: DriverReason.stopping, detail: CommandDetail.stopping, at: now)
    }
    if entry.isPast(at: now.uptime) {
      return self.finish(id, .expired, detail: CommandDetail.expired, at: now)
    }
    return self.finish(id, .offline, detail: CommandDetail.notConnected, at: now)
  }

  /// And what waits behind it and is kept elsewhere, too, so that it does not overtake it.
  mutating func putBack(_ first: Pending, at now: Moment) -> [Directive] {
    let behind = self.controllers[first.command.serial]?.pending ?? []
    let kept = behind.compactMap { self.pending[$0] }.filter {
      $0.number == first.number
        || $0.number > first.number && $0.door.keeps && $0.phase == .waiting
    }
    return kept.map { entry in
      self.remove(entry.command.id, at: now)
      return .putBack(entry.command.id)
    }
  }

  mutating func stop(at now: Moment) -> [Directive] {
    self.stopping = true
    let waiting = self.pending.filter { $0.value.phase == .waiting }.map(\.key)
    return self.inOrder(waiting).flatMap { self.overdue($0, at: now) }
  }
}

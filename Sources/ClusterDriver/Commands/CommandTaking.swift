import Election

/// How commands come in, and what the controller layer says of them.
extension CommandMachine {
  // MARK: Taking

  mutating func take(
    _ command: ControllerCommand, by door: CommandDoor, at now: Moment
  ) -> [Directive] {
    if let entry = self.pending[command.id] {
      if door == .admin { self.pending[command.id]!.isAwaited = true }
      // What a peer may come to have the result of is not the mailbox's to wait for here.
      return door.keeps && entry.phase.isAway ? [.putBack(command.id)] : []
    }
    if let known = self.recent.result(of: command.id) {
      return [.deliverAgain(known)]
    }
    let standing = self.standing(of: command.serial, at: now)
    if door.keeps {
      guard case .mine = standing, !self.stopping, self.excess(for: command.serial) == nil else {
        return [.putBack(command.id)]
      }
    }
    if self.stopping, case .mine = standing {
      return self.refuseUnknown(
        command.id, serial: command.serial, by: door, reason: DriverReason.stopping,
        detail: CommandDetail.stopping, at: now)
    }
    if let detail = self.excess(for: command.serial) {
      return self.refuseUnknown(
        command.id, serial: command.serial, by: door, reason: DriverReason.tooManyPending,
        detail: detail, at: now)
    }
    return self.enter(PassedCommand(command: command), by: door, standing, at: now)
  }

  /// Why no further command can be taken for that controller.
  func excess(for serial: UInt64) -> String? {
    if self.pending.count >= self.settings.pendingMax { return CommandDetail.tooManyOnNode }
    let count = self.controllers[serial]?.pending.count ?? 0
    return count >= self.settings.pendingPerControllerMax
      ? CommandDetail.tooManyForController : nil
  }

  /// A command nobody knows here.
  mutating func enter(
    _ passed: PassedCommand, by door: CommandDoor, _ standing: OwnerTable.Standing, at now: Moment
  ) -> [Directive] {
    let command = passed.command
    self.entered += 1
    if door != .sequence { self.taken += 1 }
    var entry = Pending(
      command: command, door: door, number: self.entered, phase: .posted, takenAt: now.uptime)
    entry.wasSent = passed.wasSent || command.mayHaveBeenSent
    entry.isAwaited = door == .admin
    if command.notAfterMs != 0 { entry.notAfter = now.uptime(atUTC: command.notAfterMs) }
    entry.isShared = passed.isShared
    if case .mine(let epoch) = standing, !entry.isPast(at: now.uptime),
      self.gainedAt.map({ now.uptime - $0 >= self.settings.grace }) ?? true
    {
      entry.epoch = epoch
    }
    self.pending[command.id] = entry
    self.controllers[command.serial, default: Controller()].pending.append(command.id)
    if door.keeps, entry.isPast(at: now.uptime), self.isSole(entry, at: now) {
      return self.finish(command.id, .expired, detail: CommandDetail.expired, at: now)
    }
    switch standing {
    case .others, .unknown:
      return self.hold(command.id, at: now)
    case .mine, .fenced:
      // Without a lease the layer has it wait at the session, if there is one.
      guard self.controllers[command.serial]!.waiting > 0 else { return [.post(command)] }
      // Behind those that wait: with them for a session, or for what is said of them.
      if self.owners != nil, standing == .fenced || self.sessions[command.serial] != nil {
        return self.hold(command.id, at: now)
      }
      self.wait(command.id, for: self.settings.grace, at: now)
      return []
    }
  }

  mutating func refuseUnknown(
    _ id: CommandID, serial: UInt64, by door: CommandDoor, reason: UInt32, detail: String,
    at now: Moment
  ) -> [Directive] {
    if self.pending[id] != nil { return [] }
    if let known = self.recent.result(of: id) { return [.deliverAgain(known)] }
    self.taken += 1
    let result = FinishedCommand(
      id: id, serial: serial, door: door, status: .refused, reason: reason, detail: detail,
      atMs: now.utcMs, elapsedUs: 0)
    return [self.remember(result, at: now)]
  }

  // MARK: The controller layer's answers

  mutating func notPosted(
    _ id: CommandID, _ failure: PostFailure, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    switch failure {
    case .queueFull where entry.door.keeps:
      // Waiting, so that later ones do not overtake it; in the end it goes back.
      self.wait(id, for: self.settings.grace, at: now)
      return []
    case .queueFull where self.isSole(entry, at: now):
      return self.finish(
        id, .refused, reason: DriverReason.tooManyPending,
        detail: CommandDetail.tooManyForController, at: now)
    case .invalid(let why) where self.isSole(entry, at: now):
      return self.finish(
        id, .refused, reason: DriverReason.badCommand, detail: why, at: now)
    case .notConnected, .queueFull, .invalid:
      return self.waitOrGiveUp(id, at: now)
    }
  }

  mutating func sent(
    _ id: CommandID, connection: UInt64, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    self.pending[id]!.wasSent = true
    self.put(
      id, in: .sent(connection: connection),
      until: now.uptime.advanced(by: self.settings.answerLimit))
    let serial = entry.command.serial
    // The session's end may be known already: messages of two sessions of one controller can come
    // from two threads of the layer.
    guard self.sessions[serial] == connection else {
      return self.sessionEnded(connection, of: serial, at: now)
    }
    return []
  }

  /// Its deadline passed before it was sent.
  mutating func expired(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    if self.isSole(entry, at: now) {
      return self.finish(id, .expired, detail: CommandDetail.expired, at: now)
    }
    guard case .mine = self.standing(of: entry.command.serial, at: now) else {
      return self.hold(id, at: now)
    }
    return self.ask(id)
  }

  /// What became of it is not known: the controller is asked, which ends it if it does not know of it.
  mutating func ask(_ id: CommandID) -> [Directive] {
    self.pending[id]?.command.notAfterMs = ControllerCommand.notAfterPast
    return self.post(id)
  }

  mutating func unsent(
    _ id: CommandID, connection: UInt64, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .posted else { return [] }
    let serial = entry.command.serial
    if let current = self.sessions[serial], current != connection,
      self.controllers[serial]?.waiting == 0, !self.stopping
    {
      return [.post(entry.command)]
    }
    return self.waitOrGiveUp(id, at: now)
  }
}

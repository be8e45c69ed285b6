import Election

/// Commands that are not this node's to end: held until their owner is known, and passed on to it, or
/// taken up again when this node is the owner.
///
/// The node that holds a command asks the owner itself; nobody takes one that is not its own. So there
/// are no hops to count, and no two nodes can each believe that the other has it.
extension CommandMachine {
  /// To one peer there is one batch at a time: what is passed on keeps its order.
  struct Courier: Sendable {
    /// Of the batch under way, and what is in it.
    var number: UInt64?
    var ids: [CommandID] = []
    /// Not before, after it did not take what it was given.
    var againAt: ContinuousClock.Instant?
    var pause: Duration?

    func isFree(at now: ContinuousClock.Instant) -> Bool {
      self.number == nil && self.againAt.map { $0 <= now } ?? true
    }
  }

  /// A peer that names another owner is believed so often before there is a pause.
  private static let hintsMax = 2

  // MARK: Whose it is

  mutating func acts(
    for ranges: [OwnedRange]?, until: ContinuousClock.Instant?, at now: Moment
  ) -> [Directive] {
    guard let change = self.owners?.act(for: ranges, until: until) else { return [] }
    if change.gained { self.gainedAt = now.uptime }
    var directives: [Directive] = []
    if change.lost {
      let waiting = self.pending.filter { $0.value.phase == .waiting }.map(\.key)
      for id in self.inOrder(waiting) {
        if case .mine = self.standing(of: self.pending[id]!.command.serial, at: now) { continue }
        directives += self.hold(id, at: now)
      }
    }
    return directives + self.reconsider(at: now)
  }

  /// Not this node's to end, as far as it knows.
  mutating func hold(_ id: CommandID, at now: Moment) -> [Directive] {
    guard let entry = self.pending[id] else { return [] }
    // Its next owner takes it out of the mailbox.
    if entry.door.keeps { return self.putBack(entry, at: now) }
    if !entry.phase.isAway, self.away.count >= self.settings.awayMax {
      return self.finish(id, .offline, detail: CommandDetail.tooManyAway, at: now)
    }
    let end = entry.phase.isAway ? entry.phaseEndsAt : nil
    self.share(entry, at: now)
    self.put(id, in: .held, until: end ?? now.uptime.advanced(by: self.settings.passLimit))
    guard let node = self.target(of: self.pending[id]!, at: now),
      self.couriers[node]?.isFree(at: now.uptime) ?? true
    else { return [] }
    return self.dispatch(at: now)
  }

  /// What is held may be this node's now, or another's.
  mutating func reconsider(at now: Moment) -> [Directive] {
    guard !self.away.isEmpty else { return [] }
    var directives: [Directive] = []
    let held = self.away.filter { self.pending[$0]?.phase == .held }
    for id in self.inOrder(Array(held)) {
      guard let entry = self.pending[id], entry.phase == .held else { continue }
      if case .mine = self.standing(of: entry.command.serial, at: now) {
        directives += self.resume(entry, at: now)
      } else {
        self.share(entry, at: now)
      }
    }
    return directives + self.dispatch(at: now)
  }

  /// What was published and is another's, that one has heard as well.
  private mutating func share(_ entry: Pending, at now: Moment) {
    guard entry.door == .redis, !entry.isShared,
      self.standing(of: entry.command.serial, at: now) != .fenced
    else { return }
    self.pending[entry.command.id]?.isShared = true
  }

  /// It is this node's to end.
  private mutating func resume(_ entry: Pending, at now: Moment) -> [Directive] {
    let id = entry.command.id
    if self.isSole(entry, at: now), entry.isPast(at: now.uptime) {
      return self.finish(id, .expired, detail: CommandDetail.expired, at: now)
    }
    if self.sessions[entry.command.serial] != nil { return self.post(id) }
    return self.waitOrGiveUp(id, at: now)
  }

  /// Whom to pass it on to.
  private func target(of entry: Pending, at now: Moment) -> NodeID? {
    guard case .others(let owner) = self.standing(of: entry.command.serial, at: now) else {
      return nil
    }
    return entry.hint ?? owner
  }

  // MARK: Passing on

  /// Gives every peer that is free what is held for it.
  mutating func dispatch(at now: Moment) -> [Directive] {
    guard !self.away.isEmpty else { return [] }
    var wanted: [NodeID: [Pending]] = [:]
    for id in self.away {
      guard let entry = self.pending[id], entry.phase == .held,
        let node = self.target(of: entry, at: now),
        self.couriers[node]?.isFree(at: now.uptime) ?? true
      else { continue }
      wanted[node, default: []].append(entry)
    }
    return wanted.sorted { $0.key < $1.key }.map { node, entries in
      self.send(entries.sorted { $0.number < $1.number }, to: node)
    }
  }

  private mutating func send(_ entries: [Pending], to node: NodeID) -> Directive {
    self.batches += 1
    var batch = PassBatch(to: node, number: self.batches, commands: [])
    var bytes = 0
    for entry in entries.prefix(PassBatch.commandsMax) {
      bytes += entry.command.body.count
      if bytes > PassBatch.bodyBytesMax { break }
      batch.commands.append(
        PassedCommand(
          command: entry.command, wasSent: entry.wasSent, isShared: entry.isShared,
          tellAgain: entry.door == .attach))
      self.put(
        entry.command.id, in: .passing(to: node, number: batch.number), until: entry.phaseEndsAt)
    }
    self.couriers[node, default: Courier()].number = batch.number
    self.couriers[node]!.ids = batch.commands.map(\.command.id)
    self.couriers[node]!.againAt = nil
    return .pass(batch)
  }

  mutating func passed(
    to node: NodeID, number: UInt64, _ answers: [PassAnswer]?, at now: Moment
  ) -> [Directive] {
    guard let courier = self.couriers[node], courier.number == number else { return [] }
    self.couriers[node]!.number = nil
    self.couriers[node]!.ids = []
    let isComplete = answers?.count == courier.ids.count
    var directives: [Directive] = []
    var slow: Set<NodeID> = []
    for (place, id) in courier.ids.enumerated() {
      // It may have ended meanwhile.
      guard let entry = self.pending[id], entry.phase == .passing(to: node, number: number) else {
        continue
      }
      self.pending[id]!.hint = nil
      // The peer may have taken it.
      if !isComplete { self.pending[id]!.isShared = true }
      switch isComplete ? answers![place] : .busy {
      case .taken where entry.isAwaited:
        self.put(id, in: .awaited(at: node), until: entry.phaseEndsAt)
        directives.append(.awaitResult(id, at: node))
      case .taken:
        self.remove(id, at: now)
      case .ended(let result):
        directives.append(self.endedElsewhere(result, at: now))
      case .notMine(let owner):
        let isNews = owner != nil && owner != node && owner != self.owners?.me
        if isNews, entry.hints < CommandMachine.hintsMax {
          self.pending[id]!.hint = owner
          self.pending[id]!.hints += 1
        } else {
          self.pending[id]!.hints = 0
          slow.insert(self.target(of: self.pending[id]!, at: now) ?? node)
        }
        self.put(id, in: .held, until: entry.phaseEndsAt)
      case .busy:
        self.put(id, in: .held, until: entry.phaseEndsAt)
        slow.insert(node)
      }
    }
    if slow.isEmpty { self.couriers[node] = nil }
    for node in slow { self.pause(node, at: now) }
    return directives + self.reconsider(at: now)
  }

  /// It did not take what it was given, or does not know who would.
  private mutating func pause(_ node: NodeID, at now: Moment) {
    guard self.couriers[node]?.number == nil else { return }
    let pause =
      self.couriers[node]?.pause.map { min($0 * 2, self.settings.passAgainMax) }
      ?? self.settings.passAgainMin
    let againAt = now.uptime.advanced(by: pause)
    self.couriers[node, default: Courier()].pause = pause
    self.couriers[node]!.againAt = againAt
    self.sweep(by: againAt)
  }

  /// The vendor app has its result from the peer.
  private mutating func endedElsewhere(
    _ result: FinishedCommand, at now: Moment
  ) -> Directive {
    self.remove(result.id, at: now)
    self.recent.insert(result, at: now.uptime)
    return .tell(result)
  }

  mutating func awaited(
    _ id: CommandID, at node: NodeID, _ result: FinishedCommand?, at now: Moment
  ) -> [Directive] {
    guard let entry = self.pending[id], entry.phase == .awaited(at: node) else { return [] }
    if let result { return [self.endedElsewhere(result, at: now)] }
    // The peer is gone, or has passed it on itself. Under the same id it can be offered again.
    self.put(id, in: .held, until: entry.phaseEndsAt)
    self.pause(node, at: now)
    return self.reconsider(at: now)
  }

  /// Nothing can be passed on any more.
  mutating func giveUpAway(at now: Moment) -> [Directive] {
    self.inOrder(Array(self.away)).flatMap { self.overdue($0, at: now) }
  }

  // MARK: From a peer

  /// What this node says to a command that a peer passes on to it.
  mutating func receive(
    _ passed: PassedCommand, at now: Moment
  ) -> (answer: PassAnswer, directives: [Directive]) {
    let command = passed.command
    if let known = self.recent.result(of: command.id) {
      return (.ended(known), passed.tellAgain ? [.deliverAgain(known)] : [])
    }
    let standing = self.standing(of: command.serial, at: now)
    switch standing {
    case .others(let owner): return (.notMine(owner), [])
    case .unknown: return (.notMine(nil), [])
    case .fenced: return (.busy, [])
    case .mine: break
    }
    if var entry = self.pending[command.id] {
      entry.wasSent = entry.wasSent || passed.wasSent
      entry.isShared = entry.isShared || passed.isShared
      self.pending[command.id] = entry
      // Not left to wait for a peer, which may be waiting for this node.
      return (.taken, entry.phase.isAway ? self.resume(entry, at: now) : [])
    }
    // While stopping: for the next owner.
    if self.stopping || self.excess(for: command.serial) != nil { return (.busy, []) }
    return (.taken, self.enter(passed, by: .peer, standing, at: now))
  }
}

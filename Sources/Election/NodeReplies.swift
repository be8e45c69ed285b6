extension NodeMachine {
  mutating func replied(
    _ id: CallID, _ reply: StoreReply, at now: Instant, _ out: inout Gathered
  ) {
    guard let purpose = underWay.take(id) else { return }
    switch (purpose, reply) {
    case (.heartbeat(let counter), .view(let view)):
      guard !ownership.isOutdated(view) else {
        beat(.outdated(counter: counter), at: now, &out)
        return
      }
      // In this order: a range that is lost is gone before the deadline of all is moved.
      saw(view, at: now, &out)
      beat(.confirmed(counter: counter), at: now, &out)
      failsafe.storeAnswered()
      if statusToldBy == counter {
        statusToldBy = nil
        if let leader = leadership.leader?.leader, leader != me { out.append(.nudge(leader.node)) }
      }
      lead(at: now, &out)
    case (_, .replaced(_, let by)):
      life = .over
      leadership.resign()
      put(ownership.stopped(), at: now, &out)
      out.append(.replaced(by: by))
    case (.ranges, .ranges(let identity, let version, let records)):
      put(ownership.saw(records, of: identity, version: version), at: now, &out)
      if hasClaimed { beat(.nudged, at: now, &out) }
    case (.assertion(let through), .ranges(let identity, let version, let records)):
      put(ownership.saw(records, of: identity, version: version), at: now, &out)
      assert(ownership.unconfirmed.filter { $0.first > through }, &out)
    case (.handOver(let first, let to), .ranges(let identity, let version, let records)):
      put(ownership.saw(records, of: identity, version: version), at: now, &out)
      if records.contains(where: { $0.first == first && $0.owner?.node == to }) {
        out.append(.nudge(to))
      }
    case (.campaign, .leader(let identity, let record)):
      if identity == ownership.identity {
        leadership.saw(record)
        lead(at: now, &out)
      }
    case (.lead(let nudging), .leader(let identity, let record)):
      if identity == ownership.identity { leadership.saw(record) }
      for node in nudging { out.append(.nudge(node)) }
      // What was ordered is seen sooner, and the next orders with it.
      beat(.nudged, at: now, &out)
    case (_, .otherStore):
      beat(.nudged, at: now, &out)
    case (.order, .done(let identity)):
      if identity == ownership.identity { beat(.nudged, at: now, &out) }
    case (.release, _):
      life = .over
      out.append(.stopped)
    default:
      break
    }
  }

  mutating func unreachable(_ id: CallID, at now: Instant, _ out: inout Gathered) {
    guard let purpose = underWay.take(id) else { return }
    switch purpose {
    case .heartbeat(let counter):
      beat(.unreachable(counter: counter), at: now, &out)
      leadership.missed(session.failures)
    // Again, but not at once: a store that is gone refuses at once.
    case .release: releaseDueAt = now + timing.renewEvery
    // Whether it ran shows in the next view.
    case .ranges, .assertion, .handOver, .campaign, .lead, .order: break
    }
  }

  private mutating func saw(_ view: StoreView, at now: Instant, _ out: inout Gathered) {
    // Judged before the promises of a former store are forgotten: by them it may still act.
    let validUntil = validUntil
    let isFenced = validUntil.map { now >= $0 } ?? true
    let isSure = list.added[me.node] != nil && (!isFenced || session.isFresh(at: now))
    if view.identity != ownership.identity {
      watch.forget()
      failsafe.meetStore()
      duties.meetStore()
      consents = [:]
      consentAskedAt = [:]
    }
    let directives = ownership.saw(view, validUntil: validUntil, isSure: isSure, at: now)
    let isNews = watch.see(view.sessions, at: now)
    failsafe.see(view.sessions, in: view.identity)
    // Nobody has a session in a store that was emptied; those that are mentioned are missing from now.
    for i in view.ranges.indices { mention(view.ranges[i].owner, at: now) }
    mention(view.leader?.leader, at: now)
    // Else time alone makes claims due, and time was thought of.
    if isNews || hasClaimed || !view.ranges.isEmpty { claimsDueAt = now }
    hasClaimed = false
    if !consents.isEmpty {
      consents = consents.filter { key, _ in key.map { watch.watched($0.node) == $0 } ?? true }
      consentAskedAt = consentAskedAt.filter { consents[$0.key] != nil }
    }
    if view.list.number > list.number {
      list = view.list
      claimsDueAt = now
    }
    if !ownership.isSure, isEverybodyAccountedFor(view, at: now) {
      ownership.becomeSure(at: now)
      claimsDueAt = now
    }
    leadership.sawView(view.leader)
    if duties.isPaused != view.isPaused { duties.isPaused = view.isPaused }
    loads = loads.filter {
      ownership.holdings[$0.key] != nil && ownership.table[$0.key]?.load != $0.value
    }
    put(directives, at: now, &out)
  }

  /// Whoever acts by promises that this node does not count for ends within a TTL: of those who cannot have
  /// been taken off by a former store f + 1 have met this one, or all that are listed have, or it is so
  /// long ago that they have ended.
  private func isEverybodyAccountedFor(_ view: StoreView, at now: Instant) -> Bool {
    if !ownership.isQuarantined(at: now) { return true }
    let needed = failsafe.consentsNeeded(list: list)
    if needed > 0, view.sessions.count(where: { $0.sureOf == view.identity }) >= needed {
      return true
    }
    return list.nodes.allSatisfy { node in
      node == me.node || view.sessions.contains { $0.node == node && $0.knows == view.identity }
    }
  }

  private mutating func mention(_ owner: Owner?, at now: Instant) {
    guard let owner else { return }
    watch.watch(owner.node, at: now)
    failsafe.mention(owner.node)
  }

  /// Carries over what the ownership machine wants done.
  mutating func put(
    _ directives: [OwnershipMachine.Directive], at now: Instant, _ out: inout Gathered
  ) {
    for directive in directives {
      switch directive {
      case .actingChanged: out.actingChanged()
      case .seal(let first, let move): out.append(.seal(first, move: move))
      case .assert(let ranges): assert(ranges, &out)
      case .handOver(let first, let move):
        guard let to = ownership.table[first]?.move?.to,
          !underWay.values.contains(.handOver(first, to: to))
        else { continue }
        call(.handOver(me, range: first, move: move), .handOver(first, to: to), &out)
      }
    }
  }

  /// In parts, one after another: what keeps the store busy keeps everybody's heartbeats waiting.
  private mutating func assert(_ ranges: [OwnedRange], _ out: inout Gathered) {
    let part = Array(ranges.prefix(StoreCall.rangesMax))
    guard let last = part.last, !underWay.values.contains(where: \.isAssertion) else { return }
    call(.assert(me, part), .assertion(through: last.first), &out)
  }

  /// Makes the claims that are due, a call for each owner they are claimed from. What is too much for one
  /// comes again after the next view.
  mutating func claim(at now: Instant, _ out: inout Gathered) {
    guard !hasClaimed else { return }
    guard now >= claimsDueAt else {
      if claimsDueAt < .distantFuture { out.wake(at: claimsDueAt) }
      return
    }
    let (wanted, nextAt) = ownership.claims(watch: watch, isDraining: status.draining, at: now)
    claimsDueAt = nextAt
    if nextAt < .distantFuture { out.wake(at: nextAt) }
    guard list.added[me.node] != nil else { return }
    for claim in wanted {
      guard !claim.needsConsent || isConsented(against: claim.from, at: now, &out) else {
        // Looked at again when a consent comes, or when it may be asked for once more.
        claimsDueAt = min(claimsDueAt, now + timing.rankDelay)
        continue
      }
      call(
        .claim(
          StoreCall.Claim(
            claimer: me, list: list.number, watched: claim.from,
            ranges: Array(claim.ranges.prefix(StoreCall.rangesMax)))),
        .ranges, &out)
      hasClaimed = true
    }
  }

  // MARK: Leading

  private mutating func lead(at now: Instant, _ out: inout Gathered) {
    guard life == .running, case .leading(let term) = leadership.role,
      let record = leadership.leader,
      !ownership.isQuarantined(at: now), !underWay.values.contains(where: \.isLead)
    else { return }
    var (actions, removals) = duties.orders(
      LeaderDuties.Sight(
        table: ownership.table, version: ownership.version, list: list, watch: watch,
        floors: ownership.floors),
      at: now)
    leadDueAt = duties.nextAt > now ? duties.nextAt : .distantFuture
    for removal in removals
    where removal.isReleased || isConsented(against: removal.watched, at: now, &out) {
      actions.append(.removeMember(removal.watched, list: list.number))
    }
    guard !actions.isEmpty else { return }
    let movers = Set(actions.compactMap(\.mover)).subtracting([me.node])
    call(
      .lead(me, term, order: record.orders + 1, actions), .lead(nudging: movers.sorted()), &out)
  }
}

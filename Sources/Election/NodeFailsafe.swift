extension NodeMachine {
  // MARK: Asking

  /// While heartbeats are not answered, every listed member is asked for its promise, or first whether it is
  /// heard.
  mutating func askForPromises(at now: Instant, _ out: inout Gathered) {
    guard wantsPromises else { return }
    if let askedAt = promiseAskedAt, now < askedAt + timing.renewEvery {
      out.wake(at: askedAt + timing.renewEvery)
      return
    }
    promiseAskedAt = now
    let round = failsafe.ask(at: now)
    for node in list.nodes where node != me.node {
      askForPromise(of: node, round: round, isProbe: !failsafe.isHeard(node), &out)
    }
    out.wake(at: now + timing.renewEvery)
  }

  private var wantsPromises: Bool {
    session.failures > 0 && !ownership.holdings.isEmpty && list.added[me.node] != nil
  }

  private mutating func askForPromise(
    of node: NodeID, round: UInt64, isProbe: Bool, _ out: inout Gathered
  ) {
    guard let identity = ownership.identity else { return }
    let request = FailsafeMachine.PromiseRequest(
      asker: me, round: round, identity: identity, version: ownership.version, isProbe: isProbe)
    out.append(.ask(node, .promise(request)))
  }

  /// Whether f + 1 members consent, this one counted. Asks those that have not been asked lately.
  mutating func isConsented(
    against watched: StoreCall.Watched?, at now: Instant, _ out: inout Gathered
  ) -> Bool {
    guard failsafe.consent(against: watched, list: list, at: now) else {
      out.wake(at: now + timing.rankDelay)
      return false
    }
    let given = consents[watched, default: []].filter { list.added[$0] != nil }.union([me.node])
    consents[watched] = given
    if given.count >= failsafe.consentsNeeded(list: list) { return true }
    let nextAt = (consentAskedAt[watched] ?? Instant(nanoseconds: .min)) + timing.renewEvery
    guard now >= nextAt, let identity = ownership.identity else {
      out.wake(at: nextAt)
      return false
    }
    consentAskedAt[watched] = now
    let request = FailsafeMachine.ConsentRequest(asker: me, identity: identity, against: watched)
    for node in list.nodes where node != me.node && node != watched?.node && !given.contains(node) {
      out.append(.ask(node, .consent(request)))
    }
    out.wake(at: now + timing.renewEvery)
    return false
  }

  mutating func answered(
    _ answer: Answer, by member: NodeID, at now: Instant, _ out: inout Gathered
  ) {
    switch answer {
    case .refused: break
    case .heard(let round):
      if failsafe.heard(member, round: round), wantsPromises, list.added[member] != nil {
        askForPromise(of: member, round: round, isProbe: false, &out)
      }
    case .promised(let round, let identity, let version, let news):
      _ = failsafe.heard(member, round: round)
      guard identity == ownership.identity else { return }
      // What was lost is gone before the deadline of all is moved. News that can't be told from old
      // stories give no promise either; the next ones will.
      if !news.isEmpty {
        guard version >= ownership.newest else { return }
        put(ownership.saw(news, of: identity, version: version), at: now, &out)
      }
      failsafe.promised(by: member, round: round)
    case .consented(let against):
      if consents[against]?.insert(member).inserted == true { claimsDueAt = now }
    }
  }

  // MARK: Asked

  mutating func answer(_ question: Question, by asker: NodeID, at now: Instant) -> Answer {
    switch question {
    case .promise(let request):
      guard request.asker.node == asker else { return .refused }
      if request.isProbe { return .heard(round: request.round) }
      guard request.identity == ownership.identity,
        failsafe.promise(to: asker, list: list, at: now)
      else { return .refused }
      let news =
        ownership.version > request.version
        ? ownership.table.values.filter { $0.changed > request.version } : []
      return .promised(
        round: request.round, request.identity, version: ownership.version, news: news)
    case .consent(let request):
      guard request.identity == ownership.identity, !ownership.isQuarantined(at: now),
        request.against?.node != me.node,
        failsafe.consent(against: request.against, list: list, at: now)
      else { return .refused }
      return .consented(against: request.against)
    }
  }
}

import Election

/// What happens: to nodes, in the store, on the way.
extension Simulation {
  mutating func handle(_ item: consuming Item) throws(Violation) {
    if let i = item.node, nodes[i].isPaused {
      nodes[i].waiting.append(item)
      return
    }
    switch consume item {
    case .wake(let i, let life):
      guard nodes[i].wakeAt == now else { return }
      try step(i, life, .wake)
    case .arrive(let i, let life, let id, let call, let known):
      arrive(i, life, id, call, known)
    case .reply(let i, let life, let id, let reply):
      guard nodes[i].life == life, nodes[i].callsUnderWay.remove(id) != nil else { return }
      try step(i, life, .replied(id, reply))
    case .timeout(let i, let life, let id):
      guard nodes[i].life == life, nodes[i].callsUnderWay.remove(id) != nil else { return }
      try step(i, life, .unreachable(id))
    case .ask(let from, let life, let to, let question):
      guard network.reaches(from, to), nodes[to].isUp else { return }
      nodes[to].asks += 1
      nodes[to].askers[nodes[to].asks] = (from, life)
      try step(to, nodes[to].life, .asked(question, by: nodes[from].id, token: nodes[to].asks))
    case .answer(let from, let to, let life, let answer):
      guard network.reaches(from, to) else { return }
      try step(to, life, .answered(answer, by: nodes[from].id))
    case .tell(let i, let life, let event): try step(i, life ?? nodes[i].life, event)
    case .announced(let event, let hearers):
      for i in hearers {
        if nodes[i].isPaused {
          nodes[i].waiting.append(.tell(node: i, life: nil, event))
        } else {
          try step(i, nodes[i].life, event)
        }
      }
    case .start(let i): try start(i)
    case .resume(let i): try resume(i)
    case .heal(let fault): heal(fault)
    case .fault: makeFault()
    case .loads: reportLoads()
    case .peace: makePeace()
    case .lookAround: try judgeRecovery()
    case .judge: try judgePeace()
    }
  }

  private mutating func arrive(
    _ i: Int, _ life: UInt64, _ id: NodeMachine.CallID, _ call: StoreCall, _ known: StoreIdentity?
  ) {
    guard storeIsUp, network.reachesStore(i) else { return }
    if !options.isPlain, random.once(in: 50) { earlier = store }
    let reply = store.run(call, for: known)
    if chronicle != nil {
      let seen = self
      chronicle?.ran(call, in: seen)
    }
    if case .handOver(let from, _, _) = call, case .ranges(_, _, let records) = reply,
      records.contains(where: { $0.owner?.node != from.node })
    {
      report.moves += 1
    }
    if isTraced { note("  \(nodes[i].id)/\(life) \(call) -> \(reply)") }
    guard network.reachedByStore(i), !network.loses(&random) else { return }
    let reaches = now + network.delay(&random)
    agenda.enter(.reply(node: i, life: life, id: id, reply), at: reaches)
  }

  private mutating func start(_ i: Int) throws(Violation) {
    guard !nodes[i].isUp else { return }
    nodes[i].start(tolerance: options.tolerance)
    if isTraced { note("\(nodes[i].id) starts, life \(nodes[i].life)") }
    try step(i, nodes[i].life, .wake)
  }

  /// What came meanwhile is there at once, and timers that have run out are, too.
  private mutating func resume(_ i: Int) throws(Violation) {
    guard nodes[i].isPaused else { return }
    nodes[i].isPaused = false
    let waiting = nodes[i].waiting
    nodes[i].waiting = []
    try look(at: i)
    if random.once(in: 2) { try step(i, nodes[i].life, .wake) }
    for item in waiting { try handle(item) }
    if !nodes[i].isPaused { try step(i, nodes[i].life, .wake) }
  }

  /// Lets a node take a step and carries out what it wants, unless it dies on the way.
  private mutating func step(
    _ i: Int, _ life: UInt64, _ event: NodeMachine.Event
  ) throws(Violation) {
    guard nodes[i].isUp, nodes[i].life == life else { return }
    if case .wake = event { nodes[i].wakeAt = nil }
    for directive in nodes[i].machine!.step(event, at: nodes[i].clock(now)) {
      if crashesBetweenDirectives, random.once(in: 20_000) {
        crash(i, comesBackIn: random.ns(ms: 20...4000))
        return
      }
      chronicle?.told(directive, nodes[i].id, at: now)
      if isTraced, !directive.isWake { note("  \(nodes[i].id)/\(life) \(directive)") }
      try carryOut(directive, i, life)
      guard nodes[i].isUp else { return }
    }
  }

  private var crashesBetweenDirectives: Bool {
    !isPeace && options.faultEvery != nil && options.faults.contains(.crash)
  }

  private mutating func carryOut(
    _ directive: NodeMachine.Directive, _ i: Int, _ life: UInt64
  ) throws(Violation) {
    switch directive {
    case .call(let id, let call, let known):
      let timeout = nodes[i].trueTime(after: nodes[i].timing.callTimeout, from: now)
      nodes[i].callsUnderWay.insert(id)
      agenda.enter(.timeout(node: i, life: life, id: id), at: timeout)
      guard !network.loses(&random) else { return }
      agenda.enter(
        .arrive(node: i, life: life, id: id, call, known: known), at: now + network.delay(&random))
    case .ask(let node, let question):
      guard let to = index(of: node), !network.loses(&random) else { return }
      agenda.enter(
        .ask(from: i, life: life, to: to, question), at: now + network.delay(&random))
    case .answer(let token, let answer):
      guard let (to, life) = nodes[i].askers.removeValue(forKey: token), !network.loses(&random)
      else { return }
      agenda.enter(.answer(from: i, to: to, life: life, answer), at: now + network.delay(&random))
    case .nudge(let node):
      guard let to = index(of: node), network.reaches(i, to) else { return }
      agenda.enter(.tell(node: to, life: nil, .nudged), at: now + network.delay(&random))
    case .announce(let counter, let hearers):
      var reached: [Int] = []
      for hearer in hearers {
        guard let to = index(of: hearer), network.reaches(i, to), !network.loses(&random) else {
          continue
        }
        reached.append(to)
      }
      guard !reached.isEmpty, let me = nodes[i].machine?.me else { return }
      agenda.enter(
        .announced(.announced(me, counter: counter), to: reached), at: now + network.delay(&random))
    case .actingChanged: try look(at: i)
    case .seal(let first, let move):
      agenda.enter(
        .tell(node: i, life: life, .sealed(first, move: move)),
        at: now + (options.isPlain ? 10_000_000 : random.ns(ms: 0.1...30)))
    case .wake(let at):
      let at = max(nodes[i].trueTime(of: at), now + 1)
      // One that is earlier, or as early, will look again itself.
      if let wakeAt = nodes[i].wakeAt, wakeAt <= at { return }
      nodes[i].wakeAt = at
      agenda.enter(.wake(node: i, life: life), at: at)
    case .stopped, .replaced:
      // In peace whoever is down is started soon, also one whose stop was held up until then.
      let down = random.ns(ms: isPeace ? 0...500 : 100...3000)
      end(i, comesBackIn: options.isPlain ? nil : down)
    }
  }

  private func index(of node: NodeID) -> Int? { nodes.firstIndex { $0.id == node } }

  mutating func crash(_ i: Int, comesBackIn ns: Int64?) {
    guard nodes[i].isUp else { return }
    if isTraced { note("\(nodes[i].id) dies") }
    report.crashes += 1
    end(i, comesBackIn: ns)
  }

  private mutating func end(_ i: Int, comesBackIn ns: Int64?) {
    nodes[i].end()
    oracle.gone(i, at: now)
    if let ns { agenda.enter(.start(i), at: now + ns) }
  }
}

extension NodeMachine.Directive {
  fileprivate var isWake: Bool { if case .wake = self { true } else { false } }
}

extension Simulation.Item {
  /// The node that it happens to, in its own process; one that is paused does not notice.
  fileprivate var node: Int? {
    switch self {
    case .wake(let i, _), .reply(let i, _, _, _), .timeout(let i, _, _), .tell(let i, _, _),
      .ask(_, _, let i, _), .answer(_, let i, _, _):
      i
    case .arrive, .announced, .start, .resume, .heal, .fault, .loads, .peace, .lookAround, .judge:
      nil
    }
  }
}

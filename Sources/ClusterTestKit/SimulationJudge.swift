import Election

/// What must hold.
extension Simulation {
  /// What the node acts for has changed, or it acts again.
  mutating func look(at i: Int) throws(Violation) {
    guard !nodes[i].isPaused, let (ranges, until) = nodes[i].right else { return }
    let stale: [OwnedRange]
    do throws(Oracle.Fault) {
      stale = try oracle.acts(
        i, life: nodes[i].life, ranges: ranges, until: until, at: now,
        isPaused: { nodes[$0].isPaused })
    } catch {
      throw violation(error.description)
    }
    // As controllers would tell it. Through the agenda: this node is in the middle of a step.
    if !stale.isEmpty {
      agenda.enter(.tell(node: i, life: nodes[i].life, .epochsSeen(stale)), at: now)
    }
  }

  mutating func makePeace() {
    isPeace = true
    if isTraced { note("peace") }
    healAll()
    oracle.peaceBegan(at: now)
    agenda.enter(.lookAround, at: now + Int64(options.recoversIn * 1e9))
    agenda.enter(.judge, at: now + Int64(options.peaceFor * 1e9))
  }

  /// Everything works again, but for nodes that are still down.
  mutating func judgeRecovery() throws(Violation) {
    // Moves may be under way: a pause of theirs is short.
    if let serial = oracle.unserved(since: now - 100_000_000) {
      throw violation("nobody acts for \(serial) \(options.recoversIn) s after the last fault")
    }
  }

  /// After a time of peace every serial has one owner who acts, and nothing is half done.
  mutating func judgePeace() throws(Violation) {
    try judge("after \(options.peaceFor) s of peace")
    isPeace = false
    if options.loadsEvery != nil { agenda.enter(.loads, at: now) }
    if let every = options.faultEvery {
      agenda.enter(.fault, at: now + random.ns(ms: 0...(every * 2000)))
    }
    agenda.enter(.peace, at: now + Int64(options.faultyFor * 1e9))
  }

  func judge(_ after: String) throws(Violation) {
    var covered: [OwnedRange] = []
    for node in nodes {
      guard let machine = node.machine, let until = machine.validUntil, node.clock(now) < until
      else { throw violation("\(node.id) does not act \(after)") }
      covered += machine.acting
    }
    covered.sort { $0.first < $1.first }
    var next: Serial? = .lowest
    for range in covered {
      guard range.first == next else { throw violation("nobody acts for \(next!) \(after)") }
      next = range.last < .highest ? Serial(range.last.rawValue + 1) : nil
    }
    if let next { throw violation("nobody acts for \(next) \(after)") }
    if let record = store.allRanges.first(where: { $0.move != nil }) {
      throw violation("\(record.move!) of \(record.first) is still under way \(after)")
    }
    let leaders = nodes.filter { if case .leading = $0.machine?.role { true } else { false } }
    guard leaders.count == 1 else { throw violation("\(leaders.count) leaders \(after)") }
    guard store.list.nodes == nodes.map(\.id).sorted() else {
      throw violation("the list is \(store.list.nodes) \(after)")
    }
  }
}

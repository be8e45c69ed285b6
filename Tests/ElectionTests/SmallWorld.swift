import Election

/// Two nodes and a store, small enough that every sequence of a few events can be tried. A value: what
/// follows from a state is tried on copies of it.
///
/// The clocks differ from true as much as they may, in the direction that hurts: the first node, which
/// owns, thinks that less time has passed; the second, which waits for it to die, that more has.
struct SmallWorld: Equatable {
  enum Letter: Equatable {
    case call(NodeMachine.CallID, StoreCall, StoreIdentity?)
    case event(NodeMachine.Event)
  }

  struct Envelope: Equatable {
    var node: Int
    var life: UInt64
    var letter: Letter
  }

  private struct Timeout: Equatable {
    var at: Int64
    var node: Int
    var id: NodeMachine.CallID
  }

  /// Which way a node's messages do not get through.
  struct Cut: Equatable {
    var toStore = false
    var fromStore = false
    var peer = false
    var isPaused = false
  }

  struct Broken: Error, CustomStringConvertible {
    var description: String
  }

  static let names = [nodeA, nodeB]
  /// Local time for 100 units of true time.
  private static let rates: [Int64] = [99, 101]
  static let round: Int64 = 300_000_000

  static let timing: Timing = {
    do {
      return try Timing(
        ttl: .milliseconds(1200), renewEvery: .milliseconds(300), callTimeout: .milliseconds(300),
        moveTimeout: .milliseconds(2400), removeAfter: .milliseconds(2400))
    } catch { preconditionFailure("\(error)") }
  }()

  private(set) var now: Int64 = 0
  private(set) var nodes: [NodeMachine?] = [nil, nil]
  private var lives: [UInt64] = [0, 0]
  private var memories = [NodeMachine.Memory(), NodeMachine.Memory()]
  private var wakeAt: [Int64?] = [nil, nil]
  private var timeouts: [Timeout] = []
  private var cuts = [Cut(), Cut()]
  private var waiting: [[Envelope]] = [[], []]
  private(set) var mail: [Envelope] = []
  private(set) var store = MemoryStore(identity: StoreIdentity("00001"))
  /// As it was a round ago: what a failover goes back to.
  private var earlier = MemoryStore(identity: StoreIdentity("00001"))
  private var identities = 1
  /// Under which epoch and by whom the lowest and the highest serial were last acted for.
  private var acted: [Acted?] = [nil, nil]

  private struct Acted: Equatable {
    var epoch: Epoch
    var node: Int
    var life: UInt64
  }

  // MARK: Events

  mutating func start(_ i: Int) throws {
    lives[i] += 1
    nodes[i] = NodeMachine(
      me: Owner(SmallWorld.names[i], Incarnation(lives[i])), timing: SmallWorld.timing,
      memory: memories[i])
    try step(i, .wake)
  }

  mutating func crash(_ i: Int) {
    guard let node = nodes[i] else { return }
    memories[i] = node.memory
    nodes[i] = nil
    wakeAt[i] = nil
    timeouts.removeAll { $0.node == i }
    waiting[i] = []
  }

  mutating func emptyStore() {
    identities += 1
    store = MemoryStore(identity: StoreIdentity("0000\(identities)"))
  }

  mutating func failOver() {
    identities += 1
    store = earlier
    store.become(StoreIdentity("0000\(identities)"))
  }

  mutating func tell(_ i: Int, _ event: NodeMachine.Event) throws { try step(i, event) }

  /// A round's time passes, with everything delivered that is not cut.
  mutating func pass(_ cuts: [Cut] = [Cut(), Cut()]) throws {
    self.cuts = cuts
    earlier = store
    let end = now + SmallWorld.round
    while true {
      try deliverAll()
      guard let at = nextAt, at <= end else { break }
      now = max(now, at)
      try fire()
    }
    now = end
    self.cuts = [Cut(), Cut()]
    for i in 0...1 where cuts[i].isPaused {
      // On waking, what came meanwhile is there before any timer is looked at.
      mail += waiting[i]
      waiting[i] = []
    }
    try deliverAll()
  }

  /// The next timer runs out; what is on its way stays there.
  mutating func tick() throws {
    guard let at = nextAt else { return }
    now = max(now, at)
    try fire()
  }

  mutating func deliver(_ index: Int) throws {
    let envelope = mail.remove(at: index)
    try hand(envelope)
  }

  mutating func lose(_ index: Int) { mail.remove(at: index) }

  // MARK: What must hold

  /// Everybody is well, and every serial is acted for by one.
  func isServed() -> Bool {
    var owners = 0
    for serial in [Serial.lowest, .highest] {
      for i in 0...1 where nodes[i]?.mayAct(for: serial, at: clock(i)) != nil { owners += 1 }
    }
    return owners == 2
  }

  private mutating func look() throws {
    for (probe, serial) in [Serial.lowest, .highest].enumerated() {
      var acting: (node: Int, epoch: Epoch)?
      for i in 0...1 {
        guard let epoch = nodes[i]?.mayAct(for: serial, at: clock(i)) else { continue }
        if let acting {
          throw Broken(
            description: "both act for \(serial): \(acting.epoch) of node-a, \(epoch) of node-b")
        }
        acting = (i, epoch)
      }
      guard let acting else { continue }
      if let last = acted[probe] {
        guard acting.epoch >= last.epoch else {
          throw Broken(description: "\(acting.epoch) of \(serial) after \(last.epoch)")
        }
        let isSame = last.node == acting.node && last.life == lives[acting.node]
        guard acting.epoch > last.epoch || isSame else {
          throw Broken(description: "\(acting.epoch) of \(serial) is given a second time")
        }
      }
      acted[probe] = Acted(epoch: acting.epoch, node: acting.node, life: lives[acting.node])
    }
  }

  // MARK: Machinery

  private func clock(_ i: Int) -> Instant {
    Instant(nanoseconds: now / 100 * SmallWorld.rates[i])
  }

  private func trueTime(_ local: Instant, _ i: Int) -> Int64 {
    let rate = SmallWorld.rates[i]
    return ((local.nanoseconds + rate - 1) / rate) * 100
  }

  private var nextAt: Int64? {
    let wakes = (0...1).filter { !cuts[$0].isPaused }.compactMap { wakeAt[$0] }
    return (wakes + timeouts.filter { !cuts[$0.node].isPaused }.map(\.at)).min()
  }

  private mutating func fire() throws {
    let due = timeouts.filter { $0.at <= now && !cuts[$0.node].isPaused }
    timeouts.removeAll { $0.at <= now && !cuts[$0.node].isPaused }
    for timeout in due { try step(timeout.node, .unreachable(timeout.id)) }
    for i in 0...1 where !cuts[i].isPaused {
      if let at = wakeAt[i], at <= now { try step(i, .wake) }
    }
  }

  private mutating func deliverAll() throws {
    while !mail.isEmpty { try deliver(0) }
  }

  private mutating func hand(_ envelope: Envelope) throws {
    let i = envelope.node
    switch envelope.letter {
    case .call(let id, let call, let known):
      guard !cuts[i].toStore else { return }
      let reply = store.run(call, for: known)
      guard !cuts[i].fromStore else { return }
      mail.append(Envelope(node: i, life: envelope.life, letter: .event(.replied(id, reply))))
    case .event(let event):
      guard nodes[i] != nil, lives[i] == envelope.life else { return }
      guard !cuts[i].isPaused else { return waiting[i].append(envelope) }
      if case .replied(let id, _) = event {
        guard timeouts.contains(where: { $0.node == i && $0.id == id }) else { return }
        timeouts.removeAll { $0.node == i && $0.id == id }
      }
      try step(i, event)
    }
  }

  private mutating func step(_ i: Int, _ event: NodeMachine.Event) throws {
    if case .wake = event { wakeAt[i] = nil }
    let local = clock(i)
    guard let directives = nodes[i]?.step(event, at: local) else { return }
    let peer = 1 - i
    for directive in directives {
      switch directive {
      case .call(let id, let call, let known):
        mail.append(Envelope(node: i, life: lives[i], letter: .call(id, call, known)))
        let at = trueTime(clock(i) + SmallWorld.timing.callTimeout, i)
        timeouts.append(Timeout(at: at, node: i, id: id))
      case .ask(_, let question):
        let token = UInt64(i) << 32 | lives[i]
        send(to: peer, .asked(question, by: SmallWorld.names[i], token: token))
      case .answer(let token, let answer):
        send(
          to: Int(token >> 32), .answered(answer, by: SmallWorld.names[i]),
          life: token & 0xFFFF_FFFF)
      case .nudge: send(to: peer, .nudged)
      case .announce(let counter, _):
        guard !cuts[0].peer, !cuts[1].peer, nodes[peer] != nil, let me = nodes[i]?.me else { break }
        // At once: nothing that is said of it can be heard sooner.
        try hand(
          Envelope(
            node: peer, life: lives[peer], letter: .event(.announced(me, counter: counter))))
      case .seal(let first, let move):
        mail.append(
          Envelope(node: i, life: lives[i], letter: .event(.sealed(first, move: move))))
      case .wake(let at):
        let at = max(trueTime(at, i), now + 1)
        wakeAt[i] = min(wakeAt[i] ?? at, at)
      case .actingChanged, .stopped, .replaced: break
      }
    }
    try look()
  }

  private mutating func send(to i: Int, _ event: NodeMachine.Event, life: UInt64? = nil) {
    guard !cuts[0].peer, !cuts[1].peer, nodes[i] != nil else { return }
    mail.append(Envelope(node: i, life: life ?? lives[i], letter: .event(event)))
  }
}

extension SmallWorld {
  /// Equal for equal worlds, and cheap: worlds with the same are compared whole.
  var digest: Int {
    var hasher = Hasher()
    hasher.combine(now)
    hasher.combine(mail.count)
    for envelope in mail {
      hasher.combine(envelope.node)
      if case .call(let id, _, _) = envelope.letter { hasher.combine(id) }
    }
    for i in 0...1 {
      hasher.combine(wakeAt[i])
      hasher.combine(lives[i])
      hasher.combine(nodes[i]?.validUntil)
      hasher.combine(nodes[i]?.acting)
      hasher.combine(nodes[i]?.ownership.version)
    }
    hasher.combine(store.allRanges)
    return hasher.finalize()
  }
}

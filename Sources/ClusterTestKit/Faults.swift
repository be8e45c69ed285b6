import Election

/// What goes wrong in a simulation.
public struct Fault: Sendable {
  public enum Kind: CaseIterable, Sendable {
    case crash, pause, cutOff, cutFromStore, cutFromPeers, oneWay
    case storeDown, storeEmptied, storeFailedOver, loss, slowness, stop, drain, unhealthy
    case deaf
  }

  var kind: Kind
  var node: Int
}

extension Simulation {
  mutating func makeFault() {
    guard !isPeace, let every = options.faultEvery else { return }
    agenda.enter(.fault, at: now + random.ns(ms: 0...(every * 2000)))
    let kind = options.faults[random.below(options.faults.count)]
    let fault = Fault(kind: kind, node: random.below(nodes.count))
    let lasts = random.ns(ms: random.once(in: 3) ? 1000...15_000 : 50...3000)
    report.faults += 1
    if isTraced { note("fault \(kind) \(nodes[fault.node].id) for \(lasts / 1_000_000) ms") }
    begin(fault, lasts: lasts)
    agenda.enter(.heal(fault), at: now + lasts)
  }

  private mutating func begin(_ fault: Fault, lasts: Int64) {
    let i = fault.node
    switch fault.kind {
    case .crash: crash(i, comesBackIn: lasts)
    case .pause:
      guard nodes[i].isUp, !nodes[i].isPaused else { return }
      nodes[i].isPaused = true
      agenda.enter(.resume(i), at: now + lasts)
    case .cutOff:
      network.setStore(i, to: false, from: false)
      network.setPeers(i, false, isOneWay: false)
    case .cutFromStore: network.setStore(i, to: false, from: false)
    case .cutFromPeers: network.setPeers(i, false, isOneWay: false)
    case .oneWay:
      if random.once(in: 2) {
        network.setStore(i, to: random.once(in: 2) ? false : nil, from: false)
      } else {
        network.setPeers(i, false, isOneWay: true)
      }
    case .deaf: network.deafen(i)
    case .storeDown: storeIsUp = false
    case .storeEmptied:
      store = MemoryStore(identity: newIdentity())
      earlier = store
    case .storeFailedOver:
      store = earlier
      store.become(newIdentity())
    case .loss: network.lossOneIn = 2 + random.below(20)
    case .slowness: network.slowOneIn = 5 + random.below(40)
    case .stop:
      guard nodes[i].isUp else { return }
      enter(.stop, i)
      agenda.enter(
        .tell(node: i, life: nodes[i].life, .workEnded), at: now + random.ns(ms: 1...500))
    case .drain: enter(.status(MemberStatus(draining: true)), i)
    case .unhealthy:
      // Of one, or of what all depend on, which they do not notice at once.
      let all = random.once(in: 3)
      for j in nodes.indices where all || j == i {
        agenda.enter(
          .tell(node: j, life: nil, .status(MemberStatus(healthy: false))),
          at: now + random.ns(ms: 0...500))
      }
    }
  }

  mutating func newIdentity() -> StoreIdentity {
    // 15 digits: a string of up to 15 bytes needs no memory of its own, and these are copied all the time.
    StoreIdentity(String((random.next() | 1 << 63) >> 4, radix: 16))
  }

  private mutating func enter(_ event: NodeMachine.Event, _ i: Int) {
    agenda.enter(.tell(node: i, life: nil, event), at: now)
  }

  /// Controllers come and go: ranges are split and joined.
  mutating func reportLoads() {
    guard !isPeace, let every = options.loadsEvery else { return }
    agenda.enter(.loads, at: now + random.ns(ms: 0...(every * 2000)))
    let i = random.below(nodes.count)
    guard nodes[i].isUp else { return }
    var loads: [Serial: RangeLoad] = [:]
    for range in nodes[i].ranges {
      let span = range.last.rawValue - range.first.rawValue
      let median = Serial(range.first.rawValue + span / 2 + 1)
      loads[range.first] = RangeLoad(
        weight: UInt64(random.below(random.once(in: 3) ? 1200 : 80)),
        median: span > 100 ? median : nil)
    }
    enter(.loads(loads), i)
  }

  mutating func heal(_ fault: Fault) {
    let i = fault.node
    switch fault.kind {
    case .cutOff, .cutFromStore, .cutFromPeers, .oneWay, .deaf:
      network.setStore(i, to: true, from: true)
      network.setPeers(i, true, isOneWay: false)
    case .storeDown: storeIsUp = true
    case .loss: network.lossOneIn = 0
    case .slowness: network.slowOneIn = 0
    case .drain: enter(.status(MemberStatus()), i)
    case .unhealthy:
      for j in nodes.indices {
        agenda.enter(
          .tell(node: j, life: nil, .status(MemberStatus())), at: now + random.ns(ms: 0...1000))
      }
    case .crash, .pause, .storeEmptied, .storeFailedOver, .stop: break
    }
  }

  mutating func healAll() {
    network.heal()
    storeIsUp = true
    for i in nodes.indices {
      if nodes[i].isPaused { agenda.enter(.resume(i), at: now) }
      if !nodes[i].isUp { agenda.enter(.start(i), at: now + random.ns(ms: 0...500)) }
      enter(.status(MemberStatus()), i)
    }
  }
}

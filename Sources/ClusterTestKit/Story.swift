public import Election

/// A cluster to which these things happen and no others, told in sentences. No chance is in it: the same
/// script is always the same story.
public struct Story {
  public enum Step: Sendable {
    case starts(Int)
    case dies(Int)
    case stops(Int)
    case drains(Int)
    /// It cannot serve, and says so.
    case losesVendorApp(Int)
    case reachesVendorApp(Int)
    case losesStore(Int)
    case losesAll(Int)
    case hearsNothing(Int)
    case reconnects(Int)
    case storeDown
    case storeUp
    /// What a failover goes back to.
    case storeCopied
    case storeEmptied
    case storeFailsOver
    /// A range of the node costs this, half of it below the serial.
    case weighs(Int, Serial, UInt64, half: Serial)

    public var text: String {
      switch self {
      case .starts(let i): "node-\(i) starts"
      case .dies(let i): "node-\(i) dies"
      case .stops(let i): "node-\(i) is told to stop"
      case .drains(let i): "node-\(i) is to be emptied"
      case .losesVendorApp(let i): "node-\(i) does not reach the vendor app"
      case .reachesVendorApp(let i): "node-\(i) reaches the vendor app again"
      case .losesStore(let i): "node-\(i) no longer reaches the store"
      case .losesAll(let i): "node-\(i) is cut off from everything"
      case .hearsNothing(let i): "node-\(i) hears nothing any more, and is heard"
      case .reconnects(let i): "node-\(i) is connected again"
      case .storeDown: "the store is away"
      case .storeUp: "the store is back"
      case .storeCopied: "the replica has a copy of the store, and falls behind"
      case .storeEmptied: "the store restarts empty"
      case .storeFailsOver: "the store fails over to the replica"
      case .weighs(let i, let first, let weight, let half):
        "node-\(i) has load \(weight) from \(first) on, half of it below \(half)"
      }
    }
  }

  private var simulation: Simulation
  private var script: [(seconds: Double, step: Step)]
  /// Told from here on; nil when that has begun.
  private var from: Int64?
  private let until: Int64

  /// - Parameters:
  ///   - seconds: where it begins to be told, and where it ends.
  ///   - script: by time.
  public init(
    nodes: Int, tolerance: Int = 0, seconds: ClosedRange<Double>,
    script: [(seconds: Double, step: Step)]
  ) {
    var options = Simulation.Options()
    options.nodes = nodes
    options.tolerance = tolerance
    options.faultEvery = nil
    options.loadsEvery = nil
    options.faultyFor = 1e6
    options.isPlain = true
    simulation = Simulation(seed: 1, options: options)
    simulation.chronicle = Chronicle(nodes: nodes)
    self.script = script
    from = Int64(seconds.lowerBound * 1e9)
    until = Int64(seconds.upperBound * 1e9)
  }

  /// There was somebody who acted, to crash.
  public private(set) var hasCrashed = false

  public var lines: [String] { simulation.chronicle?.lines ?? [] }

  /// Runs the story. When a node is to crash, it is the one that acts for the most ranges, right after
  /// that line; it is back after 2 s. Afterwards everything works again, and all must be well.
  public mutating func run(crashAfterLine line: Int? = nil) throws(Simulation.Violation) {
    var line = line
    while true {
      let stepAt = script.first.map { Int64($0.seconds * 1e9) } ?? until
      let nextAt = simulation.agenda.nextAt ?? until + 1
      if let from, min(nextAt, stepAt) >= from {
        self.from = nil
        let seen = simulation
        simulation.chronicle?.begin(seen, at: from)
      }
      if nextAt <= min(stepAt, until) {
        try simulation.handleNext()
      } else if !script.isEmpty, stepAt <= until {
        let step = script.removeFirst().step
        simulation.now = stepAt
        simulation.chronicle?.tell("* \(step.text)", at: stepAt)
        try carryOut(step)
      } else {
        break
      }
      simulation.lookAround()
      if from == nil, let wanted = line, lines.count > wanted {
        line = nil
        if let victim = simulation.acting {
          simulation.crash(victim, comesBackIn: 2_000_000_000)
          hasCrashed = true
        }
      }
    }
    let seen = simulation
    simulation.chronicle?.pass(to: until, in: seen)
  }

  /// Everything works again and every node is up; after a while all must be well.
  public mutating func endWell() throws(Simulation.Violation) {
    simulation.now = until
    simulation.healAll()
    try simulation.run(seconds: Double(until) / 1e9 + 12)
    try simulation.judge("12 s after the story")
  }

  private mutating func carryOut(_ step: Step) throws(Simulation.Violation) {
    let now = simulation.now
    switch step {
    case .starts(let i): try simulation.handle(.start(i))
    case .dies(let i): simulation.crash(i, comesBackIn: nil)
    case .stops(let i):
      try simulation.handle(.tell(node: i, life: nil, .stop))
      simulation.agenda.enter(.tell(node: i, life: nil, .workEnded), at: now + 20_000_000)
    case .drains(let i):
      try simulation.handle(.tell(node: i, life: nil, .status(MemberStatus(draining: true))))
    case .losesVendorApp(let i):
      try simulation.handle(.tell(node: i, life: nil, .status(MemberStatus(healthy: false))))
    case .reachesVendorApp(let i):
      try simulation.handle(.tell(node: i, life: nil, .status(MemberStatus())))
    case .losesStore(let i): simulation.network.setStore(i, to: false, from: false)
    case .losesAll(let i):
      simulation.network.setStore(i, to: false, from: false)
      simulation.network.setPeers(i, false, isOneWay: false)
    case .hearsNothing(let i): simulation.network.deafen(i)
    case .reconnects(let i):
      simulation.network.setStore(i, to: true, from: true)
      simulation.network.setPeers(i, true, isOneWay: false)
    case .storeDown: simulation.storeIsUp = false
    case .storeUp: simulation.storeIsUp = true
    case .storeCopied: simulation.earlier = simulation.store
    case .storeEmptied: simulation.store = MemoryStore(identity: simulation.newIdentity())
    case .storeFailsOver:
      simulation.store = simulation.earlier
      simulation.store.become(simulation.newIdentity())
    case .weighs(let i, let first, let weight, let half):
      let load = RangeLoad(weight: weight, median: half)
      try simulation.handle(.tell(node: i, life: nil, .loads([first: load])))
    }
  }
}

extension Simulation {
  fileprivate mutating func handleNext() throws(Violation) {
    guard let (at, item) = agenda.take() else { return }
    now = at
    let seen = self
    chronicle?.pass(to: at, in: seen)
    if case .reply(let i, _, _, _) = item { chronicle?.heard(nodes[i].id) }
    try handle(item)
  }

  /// Has the chronicle say what is another than before.
  fileprivate mutating func lookAround() {
    let seen = self
    chronicle?.look(seen)
  }

  /// The node that acts for the most ranges at this instant.
  fileprivate var acting: Int? {
    let right = nodes.indices.filter { nodes[$0].right.map { $0.until > now } ?? false }
    return right.max { nodes[$0].ranges.count < nodes[$1].ranges.count }
  }
}

import Election

/// A cluster in one value: nodes, store, network and clocks, all driven by one seed. Not sendable work:
/// a simulation runs on one thread, many of them run on many.
///
/// True time is in nanoseconds from 0. Each node has a clock of its own, with its own origin and rate.
public struct Simulation {
  public struct Options: Sendable {
    public var nodes = 5
    public var tolerance = 0
    /// Mean time between faults; nil for none.
    public var faultEvery: Double? = 3
    /// Seconds of faults, and then of peace at whose end everything must be well.
    public var faultyFor = 60.0
    public var peaceFor = 25.0
    /// Seconds after which, in peace, every serial is acted for again.
    public var recoversIn = 4.0
    /// Controllers' serials that are looked at.
    public var probes = 12
    public var faults = Fault.Kind.allCases
    /// Mean time between reports of loads, so that ranges are split, joined and moved; nil for none.
    public var loadsEvery: Double? = 2
    /// Nothing is left to chance: clocks are true, a message takes 1 ms, no node starts by itself.
    var isPlain = false
    public init() {}
  }

  /// A promise that was broken, with the seed to see it again.
  public struct Violation: Error, CustomStringConvertible {
    public var seed: UInt64
    public var atSeconds: Double
    public var what: String
    public var description: String { "seed \(seed), at \(atSeconds) s: \(what)" }
  }

  public struct Report: Sendable, Equatable {
    public var seconds = 0.0
    public var steps = 0
    public var faults = 0
    public var crashes = 0
    /// Times that another node began to act for a controller's serial.
    public var grants = 0
    /// Ranges handed over as planned.
    public var moves = 0
    /// From the end of faults until a controller was served again, in ms; only those that were not.
    public var recoveriesMs: [Double] = []
    /// From the end of an owner's right until another's began, of each controller that is looked at and
    /// each time, in ms; planned moves among them.
    public var gapsMs: [Double] = []
    public init() {}
  }

  enum Item {
    case wake(node: Int, life: UInt64)
    case arrive(
      node: Int, life: UInt64, id: NodeMachine.CallID, StoreCall, known: StoreIdentity?)
    case reply(node: Int, life: UInt64, id: NodeMachine.CallID, StoreReply)
    case timeout(node: Int, life: UInt64, id: NodeMachine.CallID)
    case ask(from: Int, life: UInt64, to: Int, NodeMachine.Question)
    case answer(from: Int, to: Int, life: UInt64, NodeMachine.Answer)
    /// To one life of the node, or to whichever it is in.
    case tell(node: Int, life: UInt64?, NodeMachine.Event)
    /// A heartbeat, as its sender tells the others of it: one item, because there are as many of these as of all else.
    case announced(NodeMachine.Event, to: [Int])
    case start(Int)
    case resume(Int)
    case heal(Fault)
    case fault
    case loads
    case peace
    case lookAround
    case judge
  }

  public let seed: UInt64
  let options: Options
  var random: Seeded
  var now: Int64 = 0
  var agenda = Agenda<Item>()
  var nodes: [SimulatedNode]
  var store: MemoryStore
  var storeIsUp = true
  /// The store as it was a moment ago: what a failover may go back to.
  var earlier: MemoryStore
  var network: SimulatedNetwork
  var isPeace = false
  var oracle: Oracle
  public internal(set) var report = Report()
  /// What happened, for people; filled only when wanted.
  public internal(set) var trace: [String] = []
  let isTraced: Bool
  /// Tells what happens in sentences.
  var chronicle: Chronicle?

  public init(seed: UInt64, options: Options = Options(), isTraced: Bool = false) {
    self.seed = seed
    self.options = options
    self.isTraced = isTraced
    random = Seeded(seed)
    store = MemoryStore(identity: StoreIdentity("000000000000001"))
    earlier = store
    network = SimulatedNetwork(nodes: options.nodes, isPlain: options.isPlain)
    oracle = Oracle(nodes: options.nodes, probes: options.probes)
    nodes = []
    for i in 0..<options.nodes {
      nodes.append(SimulatedNode(index: i, isPlain: options.isPlain, random: &random))
      let startsAt = random.ns(ms: 0...2000)
      if !options.isPlain { agenda.enter(.start(i), at: startsAt) }
    }
    if let every = options.faultEvery {
      agenda.enter(.fault, at: random.ns(ms: 5000...(5000 + every * 2000)))
    }
    if options.loadsEvery != nil { agenda.enter(.loads, at: 3_000_000_000) }
    agenda.enter(.peace, at: Int64(options.faultyFor * 1e9))
  }

  /// Runs one stretch of faults and the peace after it, or more; throws at the first broken promise.
  public mutating func run(seconds: Double) throws(Violation) {
    let end = Int64(seconds * 1e9)
    while let at = agenda.nextAt, at <= end {
      guard let (at, item) = agenda.take() else { break }
      now = at
      try handle(item)
      report.steps += 1
    }
    report.seconds = seconds
    report.grants = oracle.grants
    report.recoveriesMs = oracle.recoveriesMs
    report.gapsMs = oracle.gapsMs
  }

  /// The process is gone, and comes back after a time.
  public mutating func kill(_ node: Int, forSeconds seconds: Double) {
    crash(node, comesBackIn: Int64(seconds * 1e9))
  }

  /// What is sent to the node is lost; what it sends to its peers arrives.
  public mutating func deafen(_ node: Int) { network.deafen(node) }

  /// The node that acts for the most ranges.
  public var ownerOfMost: Int? {
    nodes.indices.max { nodes[$0].ranges.count < nodes[$1].ranges.count }
  }

  func violation(_ what: String) -> Violation {
    Violation(seed: seed, atSeconds: Double(now) / 1e9, what: what)
  }

  mutating func note(_ text: String) {
    trace.append("\(Double(now / 100_000) / 10_000) \(text)")
  }
}

import Election

/// A node of a simulation with its clock, alive or not.
final class SimulatedNode {
  let id: NodeID
  let timing: Timing
  /// What the clock showed at true time 0.
  private let origin: Int64
  /// Local nanoseconds for each true one.
  private let rate: Double

  var machine: NodeMachine?
  /// There is a process. Asked at every step, where a look at the machine would copy it whole.
  private(set) var isUp = false
  /// Number of its life; its incarnation.
  var life: UInt64 = 0
  var isPaused = false
  /// What came while it was paused, in order.
  var waiting: [Simulation.Item] = []
  var wakeAt: Int64?
  var memory = NodeMachine.Memory()
  var asks: UInt64 = 0
  var askers: [UInt64: (node: Int, life: UInt64)] = [:]
  var callsUnderWay: Set<NodeMachine.CallID> = []

  init(index: Int, isPlain: Bool, random: inout Seeded) {
    id = NodeID("node-\(index)")
    timing = SimulatedNode.timing
    let origin = random.ns(ms: 0...1e9)
    let error = Timing.clockRateErrorMax * (2 * Double(random.below(1001)) / 1000 - 1)
    self.origin = isPlain ? 0 : origin
    rate = isPlain ? 1 : 1 + error
  }

  /// shrunkHold is short, so that it ends in the middle of faults.
  private static let timing: Timing = {
    do { return try Timing(shrunkHold: .seconds(5)) } catch { preconditionFailure("\(error)") }
  }()

  func start(tolerance: Int) {
    life += 1
    isUp = true
    machine = NodeMachine(
      me: Owner(id, Incarnation(life)), timing: timing, tolerance: tolerance, memory: memory)
  }

  /// What it may act for, and until when in true time; nil when there is no process.
  var right: (ranges: [OwnedRange], until: Int64)? {
    guard let (ranges, until) = machine?.right() else { return nil }
    return (ranges, until.map { trueTime(of: $0) } ?? 0)
  }

  var ranges: [OwnedRange] { machine?.acting ?? [] }

  /// The process is gone; what it has kept stays.
  func end() {
    if let machine { memory = machine.memory }
    machine = nil
    isUp = false
    askers = [:]
    waiting = []
    callsUnderWay = []
    isPaused = false
    wakeAt = nil
  }

  func clock(_ now: Int64) -> Instant {
    Instant(nanoseconds: origin + Int64(Double(now) * rate))
  }

  /// When its clock will show, or has shown, that instant.
  func trueTime(of instant: Instant) -> Int64 {
    let local = instant.nanoseconds.subtractingReportingOverflow(origin).partialValue
    return Int64(min(max(Double(local) / rate, -1e17), 1e17).rounded(.up))
  }

  func trueTime(after duration: Duration, from now: Int64) -> Int64 {
    now + Int64(Double(duration.wholeNanoseconds) / rate)
  }
}

extension NodeMachine {
  /// Mutating, so that a machine in a class is looked at where it is; a copy of one takes longer than a
  /// step.
  fileprivate mutating func right() -> (ranges: [OwnedRange], until: Instant?) {
    (acting, validUntil)
  }
}

/// Decides when to connect, to give up, to ask whether anybody is there, and what to report.
///
/// Pure: `step` takes what happened and when (CLOCK_BOOTTIME, ns) and returns what to do, in order.
///
/// Invariants: between a `connect` and the next one there is exactly one `disconnect`; after
/// `close` nothing follows; `wakeAt` is the moment by which `wake` wants to be stepped.
struct LinkMachine: Sendable, Equatable {
  struct Timing: Sendable, Equatable {
    var connectTimeout: UInt64
    var backOffFirst: UInt64
    var backOffMost: UInt64
    var pingAfter: UInt64
    var pingTimeout: UInt64
  }

  enum Event: Sendable, Equatable {
    case start
    /// The transport is there.
    case connected
    /// The server has let us in.
    case greeted
    /// Anything was received.
    case heard
    /// The attempt or the connection failed.
    case failed(RedisFailure)
    /// The server to speak to is another one now.
    case moved
    /// Time passed. `busy`: a command waits for its reply, so its own timeout is the judge of
    /// silence.
    case wake(busy: Bool)
    case close
  }

  enum Directive: Sendable, Equatable {
    /// Resolve and connect; `attempt` counts failures since the last lasting connection.
    case connect(attempt: Int)
    /// Send what lets us in.
    case greet
    /// Drop the transport, or the attempt at one.
    case disconnect(RedisFailure)
    case ping
    case report(RedisLinkState)
  }

  private enum Phase: Sendable, Equatable {
    case idle
    case resting(until: UInt64)
    case connecting(until: UInt64)
    case greeting(until: UInt64)
    case up
    case closed
  }

  private let timing: Timing
  private var random: JitterSource
  private var phase = Phase.idle
  private var downSince: UInt64 = 0
  private var upSince: UInt64 = 0
  /// Failed attempts since it last was up; what is reported.
  private var attempts = 0
  /// What the pause grows with; forgotten only by a connection that lasts, or one that comes and
  /// goes would be tried without pause.
  private var strikes = 0
  private var generation: UInt64 = 0
  private var movedAt: UInt64?
  private var quietSince: UInt64 = 0
  private var pingSentAt: UInt64?

  init(timing: Timing, seed: UInt64) {
    self.timing = timing
    random = JitterSource(seed: seed)
  }

  var isUp: Bool { phase == .up }
  var isGreeting: Bool { if case .greeting = phase { true } else { false } }
  var isConnecting: Bool { if case .connecting = phase { true } else { false } }

  var wakeAt: UInt64 {
    switch phase {
    case .idle, .closed: .max
    case .resting(let until), .connecting(let until), .greeting(let until): until
    case .up: pingSentAt?.plus(timing.pingTimeout) ?? quietSince.plus(timing.pingAfter)
    }
  }

  mutating func step(_ event: Event, at now: UInt64) -> [Directive] {
    switch (event, phase) {
    case (_, .closed): return []
    case (.close, _): return close()
    case (.start, .idle):
      downSince = now
      return connect(at: now)
    case (.connected, .connecting(let until)):
      phase = .greeting(until: until)
      return [.greet]
    case (.greeted, .greeting): return rise(at: now)
    case (.heard, .up):
      quietSince = now
      pingSentAt = nil
      return []
    case (.failed(let failure), .connecting), (.failed(let failure), .greeting),
      (.failed(let failure), .up):
      return fall(failure, at: now)
    case (.moved, .idle): return []
    case (.moved, _): return move(at: now)
    case (.wake(let busy), _): return wake(busy: busy, at: now)
    default: return []
    }
  }

  private mutating func wake(busy: Bool, at now: UInt64) -> [Directive] {
    guard now >= wakeAt else { return [] }
    switch phase {
    case .resting: return connect(at: now)
    case .connecting, .greeting: return fall(.timeout, at: now)
    case .up:
      if pingSentAt != nil { return fall(.timeout, at: now) }
      if busy {
        quietSince = now
        return []
      }
      pingSentAt = now
      return [.ping]
    case .idle, .closed: return []
    }
  }

  private mutating func connect(at now: UInt64) -> [Directive] {
    phase = .connecting(until: now.plus(timing.connectTimeout))
    return [.connect(attempt: attempts)]
  }

  private mutating func rise(at now: UInt64) -> [Directive] {
    phase = .up
    upSince = now
    quietSince = now
    pingSentAt = nil
    attempts = 0
    generation += 1
    return [.report(.up(since: now, generation: generation))]
  }

  private mutating func fall(_ failure: RedisFailure, at now: UInt64) -> [Directive] {
    if isUp {
      downSince = now
      if now - upSince >= timing.backOffMost { strikes = 0 }
    } else {
      attempts += 1
    }
    phase = .resting(until: now.plus(pause()))
    return [.disconnect(failure), .report(.down(failure, since: downSince, attempts: attempts))]
  }

  /// Goes to the other server without a pause, unless it was sent elsewhere a moment ago.
  private mutating func move(at now: UInt64) -> [Directive] {
    let isFlapping = movedAt.map { now - $0 < timing.backOffFirst } ?? false
    movedAt = now
    if case .resting = phase { return isFlapping ? [] : connect(at: now) }
    if isFlapping { return fall(.moved, at: now) }
    if isUp { downSince = now }
    let left: [Directive] = [
      .disconnect(.moved), .report(.down(.moved, since: downSince, attempts: attempts)),
    ]
    return left + connect(at: now)
  }

  private mutating func pause() -> UInt64 {
    var whole = timing.backOffFirst
    for _ in 0..<strikes where whole < timing.backOffMost {
      whole = min(whole.plus(whole), timing.backOffMost)
    }
    strikes = min(strikes + 1, 64)
    return whole / 2 + random.next(below: whole / 2 + 1)
  }

  private mutating func close() -> [Directive] {
    let connected = isUp || isGreeting || isConnecting
    phase = .closed
    return (connected ? [.disconnect(.closed)] : []) + [.report(.closed)]
  }
}

/// SplitMix64: pauses need to differ between processes, not to be unguessable.
struct JitterSource: Sendable, Equatable {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  /// 0 ..< bound; bound must be above 0.
  mutating func next(below bound: UInt64) -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return (mixed ^ (mixed >> 31)).multipliedFullWidth(by: bound).high
  }
}

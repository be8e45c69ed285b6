/// One node's part in the cluster, whole: session, ownership, failsafe and leadership as one value.
///
/// The shell feeds it what happened and carries out what it returns, in order. It calls `step` with
/// `.wake` at the earliest instant that any `wake(at:)` has named, or later. At every single send it asks
/// `mayAct`, or hands `acting` and `validUntil` to whoever sends.
///
/// Contracts, in each list of directives: `.actingChanged` stands before the call that gives a range
/// away, and before `.stopped`. Replies to calls may come in any order, late or never.
public struct NodeMachine: Sendable, Equatable {
  public struct CallID: Sendable, Hashable, Comparable {
    public var rawValue: UInt64
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  }

  public indirect enum Question: Sendable, Hashable {
    case promise(FailsafeMachine.PromiseRequest)
    case consent(FailsafeMachine.ConsentRequest)
  }

  public enum Answer: Sendable, Hashable {
    /// Given, with the store and version the promiser knows and the ranges that have changed since the
    /// asker's.
    case promised(round: UInt64, StoreIdentity, version: UInt64, news: [RangeRecord])
    /// The answer to a probe.
    case heard(round: UInt64)
    case consented(against: StoreCall.Watched?)
    case refused
  }

  public enum Event: Sendable, Equatable {
    case wake
    case replied(CallID, StoreReply)
    /// Not answered within the call timeout. It may have run, or may still.
    case unreachable(CallID)
    /// A peer asks; the answer comes as `.answer` with the same token.
    case asked(Question, by: NodeID, token: UInt64)
    case answered(Answer, by: NodeID)
    /// A peer says that there is news in the store.
    case nudged
    /// A peer says that it is sending that heartbeat to the store.
    case announced(Owner, counter: UInt64)
    case sealed(Serial, move: UInt64)
    /// The node's own ranges cost this now; only what has changed.
    case loads([Serial: RangeLoad])
    case status(MemberStatus)
    /// Controllers, or the vendor app for them, have seen these epochs.
    case epochsSeen([OwnedRange])
    /// What it has come to shows in a later view.
    case order(OperatorOrder)
    /// No range is taken up any more. `stopped` follows when all work has ended.
    case stop
    case workEnded
  }

  public enum Directive: Sendable, Equatable {
    /// For the store with that identity; see `StoreCall.isForAnyStore`.
    case call(CallID, StoreCall, StoreIdentity?)
    case ask(NodeID, Question)
    case answer(token: UInt64, Answer)
    case nudge(NodeID)
    /// Tell these that the heartbeat of that counter is being sent. Best effort: what is not heard of is seen in the
    /// store, later.
    case announce(counter: UInt64, to: [NodeID])
    /// `acting` or `validUntil` is another than before.
    case actingChanged
    case seal(Serial, move: UInt64)
    case wake(at: Instant)
    /// The session is given back; nothing more comes.
    case stopped
    /// Another process has this node's name. This one holds nothing and does nothing more.
    case replaced(by: Incarnation)
  }

  /// What a call under way was for.
  enum Purpose: Sendable, Equatable {
    case heartbeat(counter: UInt64)
    case ranges
    /// Of what is held from this serial downwards; the rest comes after it.
    case assertion(through: Serial)
    case handOver(Serial, to: NodeID)
    case campaign
    /// The nodes that are to move something are told to look.
    case lead(nudging: [NodeID])
    case order
    case release

    var isLead: Bool { if case .lead = self { true } else { false } }
    var isAssertion: Bool { if case .assertion = self { true } else { false } }
  }

  public let me: Owner
  let timing: Timing
  var session: SessionMachine
  var watch: PeerWatch
  public internal(set) var ownership: OwnershipMachine
  var failsafe: FailsafeMachine
  var leadership: LeaderMachine
  var duties: LeaderDuties
  public internal(set) var list = MemberList()
  public internal(set) var status = MemberStatus()
  /// The leader is to look once a heartbeat has told the status: with the next one, or with that of the counter.
  private var isStatusNews = false
  var statusToldBy: UInt64?
  var loads: [Serial: RangeLoad] = [:]
  var lastCall: UInt64 = 0
  var underWay: SortedMap<CallID, Purpose> = [:]
  /// Consents collected for claims and removals, by what they are against.
  var consents: [StoreCall.Watched?: Set<NodeID>] = [:]
  var promiseAskedAt: Instant?
  var consentAskedAt: [StoreCall.Watched?: Instant] = [:]
  /// When claims are to be thought about next. What could make one due sooner sets it back.
  var claimsDueAt = Instant(nanoseconds: .min)
  /// When a leader is to look into the store again, though no heartbeat is due, because there may be something to order.
  var leadDueAt = Instant.distantFuture
  /// What a claim has come to shows in the next view; none is made before that.
  var hasClaimed = false
  var life = Life.running
  /// When the session is to be given back once more, after a try that was not answered.
  var releaseDueAt: Instant?
  /// What was last told to the shell.
  private var toldUntil: Instant?

  enum Life: Sendable, Equatable { case running, stopping, releasing, over }

  /// What a node is to keep over its lives (a file will do): what a store can lose, and its peers may
  /// not be there to tell it.
  public struct Memory: Sendable, Equatable {
    public var list = MemberList()
    public var listKnown: SortedMap<NodeID, UInt64> = [:]
    public var floors = RangeMap()
    public init() {}
  }

  /// - Parameters:
  ///   - me: its incarnation above that of any former life.
  ///   - tolerance: f of the failsafe, 0 … 3.
  ///   - memory: of the former life.
  public init(
    me: Owner, timing: Timing, tolerance: Int = 0, memory: Memory = Memory(),
    limits: LeaderDuties.Limits = LeaderDuties.Limits()
  ) {
    self.me = me
    self.timing = timing
    session = SessionMachine(timing: timing)
    watch = PeerWatch(ttl: timing.ttl)
    ownership = OwnershipMachine(me: me, timing: timing, floors: memory.floors)
    failsafe = FailsafeMachine(
      me: me.node, tolerance: tolerance, timing: timing, listKnown: memory.listKnown)
    list = memory.list
    leadership = LeaderMachine(me: me, timing: timing)
    duties = LeaderDuties(timing: timing, limits: limits)
  }

  /// To be kept by the shell when it changes.
  public var memory: Memory {
    var memory = Memory()
    memory.list = list
    memory.listKnown = failsafe.listKnown
    memory.floors = ownership.floors
    return memory
  }

  // MARK: Asked at the point of use

  /// The ranges to act for, by first serial, until `validUntil`.
  public var acting: [OwnedRange] { ownership.acting }

  /// By the store or by promises, whichever reaches further; nil: not at all.
  public var validUntil: Instant? {
    guard life == .running || life == .stopping else { return nil }
    guard let promised = failsafe.deadline(list: list) else { return session.deadline }
    return session.deadline.map {
      // Who was taken off the list, and does not know, waits for that long.
      max($0, list.removed.isEmpty ? promised : min(promised, $0 + timing.shrunkHold))
    }
  }

  /// The epoch to act under for a serial at this instant; nil: not to act.
  public func mayAct(for serial: Serial, at now: Instant) -> Epoch? {
    guard let validUntil, now < validUntil else { return nil }
    return acting.first { $0.serials.contains(serial) }?.epoch
  }

  /// Whether it acts at this instant by what its peers have promised alone.
  public func actsByPromises(at now: Instant) -> Bool {
    guard let validUntil, now < validUntil else { return false }
    return session.deadline.map { now >= $0 } ?? true
  }

  // MARK: For those who look

  public var role: LeaderMachine.Role { leadership.role }
  public var leader: LeaderRecord? { leadership.leader }
  public var peers: PeerWatch { watch }
  /// An operator has had balancing paused.
  public var isPaused: Bool { duties.isPaused }

  /// What a leader that sees what this node sees will move, most urgent first.
  public func plannedMoves(at now: Instant) -> [Planner.Move] {
    duties.plan(ownership.table.values, watch: watch, at: now).moves
  }

  /// How long those take, and what is under way before them, with moves of this length.
  public func movingTime(of moves: [Planner.Move], length: Duration) -> Duration {
    let underWay = ownership.table.values.count { $0.move != nil }
    return duties.duration(of: moves, underWay: underWay, length: length)
  }

  // MARK: Step

  public mutating func step(_ event: Event, at now: Instant) -> [Directive] {
    guard life != .over else { return answerNo(event) }
    var out = Gathered()
    switch event {
    case .wake: break
    case .replied(let id, let reply): replied(id, reply, at: now, &out)
    case .unreachable(let id): unreachable(id, at: now, &out)
    case .asked(let question, let asker, let token):
      out.append(.answer(token: token, answer(question, by: asker, at: now)))
    case .answered(let answer, let member): answered(answer, by: member, at: now, &out)
    case .nudged: beat(.nudged, at: now, &out)
    case .announced(let peer, let counter):
      watch.heard(peer, counter: counter, at: now)
      return []  // by it nothing is due sooner
    case .sealed(let first, let move): put(ownership.sealed(first, move: move), at: now, &out)
    case .loads(let new): loads.merge(new) { $1 }
    case .status(let new):
      let isNews = new != status
      status = new
      claimsDueAt = now
      if isNews {
        isStatusNews = true
        beat(.nudged, at: now, &out)
      }
    case .epochsSeen(let epochs):
      ownership.seen(epochs)
      claimsDueAt = now
    case .order(let order): call(.operate(order), .order, &out)
    case .stop:
      if life == .running {
        life = .stopping
        ownership.stop()
        leadership.resign()
      }
    case .workEnded: workEnded(at: now, &out)
    }
    switch life {
    case .running, .stopping: proceed(at: now, &out)
    case .releasing: releaseAgain(at: now, &out)
    case .over: break
    }
    let until = validUntil
    if until != toldUntil {
      toldUntil = until
      out.actingChangedBefore()
    }
    return out.all()
  }

  /// Everything that time alone may make due.
  private mutating func proceed(at now: Instant, _ out: inout Gathered) {
    if now >= leadDueAt {
      leadDueAt = .distantFuture
      beat(.nudged, at: now, &out)
    } else {
      beat(.wake, at: now, &out)
      if leadDueAt < .distantFuture { out.wake(at: leadDueAt) }
    }
    askForPromises(at: now, &out)
    guard life == .running else { return }
    claim(at: now, &out)
    for directive in leadership.campaign(
      watch: watch, isQuarantined: ownership.isQuarantined(at: now), isDraining: status.draining,
      at: now)
    {
      switch directive {
      case .campaign(let hint, let watched):
        call(.campaign(me, hint: hint, watched: watched), .campaign, &out)
      case .wake(let at): out.wake(at: at)
      }
    }
  }

  private mutating func workEnded(at now: Instant, _ out: inout Gathered) {
    guard life == .stopping else { return }
    life = .releasing
    // Nothing is acted for any more before the session is given away.
    put(ownership.stopped(), at: now, &out)
    call(.release(me), .release, &out)
  }

  private mutating func releaseAgain(at now: Instant, _ out: inout Gathered) {
    guard let dueAt = releaseDueAt else { return }
    guard now >= dueAt else {
      out.wake(at: dueAt)
      return
    }
    releaseDueAt = nil
    call(.release(me), .release, &out)
  }

  /// A node that is over says so to those who ask, lest they wait.
  private func answerNo(_ event: Event) -> [Directive] {
    if case .asked(_, _, let token) = event { [.answer(token: token, .refused)] } else { [] }
  }

  // MARK: Calls

  mutating func call(_ call: StoreCall, _ purpose: Purpose, _ out: inout Gathered) {
    lastCall += 1
    let id = CallID(lastCall)
    underWay[id] = purpose
    out.append(.call(id, call, ownership.identity))
  }

  mutating func beat(_ event: SessionMachine.Event, at now: Instant, _ out: inout Gathered) {
    for directive in session.step(event, at: now) {
      switch directive {
      case .wake(let at): out.wake(at: at)
      case .heartbeat(let counter):
        let beat = StoreCall.Heartbeat(
          owner: me, counter: counter, status: status, list: list, since: ownership.version,
          identity: ownership.identity, isSure: ownership.isSure, loads: loads)
        if isStatusNews { statusToldBy = counter }
        isStatusNews = false
        call(.heartbeat(beat), .heartbeat(counter: counter), &out)
        let hearers = hearers(at: now)
        if !hearers.isEmpty { out.append(.announce(counter: counter, to: hearers)) }
      }
    }
  }

  /// Those who are told of a heartbeat at most.
  private static let hearersMax = 8

  /// Who may come to claim from this node, and so is told of its heartbeats: those alive that come next by name.
  private func hearers(at now: Instant) -> [NodeID] {
    let others = watch.nodesAlive(at: now, but: me.node)
    guard others.count > NodeMachine.hearersMax else { return others }
    let next = others.firstIndex { $0 > me.node } ?? 0
    return (0..<NodeMachine.hearersMax).map { others[(next + $0) % others.count] }
  }
}

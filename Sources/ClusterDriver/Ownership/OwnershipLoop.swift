import CSystem
package import Election
import Logging
import Synchronization

/// Runs the node's part in the cluster: feeds `NodeMachine` with what happens and carries out what it
/// returns, on one thread that does nothing else. Decides nothing.
///
/// Functions may be called from any thread and do not block, unless they say otherwise. `Handlers` are
/// called on the loop's thread, in the machine's order.
package final class OwnershipLoop: @unchecked Sendable {
  // Unchecked: what is mutable is of the loop's thread, but for `thread`, which is of whoever starts
  // and closes the loop.

  package struct Handlers: Sendable {
    /// The ranges to act for, by first serial, and until when; nil: not at all. When it returns, nothing
    /// more is begun by what was said before: a range that is missing now is about to be given away.
    package var act: @Sendable ([OwnedRange], Instant?) -> Void
    /// Nothing new is to be taken up for the range of that first serial; `sealed` when all that is under
    /// way has ended.
    package var seal: @Sendable (Serial, _ move: UInt64) -> Void
    /// What the cluster looks like from here has changed, if only the time of a lease.
    package var changed: @Sendable (OwnershipView) -> Void
    package var ended: @Sendable (Ending) -> Void

    package init(
      act: @escaping @Sendable ([OwnedRange], Instant?) -> Void,
      seal: @escaping @Sendable (Serial, UInt64) -> Void,
      changed: @escaping @Sendable (OwnershipView) -> Void = { _ in },
      ended: @escaping @Sendable (Ending) -> Void
    ) {
      self.act = act
      self.seal = seal
      self.changed = changed
      self.ended = ended
    }
  }

  package enum Ending: Sendable, Equatable {
    /// The session was given back, as `stop` had asked.
    case stopped
    /// Another process has this node's name: this one holds nothing and is to end.
    case replaced(by: Incarnation)
  }

  private enum Input: Sendable {
    case event(NodeMachine.Event)
    case answered(NodeMachine.CallID, Result<StoreReply, StoreFailure>)
    case asked(NodeMachine.Question, by: NodeID, tell: @Sendable (NodeMachine.Answer) -> Void)
    case close
  }

  private let store: any OwnershipStore
  private let peers: any OwnershipPeers
  private let memory: MemoryKeeper?
  private let handlers: Handlers
  private let inputs = Mutex<[Input]>([])
  /// Under the lock of `inputs`.
  private var isClosed = false
  private let bell = Bell()
  private let turns = Atomic<UInt64>(0)
  private var thread: csys_thread?

  private var machine: NodeMachine
  private var wakeAt: Instant?
  private var toldPlaces: UInt64 = 0
  private var toldUntil: Instant?
  private var places = PeerPlaces()
  private var askers: [UInt64: @Sendable (NodeMachine.Answer) -> Void] = [:]
  private var questions: UInt64 = 0
  private var report: OwnershipReport

  /// - Parameters:
  ///   - status: what the node says of itself from its first heartbeat on.
  ///   - memory: kept up to date with what the machine wants to be kept.
  init(
    _ machine: NodeMachine, status: MemberStatus, store: any OwnershipStore,
    peers: any OwnershipPeers, memory: MemoryKeeper?, log: Logger, handlers: Handlers
  ) {
    self.machine = machine
    self.store = store
    self.peers = peers
    self.memory = memory
    self.handlers = handlers
    self.report = OwnershipReport(log: log)
    self.inputs.withLock { $0.append(.event(.status(status))) }
  }

  /// Grows at least once a second while the thread lives and is not stuck.
  var progress: UInt64 { self.turns.load(ordering: .relaxed) }

  func start() {
    var thread = csys_thread()
    let result = csys_thread_start(
      "ownership",
      { context in
        Unmanaged<OwnershipLoop>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the ownership thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  /// Ends the thread and waits for that. A session that was not given back stays until its TTL.
  func close() {
    guard let thread = self.thread else { return }
    self.add(.close)
    csys_thread_join(thread)
    self.thread = nil
    self.memory?.close()
    self.refuseTheRest()
  }

  /// Nobody waits for an answer of a thread that is gone.
  private func refuseTheRest() {
    let rest = self.inputs.withLock { inputs in
      self.isClosed = true
      defer { inputs = [] }
      return inputs
    }
    for input in rest { self.refuse(input) }
    for tell in self.askers.values { tell(.refused) }
    self.askers = [:]
  }

  private func refuse(_ input: Input) {
    if case .asked(_, _, let tell) = input { tell(.refused) }
  }

  // MARK: What happens

  func happened(_ event: NodeMachine.Event) { self.add(.event(event)) }

  /// A peer asks. `tell` is called once, on the loop's thread.
  func asked(
    _ question: NodeMachine.Question, by asker: NodeID,
    tell: @escaping @Sendable (NodeMachine.Answer) -> Void
  ) {
    self.add(.asked(question, by: asker, tell: tell))
  }

  private func add(_ input: Input) {
    let isTaken = self.inputs.withLock { inputs in
      if !self.isClosed { inputs.append(input) }
      return !self.isClosed
    }
    if isTaken { self.bell.ring() } else { self.refuse(input) }
  }

  // MARK: The thread

  private static let turnMs: Int32 = 500

  private func run() {
    var batch: [Input] = []
    while true {
      self.turns.add(1, ordering: .relaxed)
      self.inputs.withLock { swap(&$0, &batch) }
      for input in batch {
        guard self.take(input) else { return }
      }
      let isIdle = batch.isEmpty
      batch.removeAll(keepingCapacity: true)
      if let wakeAt, wakeAt <= .now {
        self.wakeAt = nil
        self.step(.wake)
      } else if isIdle {
        let rest = self.wakeAt.map { ($0 - .now).millisecondsRoundedUp }
        self.bell.wait(milliseconds: min(rest ?? OwnershipLoop.turnMs, OwnershipLoop.turnMs))
      }
    }
  }

  /// False: the thread is to end.
  private func take(_ input: Input) -> Bool {
    switch input {
    case .event(let event):
      self.step(event)
    case .answered(let id, .success(let reply)):
      self.report.storeAnswered()
      if case .view(let view) = reply, self.places.see(view.sessions) {
        self.peers.reach(self.places)
      }
      self.step(.replied(id, reply))
    case .answered(let id, .failure(let failure)):
      self.report.storeFailed(failure)
      self.step(.unreachable(id))
    case .asked(let question, let asker, let tell):
      self.questions += 1
      self.askers[self.questions] = tell
      self.step(.asked(question, by: asker, token: self.questions))
    case .close:
      return false
    }
    return true
  }

  private func step(_ event: NodeMachine.Event) {
    let version = self.machine.ownership.newest
    for directive in self.machine.step(event, at: .now) { self.carryOut(directive) }
    self.memory?.keep(self.machine.memory)
    self.report.look(self.machine)
    if self.machine.ownership.newest != version || self.machine.validUntil != self.toldUntil
      || self.places.version != self.toldPlaces
    {
      self.toldUntil = self.machine.validUntil
      self.toldPlaces = self.places.version
      self.handlers.changed(OwnershipView(self.machine, self.places))
    }
  }

  private func carryOut(_ directive: NodeMachine.Directive) {
    switch directive {
    case .call(let id, let call, let known):
      self.store.run(call, for: known) { [weak self] in self?.add(.answered(id, $0)) }
    case .ask(let node, let question):
      self.peers.ask(node, question) { [weak self] in
        self?.add(.event(.answered($0, by: node)))
      }
    case .answer(let token, let answer):
      self.askers.removeValue(forKey: token)?(answer)
    case .nudge(let node):
      self.peers.nudge(node)
    case .announce(let counter, let nodes):
      self.peers.announce(self.machine.me, counter: counter, to: nodes)
    case .actingChanged:
      self.handlers.act(self.machine.acting, self.machine.validUntil)
    case .seal(let first, let move):
      self.handlers.seal(first, move)
    case .wake(let at):
      self.wakeAt = min(self.wakeAt ?? at, at)
    case .stopped:
      self.handlers.ended(.stopped)
    case .replaced(let by):
      self.handlers.ended(.replaced(by: by))
    }
  }
}

extension Instant {
  /// CLOCK_BOOTTIME.
  static var now: Instant { Instant(nanoseconds: Int64(csys_clock_boottime())) }
}

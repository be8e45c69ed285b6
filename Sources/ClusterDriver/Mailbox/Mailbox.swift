import CSystem
import DriverProtocol
import Election
import Logging
import RedisLink
import SwiftProtobuf
import Synchronization

/// The second door: commands that were put into the durable mailbox in Redis. Runs `MailboxMachine` on
/// a thread of its own, and decides nothing.
///
/// Functions may be called from any thread and do not block, unless they say otherwise.
final class Mailbox: @unchecked Sendable {
  // Unchecked: what is mutable is of the mailbox's thread, but for `thread`, which is of whoever starts
  // and closes it.

  private struct Inputs {
    var events: [MailboxMachine.Event] = []
    var isClosing = false
  }

  private let commands: CommandPipeline
  private let outbox: Outbox
  private let store: MailboxStore
  private let link: RedisLink
  private let log: Logger
  private let inputs = Mutex(Inputs())
  private let bell = Bell()
  private let turns = Atomic<UInt64>(0)
  private let ration = Mutex(
    RateLimit<String>(burst: 5, every: .seconds(10), keysMax: 4))
  private let shown = Mutex((counts: MailboxMachine.Counts(), isIdle: true))
  private var thread: csys_thread?

  private var machine = MailboxMachine()
  /// Of what was acknowledged, told to the machine.
  private var ackedThrough: UInt64 = 0

  /// - Parameters:
  ///   - owner: this node in its present life.
  ///   - commands: whose letters this mailbox's are from now on.
  init(
    url: RedisURL, cluster: String, owner: Owner, commands: CommandPipeline, outbox: Outbox,
    log: Logger
  ) throws {
    self.commands = commands
    self.outbox = outbox
    self.log = log
    self.link = try RedisLink(url, options: MailboxStore.linkOptions(cluster: cluster))
    self.store = MailboxStore(link: self.link, cluster: cluster, owner: owner)
    commands.tellMailbox { [weak self] in self?.happened($0.map { .pipeline($0) }) }
  }

  func start() {
    var thread = csys_thread()
    let result = csys_thread_start(
      "mailbox",
      { context in
        Unmanaged<Mailbox>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the mailbox thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  /// Ends the thread and waits for that. Letters that are under way are the next owner's. BLOCKS.
  func close() {
    if let thread = self.thread {
      self.inputs.withLock { $0.isClosing = true }
      self.bell.ring()
      csys_thread_join(thread)
      self.thread = nil
    }
    self.link.close()
  }

  /// Of its thread, and of its link's.
  var beats: [Beat] {
    [
      Beat("the mailbox thread", self.turns.load(ordering: .relaxed)),
      Beat("the mailbox's Redis thread", self.link.turns),
    ]
  }

  /// Reads the files of Redis' TLS for the connections to come. BLOCKS on the disk. Throws what is wrong
  /// with them; then the former ones stay.
  func renewTLS() throws { try self.link.renewTLS() }

  var counts: MailboxMachine.Counts { self.shown.withLock { $0.counts } }

  /// Nothing is under way that could go on: without Redis nothing can.
  var isDone: Bool { self.shown.withLock { $0.isIdle } || !self.link.state.isUp }

  // MARK: What happens

  func happened(_ event: MailboxMachine.Event) { self.happened([event]) }

  func happened(_ events: [MailboxMachine.Event]) {
    guard !events.isEmpty else { return }
    self.inputs.withLock { $0.events += events }
    self.bell.ring()
  }

  /// The vendor app has acknowledged something.
  func acknowledged() { self.bell.ring() }

  // MARK: The thread

  private static let turnMs: Int32 = 1000

  private func run() {
    while true {
      self.turns.add(1, ordering: .relaxed)
      let inputs = self.inputs.withLock { inputs in
        defer { inputs.events = [] }
        return inputs
      }
      if inputs.isClosing { return }
      for event in inputs.events { self.step(event) }
      let acked = self.outbox.ackedThrough
      if acked > self.ackedThrough {
        self.ackedThrough = acked
        self.step(.acked(through: acked))
      }
      let now = Moment.now()
      if let at = self.machine.wakeAt(now), at <= now.uptime { self.step(.tick) }
      let isIdle = self.machine.isIdle
      self.shown.withLock { $0 = (self.machine.counts, isIdle) }
      let rest = self.machine.wakeAt(.now()).map { ($0 - .now).millisecondsRoundedUp }
      self.bell.wait(milliseconds: min(rest ?? Mailbox.turnMs, Mailbox.turnMs))
    }
  }

  private func step(_ event: MailboxMachine.Event) {
    for directive in self.machine.step(event, at: .now()) { self.carryOut(directive) }
  }

  private func carryOut(_ directive: MailboxMachine.Directive) {
    switch directive {
    case .call(let number, let call):
      self.store.run(call) { [weak self] reply, failure in
        if let failure { self?.complain(failure) }
        self?.happened(.replied(number, reply))
      }
    case .give(let commands):
      self.commands.take(letters: commands)
    case .noted(let ids, let done):
      self.commands.keep(Array(zip(ids, done)))
    case .send(let ids, let results):
      self.send(ids, results)
    case .complain(let why, let serial):
      if let suppressed = self.isAllowed("letter") {
        self.log.warning(
          "a letter that is no command: \(why)",
          metadata: ["serial": "\(serial)", "suppressed": "\(suppressed)"])
      }
    }
  }

  private func send(_ ids: [CommandID], _ results: [[UInt8]]) {
    // One that is none was written by nobody of ours: then there is nothing to be said of that letter.
    let decoded = results.compactMap {
      try? Clusterdriver_V1_CommandResult(serializedBytes: $0)
    }
    var message: UInt64 = 0
    self.outbox.append(results: decoded.count) { number in
      message = number
      var content = Clusterdriver_V1_DriverMessage()
      content.number = number
      content.results.results = decoded
      return content.wireBytes()
    }
    self.step(.sent(ids, message: message))
  }

  /// Redis being away is told by others; what it refuses is told here.
  private func complain(_ failure: RedisError) {
    guard case .server(let answer) = failure, let suppressed = self.isAllowed("redis") else {
      return
    }
    self.log.error(
      "Redis does not do what the mailbox asks of it; letters wait: \(answer.message)",
      metadata: ["suppressed": "\(suppressed)"])
  }

  private func isAllowed(_ what: String) -> UInt64? {
    let verdict = self.ration.withLock { $0.take(what, at: csys_clock_boottime()) }
    guard case .say(let suppressed) = verdict else { return nil }
    return UInt64(suppressed)
  }
}

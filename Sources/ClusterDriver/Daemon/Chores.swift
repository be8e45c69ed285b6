import CSCP
import CSystem
import Logging
import RedisLink
import Synchronization

/// What is done once a second, on a thread that nothing waits for: the process title, the service
/// manager's STATUS and WATCHDOG, the rate of events, and the look at whether everything still moves. Ten times as
/// often: whether the vendor app takes what is sent, whether the other nodes are reached, and what results they
/// are to have as well.
final class Chores: @unchecked Sendable {
  // Unchecked: `thread` is of whoever starts and stops it; the rest lives on the thread's stack.

  /// STATUS= no more often than this: a service manager has many to read.
  private static let statusEvery: Duration = .seconds(5)
  /// How often what the ranges cost is counted, and how soon again when that did not say it of all.
  private static let surveyEvery: Duration = .seconds(5)
  private static let surveyAgain: Duration = .seconds(1)
  private static let lookMs: Int32 = 100
  /// Controllers named in the title; of more, so many and their count.
  static let serialsInTitle = 8

  private let node: Node
  private let admin: AdminServer?
  private let log: Logger
  private let stopping = Atomic<Bool>(false)
  private let bell = Bell()
  private var thread: csys_thread?

  init(_ node: Node, admin: AdminServer?, log: Logger) {
    self.node = node
    self.admin = admin
    self.log = log
  }

  func start() {
    var thread = csys_thread()
    let result = csys_thread_start(
      "chores",
      { context in
        Unmanaged<Chores>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the chores thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  func stop() {
    guard let thread = self.thread else { return }
    self.stopping.store(true, ordering: .releasing)
    self.bell.ring()
    csys_thread_join(thread)
    self.thread = nil
  }

  private func run() {
    var pulse = Pulse()
    var answers: UInt64 = 0
    var events = (count: self.node.layer.counters().events, at: ContinuousClock.now)
    var status = (text: "", at: ContinuousClock.now.advanced(by: .zero - Chores.statusEvery))
    var surveyAt = ContinuousClock.now.advanced(by: Chores.surveyEvery)
    var vendor = VendorHealth()
    let watchdogNs = csys_notify_watchdog()
    // A ping that comes late is one that never came: twice as often as must be, whatever a thread that
    // does not answer costs of it.
    let everyMs = Int32(watchdogNs > 0 ? min(1000, max(10, watchdogNs / 2_000_000)) : 1000)
    while !self.stopping.load(ordering: .acquiring) {
      let now = ContinuousClock.now
      let counters = self.node.layer.counters()
      let seconds = Double((now - events.at).microseconds) / 1e6
      if seconds > 0.1 {
        self.node.eventsPerSecond = Double(counters.events - events.count) / seconds
        events = (count: counters.events, at: now)
      }
      let sessions = self.node.layer.sessions(
        from: 1, limit: Chores.serialsInTitle + 1, timeoutMs: everyMs / 2)
      if sessions != nil { answers += 1 }
      let isAlive = self.look(&pulse, layerAnswers: answers, at: .now)
      if watchdogNs > 0 && isAlive { csys_notify_send("WATCHDOG=1", nil, 0) }
      csys_title_set(
        Chores.title(
          port: self.node.layer.port, sequences: self.node.commands.finished,
          controllers: counters.sessions, serials: (sessions ?? []).map(\.serial)))
      if now >= surveyAt {
        let isComplete = self.node.ownership.survey()
        surveyAt = now.advanced(by: isComplete ? Chores.surveyEvery : Chores.surveyAgain)
      }
      let text = self.status
      if text != status.text && now - status.at >= Chores.statusEvery {
        csys_notify_send("STATUS=\(text)", nil, 0)
        status = (text: text, at: now)
      }
      self.lookOut(&vendor, until: now.advanced(by: .milliseconds(Int(everyMs))))
    }
  }

  /// Looks at what lies around the node, at least once.
  private func lookOut(_ vendor: inout VendorHealth, until end: ContinuousClock.Instant) {
    repeat {
      let now = ContinuousClock.now
      let way = VendorHealth.Sight(
        isAttached: self.node.link.up != nil, isLost: self.node.link.isLost,
        oldest: self.node.outbox.oldest, isPaused: self.node.outbox.isPaused)
      self.node.ownership.serves(vendor.look(way, at: now))
      self.node.ownership.lookAtPeers()
      self.node.commands.copyResults(at: now)
      self.bell.wait(milliseconds: min((end - .now).millisecondsRoundedUp, Chores.lookMs))
    } while .now < end && !self.stopping.load(ordering: .acquiring)
  }

  /// Looks whether everything moves, and says when that changes.
  private func look(
    _ pulse: inout Pulse, layerAnswers: UInt64, at now: ContinuousClock.Instant
  ) -> Bool {
    var beats = self.node.beats + [Beat("a controllers' thread", layerAnswers)]
    if let admin = self.admin { beats.append(Beat("the admin service's thread", admin.turns)) }
    let stuck = pulse.look(beats, at: now)
    let health = stuck.isEmpty ? Health.alive : .stuck("stuck: \(stuck.joined(separator: ", "))")
    if health != self.node.lastLook.health {
      switch health {
      case .alive: self.log.notice("everything moves again")
      case .stuck(let what): self.log.critical("\(what)")
      }
    }
    self.node.lastLook = (health, now)
    return stuck.isEmpty
  }

  /// For the service manager's STATUS. Any thread.
  var status: String {
    let counters = self.node.layer.counters()
    let refusal = self.node.refusal.map { "CONFIGURATION NOT RELOADED (\($0)); " } ?? ""
    return """
      \(refusal)\(self.node.state.rawValue): \(counters.sessions) controllers\(self.share), \
      \(Int(self.node.eventsPerSecond)) events/s, \(counters.unacked) unacknowledged; \
      vendor app \(self.node.link.up != nil ? "up" : "down"), \
      Redis \(self.node.redis.map { $0.link.isUp ? "up" : "down" } ?? "not configured")
      """
  }

  /// What the node has of its cluster.
  private var share: String {
    guard let view = self.node.ownership.view else { return "" }
    return " of \(view.acting.count) ranges\(view.isLeading ? ", leader" : "")"
  }

  /// As the system this one replaces shows itself in a list of processes.
  static func title(
    port: UInt16, sequences: UInt64, controllers: UInt64, serials: [UInt64]
  ) -> String {
    let shown = serials.prefix(Chores.serialsInTitle).map { "\($0)" }.joined(separator: ", ")
    let isCut = serials.count > Chores.serialsInTitle
    return """
      cluster-driver v\(NodeVersion.current) port: \(port) sequences: \(sequences) \
      controllers: \(isCut ? "\(controllers): \(shown), …" : shown)
      """
  }
}

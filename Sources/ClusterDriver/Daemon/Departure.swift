import CSCP
import Election
import Glibc
import Logging

/// The end of a node for good, in the order that costs its controllers the least.
///
/// What it owns goes to the others first, range by range, which no controller notices. Then those that
/// came in by this node are told to go, one after another, each to dial again at once; what is under way is
/// carried to its end; results that the vendor app has not acknowledged go to peers; and the session is
/// given back, with whatever nobody has taken. Each step has a limit, and an end that is told once
/// more is at once.
struct Departure {
  /// Controllers are told to go one after another, so many a second, but all of them within the limit.
  static let goAwaysPerSecond = 2000
  static let goAwayLimit: Duration = .seconds(2)
  /// For what is under way: events to be acknowledged, commands to be answered.
  static let workLimit: Duration = .seconds(5)
  private static let look: Duration = .milliseconds(20)
  /// The service manager is told to be patient, so often and for so long.
  private static let extendEvery: Duration = .seconds(1)
  private static let extendByMicroseconds = 10_000_000

  private let node: Node
  private let log: Logger
  /// Orders to end that are yet to come and say nothing new.
  private var ends: Int
  private var extendedAt: ContinuousClock.Instant?

  init(_ node: Node, ends: Int, log: Logger) {
    self.node = node
    self.ends = ends
    self.log = log
  }

  mutating func run(_ signals: borrowing Signals) {
    self.handRangesOver(signals)
    self.node.layer.stopAccepting(
      goAway: true, spreadMs: Departure.spreadMs(self.node.layer.counters()))
    self.node.ownership.stop()
    self.node.mailbox?.happened(.stop)
    self.node.commands.stop()
    let end = ContinuousClock.now.advanced(by: Departure.workLimit)
    while !self.isDone && .now < end { self.pause(signals) }
    // Nothing more is heard: whoever publishes is told that nobody does.
    self.node.redis?.close()
    self.node.commands.end()
    self.handResultsOver()
    self.node.ownership.finish()
  }

  private static func spreadMs(_ counters: cscp_counters) -> UInt32 {
    let ms =
      (UInt64(counters.sessions) + UInt64(counters.relays)) * 1000 / UInt64(self.goAwaysPerSecond)
    return min(UInt32(clamping: ms), UInt32(self.goAwayLimit.millisecondsRoundedUp))
  }

  private mutating func handRangesOver(_ signals: borrowing Signals) {
    guard self.hasHeirs else { return }
    let began = ContinuousClock.now
    var draining = Draining(left: self.ranges, at: began)
    self.node.ownership.drain(true)
    while draining.goesOn(left: self.ranges, at: .now) { self.pause(signals) }
    self.log.notice(
      self.ranges == 0
        ? "what this node had is the others'" : "not all could be handed over in time",
      metadata: [
        "ranges_left": "\(self.ranges)",
        "ms": "\((ContinuousClock.now - began).microseconds / 1000)",
      ])
  }

  private var ranges: Int { self.node.ownership.view?.acting.count ?? 0 }

  /// Is there something to give, and somebody to take it?
  private var hasHeirs: Bool {
    guard let view = self.node.ownership.view, !view.acting.isEmpty else { return false }
    return view.peers.alive(at: .now).contains {
      $0.node != view.me.node && !$0.status.draining && $0.status.healthy
    }
  }

  private mutating func pause(_ signals: borrowing Signals) {
    let now = ContinuousClock.now
    if self.extendedAt.map({ now - $0 >= Departure.extendEvery }) ?? true {
      self.extendedAt = now
      ServiceManager.tell("EXTEND_TIMEOUT_USEC=\(Departure.extendByMicroseconds)")
    }
    guard signals.wait(Departure.look) == .end else { return }
    guard self.ends > 0 else { _exit(1) }
    self.ends -= 1
  }

  /// Nothing is under way any more. With the vendor app away only what goes to peers is waited for.
  private var isDone: Bool {
    let counters = self.node.layer.counters()
    guard counters.sessions == 0, counters.relays == 0 else { return false }
    if self.node.link.up == nil { return self.node.commands.away == 0 }
    return self.node.outbox.isEmpty && self.node.commands.isIdle
      && self.node.mailbox?.isDone ?? true
  }

  /// What the vendor app has not acknowledged: the events are the controllers' to keep, the results are
  /// in this process only.
  private func handResultsOver() {
    let left = self.node.outbox.counters
    guard left.messages > 0 else { return }
    let results = self.node.commands.unacknowledgedResults
    let kept = results.isEmpty ? 0 : self.node.ownership.handOver(results)
    self.log.warning(
      """
      \(left.events) events and \(left.results) results were not acknowledged by the vendor app in \
      time; the controllers keep the events and send them to whoever serves them next
      """, metadata: ["kept_by_peers": "\(kept)"])
  }
}

/// Whether a node that is being emptied is worth waiting for: as long as something moves. A value; whoever
/// looks says when.
struct Draining {
  /// Nothing has moved for so long: nothing will.
  static let patience: Duration = .seconds(2)
  /// However much there is.
  static let limit: Duration = .seconds(60)

  private var left: Int
  private var movedAt: ContinuousClock.Instant
  private let beganAt: ContinuousClock.Instant

  init(left: Int, at now: ContinuousClock.Instant) {
    self.left = left
    self.movedAt = now
    self.beganAt = now
  }

  mutating func goesOn(left: Int, at now: ContinuousClock.Instant) -> Bool {
    if left < self.left { self.movedAt = now }
    self.left = left
    return left > 0 && now - self.movedAt < Draining.patience && now - self.beganAt < Draining.limit
  }
}

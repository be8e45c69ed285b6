/// Keeps a node's session alive, and knows until when the node may act.
///
/// The right to act counts from *before* a heartbeat was sent: it may have run in the store that early.
/// Counted from the reply it would reach beyond what watchers wait (Docs/OWNERSHIP.md, Time).
///
/// One heartbeat is under way at a time; the shell reports the end of each, within the call timeout.
public struct SessionMachine: Sendable, Equatable {
  public enum Event: Sendable, Equatable {
    case wake
    case confirmed(counter: UInt64)
    /// It was not answered; it may have run, or may still.
    case unreachable(counter: UInt64)
    /// It was answered, but other answers have overtaken this one: it counts for nothing.
    case outdated(counter: UInt64)
    /// There may be news in the store: look now.
    case nudged
  }

  public enum Directive: Sendable, Equatable {
    case heartbeat(counter: UInt64)
    case wake(at: Instant)
  }

  /// Two heartbeats are at least this far apart, whoever nudges.
  public static let gapMin = Duration.milliseconds(10)

  private let timing: Timing
  private var counter: UInt64 = 0
  private var sentAt: Instant?
  private var isUnderWay = false
  private var isNudged = false
  /// Until when the node may act by what the store has confirmed; nil before the first time.
  public private(set) var deadline: Instant?
  /// Heartbeats in a row that were not answered.
  public private(set) var failures = 0

  /// So lately was a heartbeat sent that was confirmed that nobody can have taken the node off the list.
  public func isFresh(at now: Instant) -> Bool {
    deadline.map { now + (timing.ttl - timing.margin) < $0 + timing.sureFor } ?? false
  }

  public init(timing: Timing) {
    self.timing = timing
  }

  public mutating func step(_ event: Event, at now: Instant) -> [Directive] {
    switch event {
    case .wake: break
    case .nudged: isNudged = true
    case .confirmed(let counter):
      guard isUnderWay, counter == self.counter, let sentAt else { return [] }
      isUnderWay = false
      failures = 0
      let until = sentAt + (timing.ttl - timing.margin)
      deadline = max(deadline ?? until, until)
    case .outdated(let counter):
      guard isUnderWay, counter == self.counter else { return [] }
      isUnderWay = false
      isNudged = true
    case .unreachable(let counter):
      guard isUnderWay, counter == self.counter else { return [] }
      isUnderWay = false
      failures += 1
    }
    return beat(at: now)
  }

  private mutating func beat(at now: Instant) -> [Directive] {
    guard !isUnderWay else { return [] }
    if let sentAt {
      let dueAt = sentAt + (isNudged ? SessionMachine.gapMin : timing.renewEvery)
      guard now >= dueAt else { return [.wake(at: dueAt)] }
    }
    isNudged = false
    isUnderWay = true
    counter += 1
    sentAt = now
    return [.heartbeat(counter: counter), .wake(at: now + timing.renewEvery)]
  }
}

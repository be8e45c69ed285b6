/// When to open the stream to the vendor app, and what to say about it.
///
/// A value stepped by (event, now). One attempt at a time, numbered; reports about an attempt that is
/// over are ignored. A stream that broke is opened again after a jittered back-off that grows with
/// each failure and begins anew once a stream has proved itself: by an acknowledgement, or by having
/// lived for a while. A vendor app that broke the protocol is kept at a distance from the first time.
struct AttachMachine: Sendable {
  struct Settings: Sendable, Equatable {
    var backoffMin: Duration = .milliseconds(100)
    /// Events and results wait for it. Far below the time in which the health of members settles: all are to be
    /// back by then.
    var backoffMax: Duration = .milliseconds(500)
    var backoffAfterViolation: Duration = .seconds(2)
    /// A stream that lived so long was a good one.
    var goodAfter: Duration = .seconds(10)
  }

  enum Ending: Sendable, Equatable {
    /// The vendor app is not there, went away, or ended the stream.
    case broken(String)
    /// It said what it must not say.
    case violation(String)
  }

  enum Event: Sendable {
    case start
    /// No connection can be made to it; attempts go on by themselves.
    case unreachable(String)
    /// The vendor app took the stream.
    case opened(attempt: UInt64)
    /// It acknowledged something.
    case acknowledged(attempt: UInt64)
    case ended(attempt: UInt64, Ending)
    case wake
    case stop
  }

  enum Directive: Sendable, Equatable {
    case open(attempt: UInt64)
    /// Ask again (`wake`) at this time.
    case wake(at: ContinuousClock.Instant)
    /// End what is open, in an orderly way.
    case finish(attempt: UInt64)
    /// For the log, once per change: the first failure of an outage, and its end.
    case reportUp
    case reportDown(Ending)
  }

  enum State: Sendable, Equatable {
    case idle
    case opening(attempt: UInt64)
    case open(attempt: UInt64, since: ContinuousClock.Instant, proved: Bool)
    case waiting(until: ContinuousClock.Instant)
    case stopped
  }

  let settings: Settings
  private(set) var state = State.idle
  /// Streams that failed since one proved itself.
  private(set) var failures = 0
  /// Since when there is no stream, and why; nil while one is open.
  private(set) var down: (since: Moment, why: String)?
  /// Since when there is one, while there is.
  private(set) var up: Moment?
  private var attempts: UInt64 = 0
  private var random: SplitMix64

  init(settings: Settings = Settings(), seed: UInt64) {
    self.settings = settings
    self.random = SplitMix64(seed: seed)
  }

  mutating func step(_ event: Event, at now: Moment) -> [Directive] {
    switch (event, self.state) {
    case (.stop, .opening(let attempt)), (.stop, .open(let attempt, _, _)):
      self.state = .stopped
      return [.finish(attempt: attempt)]
    case (.stop, _):
      self.state = .stopped
      return []
    case (_, .stopped):
      return []

    case (.start, .idle):
      return self.openNext()
    case (.wake, .waiting(let until)):
      return now.uptime >= until ? self.openNext() : [.wake(at: until)]

    case (.unreachable(let why), .opening):
      return self.report(.broken(why), at: now)
    case (.opened(let attempt), .opening(let current)) where attempt == current:
      self.state = .open(attempt: attempt, since: now.uptime, proved: false)
      self.down = nil
      self.up = now
      return [.reportUp]
    case (.acknowledged(let attempt), .open(let current, let since, _)) where attempt == current:
      self.state = .open(attempt: attempt, since: since, proved: true)
      self.failures = 0
      return []

    case (.ended(let attempt, let ending), .opening(let current)) where attempt == current:
      return self.fail(ending, at: now)
    case (.ended(let attempt, let ending), .open(let current, let since, let proved))
    where attempt == current:
      if proved || now.uptime - since >= self.settings.goodAfter { self.failures = 0 }
      return self.fail(ending, at: now)

    case (.start, _), (.wake, _), (.unreachable, _), (.opened, _), (.acknowledged, _), (.ended, _):
      return []
    }
  }

  private mutating func openNext() -> [Directive] {
    self.attempts += 1
    self.state = .opening(attempt: self.attempts)
    return [.open(attempt: self.attempts)]
  }

  private mutating func fail(_ ending: Ending, at now: Moment) -> [Directive] {
    let reports = self.report(ending, at: now)
    self.failures += 1
    let until = now.uptime.advanced(by: self.delay(after: ending))
    self.state = .waiting(until: until)
    return reports + [.wake(at: until)]
  }

  /// An outage is reported as it begins; a broken protocol always.
  private mutating func report(_ ending: Ending, at now: Moment) -> [Directive] {
    let isNew = self.down == nil
    self.up = nil
    switch ending {
    case .broken(let why):
      self.down = (since: self.down?.since ?? now, why: why)
      return isNew ? [.reportDown(ending)] : []
    case .violation(let why):
      self.down = (since: self.down?.since ?? now, why: why)
      return [.reportDown(ending)]
    }
  }

  /// Doubles with each failure up to the maximum; then half of it to all of it, at random, so that
  /// nodes that lost the same vendor app do not come back in one instant.
  private mutating func delay(after ending: Ending) -> Duration {
    var delay = min(
      self.settings.backoffMin * (1 << min(self.failures - 1, 16)), self.settings.backoffMax)
    if case .violation = ending { delay = max(delay, self.settings.backoffAfterViolation) }
    return delay * Double.random(in: 0.5...1, using: &self.random)
  }
}

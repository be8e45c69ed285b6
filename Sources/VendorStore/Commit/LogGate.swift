/// Lets a message through at most once per interval, and tells how many it held back.
struct LogGate: Sendable {
  private let interval: Duration
  private var openAt: ContinuousClock.Instant?
  private var suppressed = 0

  init(every interval: Duration) { self.interval = interval }

  mutating func pass(
    at now: ContinuousClock.Instant, _ log: (_ suppressed: Int) -> Void
  ) {
    if let openAt, now < openAt {
      suppressed += 1
      return
    }
    log(suppressed)
    suppressed = 0
    openAt = now + interval
  }
}

/// The results of the latest commands, so that an id that is given again has the same result.
/// Bounded by number and by age.
struct RecentResults: Sendable {
  private var results: [CommandID: FinishedCommand] = [:]
  private var order = Queue<(id: CommandID, at: ContinuousClock.Instant)>()
  let max: Int
  let keep: Duration

  init(max: Int, keep: Duration) {
    self.max = max
    self.keep = keep
  }

  var count: Int { self.results.count }

  func result(of id: CommandID) -> FinishedCommand? {
    self.results[id]
  }

  mutating func insert(_ result: FinishedCommand, at now: ContinuousClock.Instant) {
    self.expire(at: now)
    self.results[result.id] = result
    self.order.append((id: result.id, at: now))
    if self.order.count > self.max, let oldest = self.order.popFirst() {
      self.results[oldest.id] = nil
    }
  }

  private mutating func expire(at now: ContinuousClock.Instant) {
    while let oldest = self.order.first, now - oldest.at >= self.keep {
      _ = self.order.popFirst()
      self.results[oldest.id] = nil
    }
  }
}

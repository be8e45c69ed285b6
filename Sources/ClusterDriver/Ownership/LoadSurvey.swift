import Election

/// What each of the node's ranges costs it: a controller counts 1, and so do `eventsPerUnit` events a
/// second. Told to the cluster only when it has changed by enough to matter, since each change goes
/// to every node; and not before most of its controllers have been counted twice: after a restart or a
/// move they would seem to have no events, and ranges would be moved for that.
struct LoadSurvey: Sendable {
  static let eventsPerUnit = 4.0
  /// Below a change of an eighth, and of so much, nothing is said.
  static let changeMin: UInt64 = 8

  /// One count of all sessions. Serials are added in ascending order.
  struct Count {
    fileprivate struct Range {
      var range: OwnedRange
      var serials: [Serial] = []
    }

    fileprivate var ranges: [Range]
    fileprivate var received: [UInt64: UInt64] = [:]
    private var at = 0

    /// - Parameter ranges: the node's, by first serial.
    init(ranges: [OwnedRange]) {
      self.ranges = ranges.map { Range(range: $0) }
    }

    mutating func add(serial: UInt64, received: UInt64) {
      while self.at < self.ranges.count, self.ranges[self.at].range.last.rawValue < serial {
        self.at += 1
      }
      guard self.at < self.ranges.count, self.ranges[self.at].range.first.rawValue <= serial else {
        return
      }
      self.ranges[self.at].serials.append(Serial(serial))
      self.received[serial] = received
    }
  }

  private var said: [Serial: RangeLoad] = [:]
  private var received: [UInt64: UInt64] = [:]
  private var countedAt: Instant?
  /// Of no range the load is yet to be found out: by another count, soon.
  private(set) var isComplete = true

  /// The loads to be told.
  mutating func changes(_ count: Count, at now: Instant) -> [Serial: RangeLoad] {
    let seconds = self.countedAt.map { Double((now - $0).wholeNanoseconds) / 1e9 } ?? 0
    var loads: [Serial: RangeLoad] = [:]
    var all: [Serial: RangeLoad] = [:]
    self.isComplete = true
    for range in count.ranges {
      var events: UInt64 = 0
      var known = 0
      for serial in range.serials {
        guard let before = self.received[serial.rawValue],
          let after = count.received[serial.rawValue]
        else { continue }
        known += 1
        events += after > before ? after - before : 0
      }
      if self.countedAt == nil || known * 2 < range.serials.count {
        self.isComplete = false
        all[range.range.first] = self.said[range.range.first]
        continue
      }
      let perSecond = seconds > 0 ? Double(events) / seconds : 0
      let weight = UInt64(range.serials.count) + UInt64(perSecond / LoadSurvey.eventsPerUnit)
      let load = RangeLoad(weight: max(weight, 1), median: RangeMap.median(of: range.serials))
      let first = range.range.first
      if let said = self.said[first], !LoadSurvey.isNews(load, said) {
        all[first] = said
      } else {
        all[first] = load
        loads[first] = load
      }
    }
    self.said = all
    self.received = count.received
    self.countedAt = now
    return loads
  }

  private static func isNews(_ load: RangeLoad, _ said: RangeLoad) -> Bool {
    if (load.median == nil) != (said.median == nil) { return true }
    let change = load.weight > said.weight ? load.weight - said.weight : said.weight - load.weight
    return change >= max(self.changeMin, said.weight / 8)
  }
}

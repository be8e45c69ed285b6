/// Which controllers' channels the node listens on: those connected, and those that left within the
/// grace. A command published in that moment waits for them here, or is passed on to the node whose
/// they are now and which may not be listening yet.
///
/// A value; the link to Redis does what it says, in batches.
struct ChannelSet: Sendable {
  struct Changes: Sendable, Equatable {
    var subscribe: [UInt64] = []
    var unsubscribe: [UInt64] = []
    var isEmpty: Bool { self.subscribe.isEmpty && self.unsubscribe.isEmpty }
  }

  let grace: Duration
  /// Sessions of a serial as far as known: two while a newer one takes an older one's place, 0 while
  /// it is expected back.
  private var present: [UInt64: UInt32] = [:]
  /// Since when those are gone that are expected back.
  private var leftAt: [UInt64: ContinuousClock.Instant] = [:]
  private var leaving = Queue<(serial: UInt64, at: ContinuousClock.Instant)>()
  private var changed: [UInt64: Bool] = [:]

  init(grace: Duration) {
    self.grace = grace
  }

  var count: Int { self.present.count }

  mutating func connected(_ serial: UInt64) {
    if let sessions = self.present[serial] {
      self.present[serial] = sessions + 1
      self.leftAt[serial] = nil
    } else {
      self.present[serial] = 1
      self.change(serial, to: true)
    }
  }

  mutating func disconnected(_ serial: UInt64, at now: ContinuousClock.Instant) {
    guard let sessions = self.present[serial], sessions > 0 else { return }
    self.present[serial] = sessions - 1
    guard sessions == 1 else { return }
    self.leftAt[serial] = now
    self.leaving.append((serial: serial, at: now))
  }

  /// When `takeChanges` has something to say next without anything happening; nil = never.
  var wakeAt: ContinuousClock.Instant? {
    self.leaving.first?.at.advanced(by: self.grace)
  }

  /// What is to be done since the last time.
  mutating func takeChanges(at now: ContinuousClock.Instant) -> Changes {
    while let oldest = self.leaving.first, now - oldest.at >= self.grace {
      _ = self.leaving.popFirst()
      // It may have come back, or come back and left again: then a later entry speaks for it.
      if self.leftAt[oldest.serial] == oldest.at {
        self.leftAt[oldest.serial] = nil
        self.present[oldest.serial] = nil
        self.change(oldest.serial, to: false)
      }
    }
    guard !self.changed.isEmpty else { return Changes() }
    var changes = Changes()
    for (serial, wanted) in self.changed.sorted(by: { $0.key < $1.key }) {
      if wanted { changes.subscribe.append(serial) } else { changes.unsubscribe.append(serial) }
    }
    self.changed.removeAll()
    return changes
  }

  /// Everything wanted, for a link that begins anew.
  var all: [UInt64] { self.present.keys.sorted() }

  /// Wanted and unwanted again between two looks: nothing to do.
  private mutating func change(_ serial: UInt64, to wanted: Bool) {
    if self.changed[serial] == !wanted {
      self.changed[serial] = nil
    } else {
      self.changed[serial] = wanted
    }
  }
}

/// Ownership for a node that is the only one: it owns every serial, without end.
///
/// The epoch begins at 1 and is raised above any that a controller or the vendor app has seen, which
/// they have when another node or an earlier installation served them. A new epoch means a new
/// session, with the unacknowledged events once more; so it is raised for the serial that was
/// reported, as a range of its own, and for all only when many report: then it was the node that was
/// behind, and not a controller that is wrong. Nobody can carry it beyond `epochMax`: a controller
/// that reports a higher one is not served. At `epochMax` itself the node goes on under the very
/// epoch that was seen, which controllers and vendor app accept.
struct SoleOwnership: Sendable, Equatable {
  static let epochMax: UInt64 = 1 << 62
  /// Serials that may have an epoch of their own.
  static let exceptionsMax = 64

  struct Range: Sendable, Equatable {
    var first: UInt64
    var last: UInt64
    var epoch: UInt64
  }

  /// Somebody has seen `epoch` for `serial`.
  struct Report: Sendable, Equatable {
    var serial: UInt64
    var epoch: UInt64
  }

  struct Reaction: Sendable, Equatable {
    /// The ranges are others than before: the controller layer is to be told.
    var isChanged = false
    /// A report of an epoch that cannot be meant.
    var implausible: Report?
  }

  /// Of every serial that has none of its own.
  private(set) var epoch: UInt64 = 1
  private var exceptions: [UInt64: UInt64] = [:]

  /// Lowest and highest in force.
  var epochs: ClosedRange<UInt64> { self.epoch...(self.exceptions.values.max() ?? self.epoch) }

  /// All serials there are (0 and 2^64 − 1 are none), by serial.
  var ranges: [Range] {
    var ranges: [Range] = []
    var next: UInt64 = 1
    for (serial, epoch) in self.exceptions.sorted(by: { $0.key < $1.key }) {
      if next < serial { ranges.append(Range(first: next, last: serial - 1, epoch: self.epoch)) }
      ranges.append(Range(first: serial, last: serial, epoch: epoch))
      next = serial + 1
    }
    if next < UInt64.max {
      ranges.append(Range(first: next, last: UInt64.max - 1, epoch: self.epoch))
    }
    return ranges
  }

  /// Until when the ranges may be acted for, in ns on CLOCK_BOOTTIME: without limit.
  var validUntil: UInt64 { .max }

  func epoch(of serial: UInt64) -> UInt64 { self.exceptions[serial] ?? self.epoch }

  mutating func seen(_ reports: [Report]) -> Reaction {
    var reaction = Reaction()
    for report in reports where report.serial >= 1 && report.serial < UInt64.max {
      guard report.epoch <= SoleOwnership.epochMax else {
        reaction.implausible = report
        continue
      }
      let present = self.epoch(of: report.serial)
      guard report.epoch >= present, present < SoleOwnership.epochMax else { continue }
      self.exceptions[report.serial] = min(report.epoch + 1, SoleOwnership.epochMax)
      reaction.isChanged = true
    }
    if self.exceptions.count > SoleOwnership.exceptionsMax {
      self.epoch = self.epochs.upperBound
      self.exceptions = [:]
    }
    return reaction
  }
}

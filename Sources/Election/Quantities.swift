/// Serial number of a controller, 1 … 2⁶⁴−2.
public struct Serial: Sendable, Hashable, Comparable, CustomStringConvertible {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  public static let lowest = Serial(1)
  public static let highest = Serial(.max - 1)

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { "\(rawValue)" }
}

/// Fencing token of a range. Grows at every change of owner and never falls, whatever the store
/// forgets; whoever is shown a lower one than it has seen refuses.
public struct Epoch: Sendable, Hashable, Comparable, CustomStringConvertible {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  /// Below every epoch that was ever granted.
  public static let none = Epoch(0)

  /// The next one above all that are known.
  ///
  /// At 2⁶⁴−1 it stops growing instead of wrapping: a claim then can't be granted, which is an outage of
  /// one range, whereas a wrapped epoch would be a second owner.
  public var next: Epoch? {
    rawValue == .max ? nil : Epoch(rawValue + 1)
  }

  /// One that was granted neither before nor by another store, when the store given may not know of the
  /// last grants: above this one by up to 2²¹, which at a change of owner every 10 ms lasts for hours; its
  /// low 20 bits are the store's own, lest two stores that have lost the same give the same. The first
  /// epoch of all is 1 nevertheless.
  public func nextAfterLoss(in store: StoreIdentity) -> Epoch? {
    if self == .none { return next }
    let (sum, overflow) = (rawValue | 0xF_FFFF).addingReportingOverflow(1 + store.tag)
    return overflow ? nil : Epoch(sum)
  }

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { "e\(rawValue)" }
}

/// Number of an election of the leader. Grows at every election.
public struct Term: Sendable, Hashable, Comparable, CustomStringConvertible {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  public static let none = Term(0)

  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { "t\(rawValue)" }
}

/// A node's stable name, the same after a restart (`host:port` by default).
public struct NodeID: Sendable, Hashable, Comparable, CustomStringConvertible {
  public let name: String
  /// The name's first eight bytes: most comparisons need no more than these.
  private let beginning: UInt64

  public init(_ name: String) {
    self.name = name
    var beginning: UInt64 = 0
    var shift: UInt64 = 64
    for byte in name.utf8.prefix(8) {
      shift -= 8
      beginning |= UInt64(byte) << shift
    }
    self.beginning = beginning
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.beginning == b.beginning && a.name == b.name
  }
  /// By name, byte by byte.
  public static func < (a: Self, b: Self) -> Bool {
    a.beginning != b.beginning ? a.beginning < b.beginning : a.name < b.name
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
  public var description: String { name }
}

/// One life of a node: new at every start, so that a grant to an earlier life is told from one to this.
public struct Incarnation: Sendable, Hashable, CustomStringConvertible {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public var description: String { "i\(rawValue)" }
}

/// A reading of one machine's monotonic clock that goes on through suspension (CLOCK_BOOTTIME).
///
/// Instants of two machines are never compared; no instant travels.
public struct Instant: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// Nanoseconds since an origin of the machine's own.
  public var nanoseconds: Int64
  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  public static let distantFuture = Instant(nanoseconds: .max)

  public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
  public static func + (a: Self, b: Duration) -> Instant {
    let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b.wholeNanoseconds)
    return overflow ? .distantFuture : Instant(nanoseconds: sum)
  }
  /// So many of the durations later.
  func after(_ duration: Duration, times n: Int) -> Instant {
    let (all, isTooLong) = duration.wholeNanoseconds.multipliedReportingOverflow(by: Int64(n))
    let (sum, overflow) = nanoseconds.addingReportingOverflow(all)
    return isTooLong || overflow ? .distantFuture : Instant(nanoseconds: sum)
  }
  public static func - (a: Self, b: Self) -> Duration {
    .nanoseconds(a.nanoseconds - b.nanoseconds)
  }
  public var description: String { "\(nanoseconds / 1_000_000)ms" }
}

extension Duration {
  /// The duration in nanoseconds, at the limit of `Int64` (292 years) where it is longer.
  public var wholeNanoseconds: Int64 {
    // Up to nine seconds, which most are: without the slow division of 128 bits.
    if let few = Int64(exactly: attoseconds) { return few / 1_000_000_000 }
    let (seconds, attoseconds) = components
    let (ns, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    let (sum, over) = ns.addingReportingOverflow(attoseconds / 1_000_000_000)
    return over ? (seconds < 0 ? .min : .max) : sum
  }
}

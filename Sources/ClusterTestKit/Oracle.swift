import Election

/// Sees what every node acts for, and what no node may do. Some controllers' serials, the probes, are
/// followed one by one.
struct Oracle {
  struct Fault: Error, CustomStringConvertible {
    var description: String
  }

  private struct Acting {
    var ranges: [OwnedRange] = []
    /// True time.
    var until: Int64 = 0
  }

  private struct Holder: Equatable {
    var node: Int
    var life: UInt64
  }

  private struct Probe {
    let serial: Serial
    var epoch = Epoch.none
    var holder: Holder?
    /// When the last right to act for it ended, or will.
    var servedUntil: Int64 = 0
  }

  private var acting: [Acting]
  private var probes: [Probe]
  private var peaceBeganAt: Int64?
  private(set) var grants = 0
  private(set) var recoveriesMs: [Double] = []
  private(set) var gapsMs: [Double] = []

  init(nodes: Int, probes n: Int) {
    acting = Array(repeating: Acting(), count: nodes)
    probes = (0..<n).map { Probe(serial: Serial(1 + UInt64($0) * (UInt64.max / UInt64(n) - 7))) }
  }

  mutating func peaceBegan(at now: Int64) { peaceBeganAt = now }

  mutating func gone(_ node: Int, at now: Int64) {
    acting[node] = Acting()
    for i in probes.indices where probes[i].holder?.node == node {
      probes[i].servedUntil = min(probes[i].servedUntil, now)
    }
  }

  /// A serial that nobody has acted for since then.
  func unserved(since then: Int64) -> Serial? {
    probes.first { $0.servedUntil < then }?.serial
  }

  /// The node acts for these ranges, by first serial, until then. Returns the epochs, seen by controllers,
  /// that are above what it acts under.
  mutating func acts(
    _ node: Int, life: UInt64, ranges: [OwnedRange], until: Int64, at now: Int64,
    isPaused: (Int) -> Bool
  ) throws(Fault) -> [OwnedRange] {
    acting[node] = Acting(ranges: ranges, until: until)
    let holder = Holder(node: node, life: life)
    if until > now {
      for other in acting.indices
      where other != node && acting[other].until > now && !isPaused(other) {
        if let (mine, theirs) = Oracle.overlap(ranges, acting[other].ranges) {
          throw Fault(description: "node-\(node) and node-\(other) both act: \(mine) and \(theirs)")
        }
      }
    }
    var stale: [OwnedRange] = []
    // Both are by serial.
    var next = 0
    for i in probes.indices {
      let serial = probes[i].serial
      while next < ranges.count, ranges[next].last < serial { next += 1 }
      guard until > now, next < ranges.count, ranges[next].first <= serial else {
        if probes[i].holder == holder { probes[i].servedUntil = min(probes[i].servedUntil, now) }
        continue
      }
      let range = ranges[next]
      if range.epoch < probes[i].epoch {
        stale.append(OwnedRange(first: serial, last: serial, epoch: probes[i].epoch))
        continue
      }
      try serve(i, by: holder, under: range.epoch, until: until, at: now)
    }
    return stale
  }

  private mutating func serve(
    _ i: Int, by holder: Holder, under epoch: Epoch, until: Int64, at now: Int64
  ) throws(Fault) {
    let probe = probes[i]
    if probe.holder != holder {
      if let other = probe.holder, epoch == probe.epoch {
        throw Fault(
          description:
            "\(epoch) of serial \(probe.serial) is node-\(holder.node)'s after node-\(other.node)'s"
        )
      }
      grants += 1
    }
    if let peaceBeganAt, probe.servedUntil < now, probe.servedUntil <= peaceBeganAt {
      recoveriesMs.append(Double(now - peaceBeganAt) / 1e6)
    }
    if probe.servedUntil < now, probe.holder != nil, probe.holder != holder {
      gapsMs.append(Double(now - probe.servedUntil) / 1e6)
    }
    probes[i].servedUntil = until
    probes[i].epoch = epoch
    probes[i].holder = holder
  }

  /// Both are sorted by first serial.
  private static func overlap(
    _ a: [OwnedRange], _ b: [OwnedRange]
  ) -> (OwnedRange, OwnedRange)? {
    var (i, j) = (0, 0)
    while i < a.count, j < b.count {
      if a[i].serials.overlaps(b[j].serials) { return (a[i], b[j]) }
      if a[i].last < b[j].last { i += 1 } else { j += 1 }
    }
    return nil
  }
}

/// The division of all serials into ranges, the units of ownership.
///
/// Invariants, by construction:
/// - every serial 1 … 2⁶⁴−2 is in exactly one range: a range is kept as its first serial only, and ends
///   where the next begins, so a gap or an overlap can't be written down;
/// - `floor` of a range never falls: the children of a split take their parent's, a merger the higher of
///   the two. A claim is granted above the floor, so an epoch once seen by a controller is never granted
///   again for its serial, however often the range was cut and joined.
public struct RangeMap: Sendable, Equatable {
  public struct Range: Sendable, Equatable {
    /// First serial; names the range for as long as it exists.
    public let first: Serial
    /// Epochs up to this have been granted for some serial in the range.
    public internal(set) var floor: Epoch
  }

  /// Sorted by first serial; the first one begins at the lowest serial.
  public private(set) var ranges: [Range]
  /// Grows with every split and merger; a plan made for another version is not carried out.
  public private(set) var version: UInt64

  /// One range for everything.
  public init() {
    ranges = [Range(first: .lowest, floor: .none)]
    version = 1
  }

  /// Rebuilds a map that was stored. Nil when it is none: empty, not sorted, not from the lowest serial,
  /// or beyond the highest.
  public init?(stored: [(first: Serial, floor: Epoch)], version: UInt64) {
    guard stored.first?.first == .lowest, stored.last!.first <= .highest else { return nil }
    for (a, b) in zip(stored, stored.dropFirst()) where a.first >= b.first { return nil }
    ranges = stored.map { Range(first: $0.first, floor: $0.floor) }
    self.version = version
  }

  /// Index of the range that has the serial. O(log n).
  public func index(of serial: Serial) -> Int {
    var low = 0
    var high = ranges.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if ranges[middle].first <= serial { low = middle } else { high = middle }
    }
    return low
  }

  /// Index of the range with that name, nil when there is none.
  public func index(named first: Serial) -> Int? {
    let i = index(of: first)
    return ranges[i].first == first ? i : nil
  }

  /// Last serial of a range, included.
  public func last(at index: Int) -> Serial {
    index + 1 < ranges.count ? Serial(ranges[index + 1].first.rawValue - 1) : .highest
  }

  /// Remembers that an epoch was granted, or seen, in a range. A lower one changes nothing.
  public mutating func raiseFloor(at index: Int, to epoch: Epoch) {
    if epoch > ranges[index].floor { ranges[index].floor = epoch }
  }

  public enum EditError: Error, Equatable {
    /// A range can be split only behind its own first serial and up to its last.
    case splitPointOutside
    /// The last range has no neighbour behind it to merge with.
    case noNeighbour
  }

  /// Cuts a range in two; `serial` becomes the first of the new one, whose index is returned.
  @discardableResult
  public mutating func split(at serial: Serial) throws(EditError) -> Int {
    let i = index(of: serial)
    guard ranges[i].first < serial, serial <= .highest else { throw .splitPointOutside }
    ranges.insert(Range(first: serial, floor: ranges[i].floor), at: i + 1)
    version += 1
    return i + 1
  }

  /// Joins a range with the one behind it; it keeps its name.
  public mutating func merge(at index: Int) throws(EditError) {
    guard index >= 0, index + 1 < ranges.count else { throw .noNeighbour }
    let gone = ranges.remove(at: index + 1)
    raiseFloor(at: index, to: gone.floor)
    version += 1
  }

  /// Where to cut a range so that half of its known controllers fall on either side: the serial in the
  /// middle, in O(n). Nil when fewer than two are known. `serials` must be sorted and of the range.
  public static func median(of serials: [Serial]) -> Serial? {
    serials.count < 2 ? nil : serials[serials.count / 2]
  }
}

extension RangeMap {
  /// Remembers an epoch for some serials, however the map is cut.
  public mutating func raiseFloor(of serials: ClosedRange<Serial>, to epoch: Epoch) {
    guard hasLower(than: epoch, in: serials) else { return }
    _ = try? split(at: serials.lowerBound)
    if serials.upperBound < .highest {
      _ = try? split(at: Serial(serials.upperBound.rawValue + 1))
    }
    let first = index(of: serials.lowerBound)
    let end = index(of: serials.upperBound)
    for i in first...end { raiseFloor(at: i, to: epoch) }
    // Cuts that part nothing are taken out, lest the memory grow with every range there ever was.
    var i = min(end + 1, ranges.count - 1)
    while i > max(first - 1, 0) {
      if ranges[i].floor == ranges[i - 1].floor { try? merge(at: i - 1) }
      i -= 1
    }
  }

  /// The highest epoch that is remembered of any of the serials.
  public func floor(of serials: ClosedRange<Serial>) -> Epoch {
    let first = index(of: serials.lowerBound)
    var highest = ranges[first].floor
    var i = first + 1
    while i < ranges.count, ranges[i].first <= serials.upperBound {
      highest = max(highest, ranges[i].floor)
      i += 1
    }
    return highest
  }

  private func hasLower(than epoch: Epoch, in serials: ClosedRange<Serial>) -> Bool {
    (index(of: serials.lowerBound)...index(of: serials.upperBound)).contains {
      ranges[$0].floor < epoch
    }
  }
}

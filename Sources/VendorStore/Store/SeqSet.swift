/// A set of sequence numbers, as sorted runs: one run for a log without holes, however long.
/// Appending at the end is O(1).
struct SeqSet: Sendable, Equatable {
  private(set) var runs: [ClosedRange<UInt64>] = []

  var isEmpty: Bool { runs.isEmpty }
  var first: UInt64? { runs.first?.lowerBound }
  var last: UInt64? { runs.last?.upperBound }

  /// How many numbers; 2⁶⁴ − 1 at most, since 0 is not a sequence number.
  var count: UInt64 {
    runs.reduce(0) { $0 &+ ($1.upperBound - $1.lowerBound) &+ 1 }
  }

  /// Adds one number; false when it was there.
  @inline(__always)
  mutating func insert(_ seq: UInt64) -> Bool {
    if let last = runs.last, last.upperBound < seq, last.upperBound + 1 == seq {
      runs[runs.count - 1] = last.lowerBound...seq
      return true
    }
    if contains(seq) { return false }
    insert(seq...seq)
    return true
  }

  func contains(_ seq: UInt64) -> Bool {
    let index = firstRun(endingAtOrAfter: seq)
    return index < runs.count && runs[index].lowerBound <= seq
  }

  /// Adds all numbers of a range, whether or not some are there.
  mutating func insert(_ range: ClosedRange<UInt64>) {
    var lower = range.lowerBound
    var upper = range.upperBound
    // Runs that touch or overlap the range are joined with it.
    let begin = firstRun(endingAtOrAfter: lower == 0 ? 0 : lower - 1)
    var end = begin
    while end < runs.count, runs[end].lowerBound <= (upper == .max ? upper : upper + 1) {
      lower = min(lower, runs[end].lowerBound)
      upper = max(upper, runs[end].upperBound)
      end += 1
    }
    runs.replaceSubrange(begin..<end, with: CollectionOfOne(lower...upper))
  }

  func union(_ other: SeqSet) -> SeqSet {
    var result = self
    for run in other.runs { result.insert(run) }
    return result
  }

  private func firstRun(endingAtOrAfter seq: UInt64) -> Int {
    // New records are at the end: look there before searching.
    if let last = runs.last, last.upperBound < seq { return runs.count }
    var low = 0
    var high = runs.count
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].upperBound < seq { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

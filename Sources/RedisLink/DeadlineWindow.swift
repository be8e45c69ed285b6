/// The earliest of the deadlines in a first-in-first-out window, in constant time: deadlines that a
/// later and earlier-ending one outlives can never be the earliest and are forgotten.
struct DeadlineWindow {
  private var candidates: [(index: UInt64, deadline: UInt64)] = []
  private var firstIndex: UInt64 = 0
  private var nextIndex: UInt64 = 0
  private var head = 0

  var earliest: UInt64 { head < candidates.count ? candidates[head].deadline : .max }

  mutating func append(_ deadline: UInt64) {
    while candidates.count > head, candidates[candidates.count - 1].deadline > deadline {
      candidates.removeLast()
    }
    candidates.append((nextIndex, deadline))
    nextIndex += 1
  }

  mutating func removeFirst() {
    if head < candidates.count, candidates[head].index == firstIndex { head += 1 }
    firstIndex += 1
    if head == candidates.count {
      candidates.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 1024, head * 2 >= candidates.count {
      candidates.removeFirst(head)
      head = 0
    }
  }
}

/// Things to come, the earliest first; at the same instant in the order they were entered.
///
/// The heap is of small keys; what they stand for stays where it is.
struct Agenda<Element> {
  private struct Key {
    var at: Int64
    var order: UInt64
    var slot: Int

    static func < (a: Key, b: Key) -> Bool { a.at != b.at ? a.at < b.at : a.order < b.order }
  }

  private var heap: [Key] = []
  private var slots: [Element?] = []
  private var free: [Int] = []
  private var entered: UInt64 = 0

  var nextAt: Int64? { heap.first?.at }

  mutating func enter(_ element: Element, at: Int64) {
    entered += 1
    let slot: Int
    if let reused = free.popLast() {
      slot = reused
      slots[slot] = element
    } else {
      slot = slots.count
      slots.append(element)
    }
    let key = Key(at: at, order: entered, slot: slot)
    heap.append(key)
    var i = heap.count - 1
    while i > 0, key < heap[(i - 1) / 2] {
      heap[i] = heap[(i - 1) / 2]
      i = (i - 1) / 2
    }
    heap[i] = key
  }

  mutating func take() -> (at: Int64, element: Element)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      var i = 0
      while true {
        var child = 2 * i + 1
        guard child < heap.count else { break }
        if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
        guard heap[child] < last else { break }
        heap[i] = heap[child]
        i = child
      }
      heap[i] = last
    }
    free.append(first.slot)
    guard let element = slots[first.slot].take() else { return nil }
    return (first.at, element)
  }
}

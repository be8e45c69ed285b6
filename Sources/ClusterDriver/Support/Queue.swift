/// First in, first out, on one array: amortized constant time at both ends and by position, and no
/// memory kept beyond a small multiple of what is in it.
struct Queue<Element> {
  private var storage: [Element?] = []
  private var head = 0

  var count: Int { self.storage.count - self.head }
  var isEmpty: Bool { self.count == 0 }
  var first: Element? { self.isEmpty ? nil : self.storage[self.head] }

  /// The element `position` places behind the first one.
  subscript(position: Int) -> Element {
    get {
      precondition(position >= 0 && position < self.count, "position outside the queue")
      return self.storage[self.head + position]!
    }
    set {
      precondition(position >= 0 && position < self.count, "position outside the queue")
      self.storage[self.head + position] = newValue
    }
  }

  mutating func append(_ element: Element) {
    self.storage.append(element)
  }

  mutating func popFirst() -> Element? {
    guard !self.isEmpty else { return nil }
    let element = self.storage[self.head]
    // The place is emptied at once: what the element holds must not live on in the array.
    self.storage[self.head] = nil
    self.head += 1
    if self.head == self.storage.count {
      self.head = 0
      self.storage.removeAll(keepingCapacity: self.storage.capacity <= 1024)
    } else if self.head >= 64 && self.head * 2 >= self.storage.count {
      self.storage.removeFirst(self.head)
      self.head = 0
    }
    return element
  }
}

extension Queue: Sendable where Element: Sendable {}

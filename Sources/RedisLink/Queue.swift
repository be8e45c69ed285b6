/// First in, first out, in constant time.
struct Queue<Element> {
  private var elements: [Element?] = []
  private var head = 0

  var count: Int { elements.count - head }
  var isEmpty: Bool { elements.count == head }

  var first: Element? { isEmpty ? nil : elements[head] }

  mutating func append(_ element: Element) {
    elements.append(element)
  }

  mutating func popFirst() -> Element? {
    if isEmpty { return nil }
    let element = elements[head]
    elements[head] = nil
    head += 1
    if head == elements.count {
      // What a storm needed is given back once it is over.
      elements.removeAll(keepingCapacity: elements.capacity <= 4096)
      head = 0
    } else if head >= 1024, head * 2 >= elements.count {
      elements.removeFirst(head)
      head = 0
    }
    return element
  }

  /// Changes the first element in place. There must be one.
  mutating func withFirst<Result>(_ body: (inout Element) -> Result) -> Result {
    body(&elements[head]!)
  }

  /// All of them, in order; none is left.
  mutating func takeAll() -> [Element] {
    defer { self = Queue() }
    return elements[head...].compactMap { $0 }
  }

  init(_ elements: [Element] = []) {
    self.elements = elements
  }
}

/// A map that is kept sorted by its keys: of a cluster's nodes, which are few, and of ranges, which are
/// wanted by serial. To look something up takes O(log n) and no hashing, a new key behind all others
/// O(1), any other new key O(n).
///
/// Why not a dictionary: to hash a node's name takes longer than to find it among a dozen, and whatever
/// has an order would be sorted anew each time it is gone through.
public struct SortedMap<Key: Comparable, Value> {
  public private(set) var keys: [Key]
  /// In the order of `keys`.
  public private(set) var values: [Value]

  public init() {
    keys = []
    values = []
  }

  /// Of two values with the same key the later one stays. O(n) when they come by key.
  public init(_ pairs: some Sequence<(Key, Value)>) {
    self.init()
    keys.reserveCapacity(pairs.underestimatedCount)
    values.reserveCapacity(pairs.underestimatedCount)
    for (key, value) in pairs { set(key, to: value) }
  }

  /// The values by their keys. O(1) in memory and without copies when they come by key.
  public init(_ values: [Value], by key: (Value) -> Key) {
    let keys = values.map(key)
    let isSorted = zip(keys, keys.dropFirst()).allSatisfy { $0 < $1 }
    self.init(isSorted ? [] : Array(zip(keys, values)))
    if isSorted { (self.keys, self.values) = (keys, values) }
  }

  /// Where the key is, nil when it is not there: a place in `keys` and `values`.
  public func index(of key: Key) -> Int? {
    let i = place(of: key)
    return i < keys.count && keys[i] == key ? i : nil
  }

  public func contains(_ key: Key) -> Bool { index(of: key) != nil }

  /// The first place with a key that is not below this one.
  func place(of key: Key) -> Int {
    var low = 0
    var high = keys.count
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return low
  }

  public subscript(key: Key) -> Value? {
    get { index(of: key).map { values[$0] } }
    set { if let newValue { set(key, to: newValue) } else { _ = take(key) } }
  }

  public mutating func set(_ key: Key, to value: Value) {
    // What comes by key is entered in turn.
    if keys.last.map({ $0 < key }) ?? true {
      keys.append(key)
      values.append(value)
      return
    }
    let i = place(of: key)
    if keys[i] == key {
      values[i] = value
    } else {
      keys.insert(key, at: i)
      values.insert(value, at: i)
    }
  }

  public subscript(key: Key, default value: @autoclosure () -> Value) -> Value {
    get { self[key] ?? value() }
    _modify {
      let i = place(of: key)
      if i == keys.count || keys[i] != key {
        keys.insert(key, at: i)
        values.insert(value(), at: i)
      }
      yield &values[i]
    }
  }

  /// Changes the value at a place, where it is.
  public mutating func change<Result>(at i: Int, _ body: (inout Value) -> Result) -> Result {
    body(&values[i])
  }

  @discardableResult
  public mutating func remove(at i: Int) -> Value {
    keys.remove(at: i)
    return values.remove(at: i)
  }

  /// Removes and returns the value, nil when there is none.
  public mutating func take(_ key: Key) -> Value? { index(of: key).map { remove(at: $0) } }

  public func filter(_ isIncluded: (Element) throws -> Bool) rethrows -> SortedMap {
    var kept = SortedMap()
    for element in self where try isIncluded(element) {
      kept.keys.append(element.key)
      kept.values.append(element.value)
    }
    return kept
  }
}

extension SortedMap: RandomAccessCollection {
  public var startIndex: Int { 0 }
  public var endIndex: Int { keys.count }
  public subscript(i: Int) -> (key: Key, value: Value) { (keys[i], values[i]) }
}

extension SortedMap: ExpressibleByDictionaryLiteral {
  public init(dictionaryLiteral pairs: (Key, Value)...) { self.init(pairs) }
}

extension SortedMap: Equatable where Value: Equatable {}
extension SortedMap: Hashable where Key: Hashable, Value: Hashable {}
extension SortedMap: Sendable where Key: Sendable, Value: Sendable {}

import Testing

@testable import Election

@Suite("Sorted map")
struct SortedMapTests {
  /// Numbers as a generator of no great worth gives them, the same each time.
  private struct Dice {
    var state: UInt32 = 7
    mutating func below(_ bound: Int) -> Int {
      state = state &* 1_664_525 &+ 1_013_904_223
      return Int(state >> 16) % bound
    }
  }

  @Test("holds what a dictionary holds after the same changes, by key")
  func asDictionary() {
    var dice = Dice()
    var map: SortedMap<Serial, Int> = [:]
    var dictionary: [Serial: Int] = [:]
    for round in 0..<4000 {
      let key = Serial(UInt64(dice.below(40)))
      switch dice.below(6) {
      case 0, 1:
        map[key] = round
        dictionary[key] = round
      case 2:
        map[key] = nil
        dictionary[key] = nil
      case 3: #expect(map.take(key) == dictionary.removeValue(forKey: key))
      case 4:
        map[key, default: 0] += 1
        dictionary[key, default: 0] += 1
      default:
        map = map.filter { $0.value % 7 != 0 }
        dictionary = dictionary.filter { $0.value % 7 != 0 }
      }
      #expect(map[key] == dictionary[key] && map.contains(key) == (dictionary[key] != nil))
      #expect(map.keys == dictionary.keys.sorted())
      #expect(map.values == map.keys.map { dictionary[$0] })
    }
  }

  @Test("is made of values in any order; of two with the same key the later one stays")
  func made() {
    let sorted = [record(1, 9, nil, 0), record(10, 19, nil, 0), record(20, everything, nil, 0)]
    let map: SortedMap<Serial, RangeRecord> = [
      Serial(20): sorted[2], Serial(1): sorted[0], Serial(10): sorted[1],
    ]
    #expect(map.values == sorted)
    #expect(SortedMap(sorted, by: \.first) == map)
    #expect(SortedMap(sorted.reversed(), by: \.first) == map)
    #expect(SortedMap([sorted[1], sorted[0], sorted[2], sorted[1]], by: \.first) == map)
    let later = record(10, 11, nil, 3)
    #expect(SortedMap(sorted + [later], by: \.first)[Serial(10)] == later)
  }
}

@Suite("Names of nodes")
struct NodeIDTests {
  @Test("names are ordered and told apart byte by byte, however long the beginning they share")
  func order() {
    let names = ["", "a", "a:1", "node-1", "node-10", "node-1000", "node-1001", "node-2", "é", "ö"]
    for (i, a) in names.enumerated() {
      for (j, b) in names.enumerated() {
        #expect((NodeID(a) == NodeID(b)) == (i == j), "\(a) \(b)")
        #expect((NodeID(a) < NodeID(b)) == (i < j), "\(a) \(b)")
      }
    }
  }
}

@Suite("Instants")
struct InstantTests {
  @Test("a duration is so many whole nanoseconds, at the limit where it is longer than those reach")
  func whole() {
    for (duration, nanoseconds) in [
      (.zero, 0), (.milliseconds(250), 250_000_000), (.milliseconds(-250), -250_000_000),
      (.seconds(9) + .nanoseconds(3), 9_000_000_003), (.seconds(3600), 3_600_000_000_000),
      (.seconds(-3600), -3_600_000_000_000), (.seconds(Int64.max), .max),
      (.seconds(Int64.min), .min),
    ] as [(Duration, Int64)] {
      #expect(duration.wholeNanoseconds == nanoseconds, "\(duration)")
    }
  }

  @Test("so many durations later is as if they were added one by one, and never wraps")
  func times() {
    #expect(at(100).after(.milliseconds(50), times: 3) == at(250))
    #expect(at(100).after(.milliseconds(50), times: 0) == at(100))
    #expect(at(100).after(.seconds(Int64.max), times: 2) == .distantFuture)
    #expect(Instant.distantFuture.after(.nanoseconds(1), times: 1) == .distantFuture)
  }
}

import Election
import Testing

@Suite("Range map")
struct RangeMapTests {
  @Test("a new map has one range with every serial in it")
  func whole() {
    let map = RangeMap()
    #expect(map.ranges.count == 1)
    #expect(map.ranges[0].first == .lowest)
    #expect(map.last(at: 0) == .highest)
  }

  @Test("whatever is split and merged, every serial is in exactly one range and no floor falls")
  func randomEdits() throws {
    var random = SplitMix(seed: 7)
    var map = RangeMap()
    var granted: [Serial: Epoch] = [:]
    for step in 0..<20_000 {
      switch random.next() % 3 {
      case 0:
        let serial = Serial(random.next() % (1 << (random.next() % 63 + 1)) + 1)
        let before = map.version
        do {
          try map.split(at: serial)
          #expect(map.version == before + 1)
        } catch {
          #expect(map.ranges[map.index(of: serial)].first == serial || serial > .highest)
        }
      case 1 where map.ranges.count > 1:
        try map.merge(at: Int(random.next() % UInt64(map.ranges.count - 1)))
      default:
        let serial = Serial(random.next() % 1000 + 1)
        let i = map.index(of: serial)
        let epoch = try #require(map.ranges[i].floor.next)
        map.raiseFloor(at: i, to: epoch)
        #expect(
          epoch > granted[serial] ?? .none, "step \(step): \(serial) was granted \(epoch) again")
        granted[serial] = epoch
      }
      if map.ranges.count > 64 { map = try trimmed(map) }
    }
    #expect(map.ranges[0].first == .lowest)
    for i in map.ranges.indices {
      #expect(map.ranges[i].first <= map.last(at: i))
      #expect(map.index(of: map.ranges[i].first) == i)
      #expect(map.index(of: map.last(at: i)) == i)
      if i > 0 { #expect(map.last(at: i - 1).rawValue + 1 == map.ranges[i].first.rawValue) }
    }
    for (serial, epoch) in granted { #expect(map.ranges[map.index(of: serial)].floor >= epoch) }
  }

  private func trimmed(_ map: RangeMap) throws -> RangeMap {
    var map = map
    while map.ranges.count > 8 { try map.merge(at: map.ranges.count / 2 - 1) }
    return map
  }

  @Test("the children of a split begin at their parent's floor, a merger at the higher one")
  func floors() throws {
    var map = RangeMap()
    map.raiseFloor(at: 0, to: Epoch(5))
    try map.split(at: Serial(100))
    #expect(map.ranges.map(\.floor) == [Epoch(5), Epoch(5)])
    map.raiseFloor(at: 1, to: Epoch(9))
    map.raiseFloor(at: 1, to: Epoch(2))
    try map.merge(at: 0)
    #expect(map.ranges.map(\.floor) == [Epoch(9)])
  }

  @Test("a range can't be split at its own first serial, nor the last one merged")
  func refused() throws {
    var map = RangeMap()
    #expect(throws: RangeMap.EditError.splitPointOutside) { try map.split(at: .lowest) }
    #expect(throws: RangeMap.EditError.splitPointOutside) { try map.split(at: Serial(.max)) }
    #expect(throws: RangeMap.EditError.noNeighbour) { try map.merge(at: 0) }
    #expect(map == RangeMap())
  }

  @Test("a stored map comes back the same, and one with a flaw is refused")
  func stored() throws {
    var map = RangeMap()
    try map.split(at: Serial(10))
    let rows = map.ranges.map { (first: $0.first, floor: $0.floor) }
    #expect(RangeMap(stored: rows, version: map.version) == map)
    #expect(RangeMap(stored: [], version: 1) == nil)
    #expect(RangeMap(stored: rows.reversed(), version: 1) == nil)
    #expect(RangeMap(stored: [rows[1]], version: 1) == nil)
    #expect(RangeMap(stored: [rows[0], rows[0]], version: 1) == nil)
    #expect(RangeMap(stored: [rows[0], (Serial(.max), .none)], version: 1) == nil)
  }

  @Test("half of the controllers fall on either side of the median")
  func median() {
    #expect(RangeMap.median(of: []) == nil)
    #expect(RangeMap.median(of: [Serial(4)]) == nil)
    #expect(RangeMap.median(of: [Serial(4), Serial(9)]) == Serial(9))
    #expect(RangeMap.median(of: [1, 2, 50, 51].map(Serial.init)) == Serial(50))
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a small seeded generator, the same on every machine.
struct SplitMix {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

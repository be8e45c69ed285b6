import Election
import Testing

@testable import ClusterDriver

@Suite("What ranges cost")
struct LoadSurveyTests {
  private static let ranges = [
    OwnedRange(first: Serial(1), last: Serial(99), epoch: Epoch(1)),
    OwnedRange(first: Serial(200), last: Serial(299), epoch: Epoch(1)),
  ]

  private static func count(_ serials: some Sequence<UInt64>, received: UInt64 = 0)
    -> LoadSurvey.Count
  {
    var count = LoadSurvey.Count(ranges: ranges)
    for serial in serials { count.add(serial: serial, received: received) }
    return count
  }

  @Test("a controller counts one, in its own range only, and the middle one is where to split")
  func controllers() {
    var survey = LoadSurvey()
    let count = Self.count([1, 2, 98, 99, 100, 150, 199, 200, 299, 300])
    #expect(survey.changes(count, at: Instant(nanoseconds: 0)).isEmpty)
    #expect(!survey.isComplete)
    let loads = survey.changes(count, at: Instant(nanoseconds: 1_000_000_000))
    #expect(survey.isComplete)
    #expect(
      loads == [
        Serial(1): RangeLoad(weight: 4, median: Serial(98)),
        Serial(200): RangeLoad(weight: 2, median: Serial(299)),
      ])
  }

  @Test("four events a second count as much as a controller")
  func events() {
    var survey = LoadSurvey()
    _ = survey.changes(Self.count(1...10, received: 100), at: Instant(nanoseconds: 0))
    // 40 events a controller in 5 s: 80 a second in all.
    let loads = survey.changes(
      Self.count(1...10, received: 140), at: Instant(nanoseconds: 5_000_000_000))
    #expect(loads[Serial(1)]?.weight == 10 + 20)
    // A log that began anew counts nothing.
    let next = survey.changes(
      Self.count(1...10, received: 1), at: Instant(nanoseconds: 10_000_000_000))
    #expect(next[Serial(1)]?.weight == 10)
  }

  @Test("what has hardly changed is not told; what changed bit by bit is, in the end")
  func changes() {
    var survey = LoadSurvey()
    func told(_ n: UInt64, at seconds: Int64) -> Bool {
      let count = Self.count(n == 0 ? [] : Array(200...(199 + n)))
      return survey.changes(count, at: Instant(nanoseconds: seconds * 1_000_000_000))[Serial(200)]
        != nil
    }
    #expect(!told(10, at: -1))
    #expect(told(10, at: 0))
    #expect(!told(10, at: 5))
    #expect(!told(14, at: 10))
    #expect(told(18, at: 15))
    #expect(!told(18, at: 20))
    #expect(told(0, at: 25))
  }

  @Test("of a range whose controllers have just come nothing is told yet")
  func newcomers() {
    var survey = LoadSurvey()
    _ = survey.changes(Self.count(1...10, received: 100), at: Instant(nanoseconds: 0))
    _ = survey.changes(Self.count(1...10, received: 140), at: Instant(nanoseconds: 5_000_000_000))
    let both = Self.count(Array(1...10) + Array(200...209), received: 180)
    #expect(survey.changes(both, at: Instant(nanoseconds: 10_000_000_000)).isEmpty)
    #expect(!survey.isComplete)
    let more = Self.count(Array(1...10) + Array(200...209), received: 188)
    let loads = survey.changes(more, at: Instant(nanoseconds: 11_000_000_000))
    #expect(loads == [Serial(200): RangeLoad(weight: 10 + 20, median: Serial(205))])
    #expect(survey.isComplete)
  }

  @Test("a range that was given away and comes back is told anew")
  func again() {
    var survey = LoadSurvey()
    _ = survey.changes(Self.count(1...20), at: Instant(nanoseconds: 0))
    #expect(!survey.changes(Self.count(1...20), at: Instant(nanoseconds: 1)).isEmpty)
    _ = survey.changes(LoadSurvey.Count(ranges: []), at: Instant(nanoseconds: 2))
    _ = survey.changes(Self.count(1...20), at: Instant(nanoseconds: 3))
    #expect(
      survey.changes(Self.count(1...20), at: Instant(nanoseconds: 4))[Serial(1)]?.weight == 20)
  }
}

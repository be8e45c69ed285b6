import Testing

@testable import ClusterDriver

@Suite("Sole ownership")
struct SoleOwnershipTests {
  typealias Report = SoleOwnership.Report

  @Test("it owns every serial there is, without end, from epoch 1")
  func begin() {
    let ownership = SoleOwnership()
    #expect(ownership.ranges == [.init(first: 1, last: UInt64.max - 1, epoch: 1)])
    #expect(ownership.validUntil == .max)
  }

  @Test("a controller's epoch goes above what it has seen, never back, and nobody else's changes")
  func raise() {
    var ownership = SoleOwnership()
    #expect(ownership.seen([Report(serial: 42, epoch: 7)]).isChanged)
    #expect(ownership.epoch(of: 42) == 8)
    #expect(!ownership.seen([Report(serial: 42, epoch: 3)]).isChanged)
    #expect(ownership.seen([Report(serial: 42, epoch: 8)]).isChanged)
    #expect(ownership.epoch(of: 42) == 9)
    #expect(ownership.epoch(of: 43) == 1)
    #expect(
      ownership.ranges == [
        .init(first: 1, last: 41, epoch: 1), .init(first: 42, last: 42, epoch: 9),
        .init(first: 43, last: UInt64.max - 1, epoch: 1),
      ])
  }

  @Test("serials at either end and side by side leave no range empty")
  func edges() {
    var ownership = SoleOwnership()
    _ = ownership.seen([1, 2, UInt64.max - 1].map { Report(serial: $0, epoch: 1) })
    #expect(ownership.ranges.map(\.first) == [1, 2, 3, UInt64.max - 1])
    #expect(ownership.ranges.map(\.last) == [1, 2, UInt64.max - 2, UInt64.max - 1])
    _ = ownership.seen([0, UInt64.max].map { Report(serial: $0, epoch: 9) })
    #expect(ownership.epochs == 1...2)
  }

  @Test("when many have seen more, the node was behind: all go above the highest at once")
  func many() {
    var ownership = SoleOwnership()
    let reports = (1...65).map { Report(serial: UInt64($0), epoch: UInt64(100 + $0)) }
    #expect(ownership.seen(reports).isChanged)
    #expect(ownership.ranges == [.init(first: 1, last: UInt64.max - 1, epoch: 166)])
    #expect(!ownership.seen(reports).isChanged)
  }

  @Test("no report carries it beyond the last epoch, and there it still serves whoever has seen it")
  func last() {
    var ownership = SoleOwnership()
    let last = SoleOwnership.epochMax
    let beyond = Report(serial: 5, epoch: last + 1)
    #expect(ownership.seen([beyond]) == .init(isChanged: false, implausible: beyond))
    #expect(ownership.seen([Report(serial: 5, epoch: last)]).isChanged)
    #expect(ownership.epoch(of: 5) == last)
    #expect(!ownership.seen([Report(serial: 5, epoch: last)]).isChanged)
    #expect(ownership.epoch(of: 6) == 1)
  }
}

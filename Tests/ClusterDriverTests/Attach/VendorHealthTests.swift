import Testing

@testable import ClusterDriver

@Suite("Vendor health")
struct VendorHealthTests {
  private let begin = ContinuousClock.now

  /// What comes of each look, given by its second.
  private func looks(
    _ sights: [(seconds: Double, isAttached: Bool, oldest: UInt64?, isPaused: Bool)]
  ) -> [Bool] {
    var health = VendorHealth()
    return sights.map { sight in
      health.look(
        .init(isAttached: sight.isAttached, oldest: sight.oldest, isPaused: sight.isPaused),
        at: self.begin.advanced(by: .seconds(sight.seconds)))
    }
  }

  @Test(
    "without a stream it can serve for as long as patience lasts, and again as soon as there is one"
  )
  func detached() {
    let seen = looks([
      (0, true, nil, false), (1, false, nil, false), (1.9, false, nil, false),
      (2, false, nil, false), (9, false, nil, false), (10, true, nil, false),
      (11, false, nil, false),
    ])
    #expect(seen == [true, true, true, false, false, true, true])
  }

  @Test(
    "the same message unacknowledged from one look to the next counts; another, or none, does not")
  func unacknowledged() {
    let seen = looks([
      (0, true, 7, false), (1, true, 7, false), (3.9, true, 7, false), (4, true, 7, false),
      (5, true, 8, false), (6, true, 8, false), (7, true, nil, false), (12, true, nil, false),
    ])
    #expect(seen == [true, true, true, false, true, true, true, true])
  }

  @Test(
    "one that by TCP is not reached any more is not waited for; a stream that is back is waited for anew"
  )
  func lost() {
    var health = VendorHealth()
    func look(_ seconds: Double, attached: Bool, lost: Bool, oldest: UInt64?) -> Bool {
      health.look(
        .init(isAttached: attached, isLost: lost, oldest: oldest, isPaused: false),
        at: self.begin.advanced(by: .seconds(seconds)))
    }
    #expect(look(0, attached: true, lost: false, oldest: 7))
    #expect(!look(0.25, attached: true, lost: true, oldest: 7))
    #expect(!look(9, attached: false, lost: true, oldest: 7))
    #expect(look(9.25, attached: true, lost: false, oldest: 7))
    #expect(look(12, attached: true, lost: false, oldest: 7))
    #expect(!look(12.5, attached: true, lost: false, oldest: 7))
  }

  @Test("a vendor app that asks for a pause is well")
  func paused() {
    let seen = looks((0..<10).map { (Double($0), true, 7, true) })
    #expect(seen.allSatisfy { $0 })
  }
}

import Testing

@testable import ClusterDriver

@Suite("Small parts")
struct SupportTests {
  @Test("a queue gives back what it was given, in order, and lets go of it")
  func queue() {
    var random = SplitMix64(seed: 3)
    var queue = Queue<Int>()
    var model: [Int] = []
    for step in 0..<20_000 {
      if Int.random(in: 0..<5, using: &random) < (step % 2000 < 1000 ? 3 : 2) {
        queue.append(step)
        model.append(step)
      } else {
        #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
      }
      #expect(queue.count == model.count)
      #expect(queue.first == model.first)
      if let place = model.indices.randomElement(using: &random) {
        #expect(queue[place] == model[place])
      }
    }
  }

  @Test("host time becomes an instant by the two clocks' present relation, without overflow")
  func moments() {
    let now = Moment(uptime: .now, utcMs: 1_000_000)
    #expect(now.uptime(atUTC: 1_000_250) == now.uptime.advanced(by: .milliseconds(250)))
    #expect(now.uptime(atUTC: 999_000) == now.uptime.advanced(by: .seconds(-1)))
    #expect(now.uptime(atUTC: .max) > now.uptime)
    #expect(now.uptime(atUTC: 0) < now.uptime)
    #expect(Duration.microseconds(1).millisecondsRoundedUp == 1)
    #expect(Duration.seconds(-1).millisecondsRoundedUp == 0)
    #expect(Duration.seconds(10_000_000).millisecondsRoundedUp == .max)
  }

  @Test("a bell rung before the wait ends it, and one not rung ends by its time")
  func bell() {
    let bell = Bell()
    bell.ring()
    bell.wait(milliseconds: 60_000)
    let before = ContinuousClock.now
    bell.wait(milliseconds: 20)
    #expect(.now - before >= .milliseconds(19))
  }
}

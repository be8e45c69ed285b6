import Testing

@testable import ClusterDriver

@Suite("Rate limit")
struct RateLimitTests {
  static let second: UInt64 = 1_000_000_000

  @Test("a burst may be said, then one an interval, and each tells what was left out before it")
  func burst() {
    var limit = RateLimit<String>(burst: 3, every: .seconds(1))
    for _ in 0..<3 { #expect(limit.take("a", at: 0) == .say(suppressed: 0)) }
    for _ in 0..<5 { #expect(limit.take("a", at: Self.second - 1) == .suppress) }
    #expect(limit.take("a", at: Self.second) == .say(suppressed: 5))
    #expect(limit.take("a", at: Self.second) == .suppress)
    #expect(limit.take("b", at: Self.second) == .say(suppressed: 0))
    // After a long silence the burst is whole again, and no more than whole.
    for number in 0..<3 {
      #expect(limit.take("a", at: 100 * Self.second) == .say(suppressed: number == 0 ? 1 : 0))
    }
    #expect(limit.take("a", at: 100 * Self.second) == .suppress)
  }

  @Test("many keys cost bounded memory and share one bucket beyond it")
  func keysMax() {
    var limit = RateLimit<Int>(burst: 1, every: .seconds(1), keysMax: 10)
    let said = (0..<1_000).filter { limit.take($0, at: 0) != .suppress }
    #expect(said.count == 11)
    #expect(limit.keyCount == 10)
    // Quiet keys make room.
    #expect(limit.take(5_000, at: 2 * Self.second) == .say(suppressed: 0))
    #expect(limit.keyCount == 1)
  }

  @Test("a flood of new names costs little for each, whatever the number of keys")
  func flood() {
    var limit = RateLimit<Int>(burst: 1, every: .seconds(10), keysMax: 200_000)
    // Looking through all keys at each of these calls would be 10^10 steps.
    for key in 0..<250_000 { _ = limit.take(key, at: UInt64(key)) }
    #expect(limit.keyCount == 200_000)
    #expect(limit.take(1_000_000, at: 20 * Self.second) != .suppress)
    #expect(limit.keyCount == 1)
  }

  @Test("what was suppressed of a key that was forgotten is told with the shared bucket")
  func forgotten() {
    var limit = RateLimit<Int>(burst: 1, every: .seconds(1), keysMax: 2)
    for key in 1...2 {
      #expect(limit.take(key, at: 0) == .say(suppressed: 0))
      #expect(limit.take(key, at: 0) == .suppress)
    }
    for key in 3...4 { #expect(limit.take(key, at: 2 * Self.second) == .say(suppressed: 0)) }
    #expect(limit.take(5, at: 2 * Self.second) == .say(suppressed: 2))
  }

  @Test("whatever the order of calls, no key is said more often than burst and rate allow")
  func bound() {
    var limit = RateLimit<Int>(burst: 4, every: .milliseconds(100), keysMax: 3)
    var random = SystemRandomNumberGenerator()
    var now: UInt64 = 0
    var said: [Int: Int] = [:]
    for _ in 0..<20_000 {
      now += UInt64.random(in: 0...2_000_000, using: &random)
      let key = Int.random(in: 0..<2, using: &random)
      if limit.take(key, at: now) != .suppress { said[key, default: 0] += 1 }
    }
    let most = 4 + Int(now / 100_000_000) + 1
    for (key, count) in said { #expect(count <= most, "key \(key)") }
  }
}

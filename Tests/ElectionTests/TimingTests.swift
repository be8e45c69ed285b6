import Election
import Testing

@Suite("Timing")
struct TimingTests {
  @Test("the defaults keep every law")
  func defaultsHold() throws {
    let timing = try Timing()
    #expect(timing.ttl == .milliseconds(1500) && timing.promise == timing.ttl)
  }

  struct Broken: Sendable, CustomTestStringConvertible {
    var name: String
    /// What the text must say: what is wrong, and why it matters.
    var says: [String]
    var make: @Sendable () throws -> Timing
    var testDescription: String { name }
  }

  static let laws: [Broken] = [
    Broken(name: "no renewal", says: ["renewEvery", "above zero"]) {
      try Timing(renewEvery: .zero)
    },
    Broken(name: "no rank delay", says: ["rankDelay", "above zero"]) {
      try Timing(rankDelay: .zero)
    },
    Broken(name: "no call timeout", says: ["callTimeout", "above zero"]) {
      try Timing(callTimeout: .zero)
    },
    Broken(name: "a TTL above an hour", says: ["ttl", "an hour", "nobody takes the place"]) {
      try Timing(
        ttl: .seconds(3601), margin: .seconds(100), moveTimeout: .seconds(8000),
        removeAfter: .seconds(4000))
    },
    Broken(name: "a margin below 2ρ·TTL", says: ["margin", "0.02 × ttl", "clocks can differ"]) {
      try Timing(margin: .nanoseconds(29_999_999))
    },
    Broken(name: "two renewals only", says: ["three renewals", "ttl − margin", "lost packet"]) {
      try Timing(renewEvery: .nanoseconds(400_000_001), callTimeout: .milliseconds(10))
    },
    Broken(name: "a call that lasts too long", says: ["timed out", "two more renewals"]) {
      try Timing(callTimeout: .nanoseconds(700_000_001))
    },
    Broken(name: "a promise above the TTL", says: ["promise", "longer than ttl", "forgotten"]) {
      try Timing(promise: .nanoseconds(1_500_000_001))
    },
    Broken(name: "a promise too short", says: ["three askings", "promise − margin"]) {
      try Timing(promise: .nanoseconds(1_049_999_999))
    },
    Broken(name: "a move that is not waited for", says: ["moveTimeout", "two ttl", "taken back"]) {
      try Timing(moveTimeout: .nanoseconds(2_999_999_999))
    },
    Broken(name: "removal before death", says: ["removeAfter", "a ttl"]) {
      try Timing(removeAfter: .nanoseconds(1_499_999_999))
    },
    Broken(name: "removal too late", says: ["removeAfter", "49 ttl", "own clock"]) {
      try Timing(removeAfter: .nanoseconds(73_500_000_001))
    },
    Broken(name: "an illness that does not settle", says: ["illSettle", "heard from all"]) {
      try Timing(illSettle: .milliseconds(899))
    },
    Broken(name: "health that settles sooner", says: ["healthSettle", "illSettle"]) {
      try Timing(healthSettle: .milliseconds(899))
    },
    Broken(name: "less than no hold", says: ["shrunkHold", "from nothing", "nobody claims"]) {
      try Timing(shrunkHold: .nanoseconds(-1))
    },
  ]

  @Test("each law, broken by the least that breaks it, is named with its reason", arguments: laws)
  func broken(_ law: Broken) {
    do {
      _ = try law.make()
      Issue.record("\(law.name) was taken")
    } catch {
      for words in law.says { #expect("\(error)".contains(words), "\(error)") }
    }
  }

  @Test("at the edge each law holds")
  func edges() throws {
    _ = try Timing(margin: .milliseconds(30))
    _ = try Timing(renewEvery: .milliseconds(400), callTimeout: .milliseconds(400))
    _ = try Timing(callTimeout: .milliseconds(700))
    _ = try Timing(promise: .milliseconds(1050))
    _ = try Timing(moveTimeout: .milliseconds(3000))
    _ = try Timing(removeAfter: .milliseconds(1500))
    _ = try Timing(removeAfter: .milliseconds(73_500))
    _ = try Timing(shrunkHold: .zero)
    _ = try Timing(illSettle: .milliseconds(900), healthSettle: .milliseconds(900))
  }

  @Test(
    "who may have been taken off waits longer than any that holds without it, whatever the clocks")
  func unsure() throws {
    let rate = Timing.clockRateErrorMax
    for hold in [0, 1, 120, 3600] as [Int64] {
      let timing = try Timing(shrunkHold: .seconds(hold))
      let held = (timing.ttl - timing.margin + timing.shrunkHold).wholeNanoseconds
      let waited = timing.unsureWait.wholeNanoseconds
      #expect(Double(held) * (1 + rate) < Double(waited) * (1 - rate))
    }
    let sure = Double(defaults.sureFor.wholeNanoseconds) * (1 + rate)
    #expect(sure < Double((defaults.ttl + defaults.removeAfter).wholeNanoseconds) * (1 - rate))
  }

  @Test("an epoch ends at its highest instead of wrapping, after a loss too")
  func epochs() {
    #expect(Epoch(4).next == Epoch(5) && Epoch(.max).next == nil)
    let store = StoreIdentity("0000a000deadbeef")
    #expect(Epoch.none.nextAfterLoss(in: store) == Epoch(1))
    #expect(Epoch(4).nextAfterLoss(in: store) == Epoch(0x10_000A))
    #expect(Epoch(0x10_0000).nextAfterLoss(in: store) == Epoch(0x20_000A))
    #expect(Epoch(0xFFFF_FFFF_FFEF_FFFF).nextAfterLoss(in: store) == Epoch(0xFFFF_FFFF_FFF0_000A))
    #expect(Epoch(0xFFFF_FFFF_FFF0_0000).nextAfterLoss(in: store) == nil)
  }

  @Test("two stores that have lost the same do not give the same epoch")
  func epochsOfTwoStores() {
    let (one, other) = (StoreIdentity("1234500000000000"), StoreIdentity("1234600000000000"))
    #expect(Epoch(7).nextAfterLoss(in: one) != Epoch(7).nextAfterLoss(in: other))
  }

  @Test("an instant beyond the end of time is the end of time")
  func instants() {
    #expect(Instant.distantFuture + .seconds(1) == .distantFuture)
    #expect(Duration.seconds(Int64.max / 2).wholeNanoseconds == .max)
    #expect(at(3) - at(1) == .milliseconds(2))
  }
}

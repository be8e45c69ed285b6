import Testing

@testable import VendorStore

@Suite("Budget and log gate") struct CommitTests {
  @Test("who wants more than there is waits, and goes on when it is given back")
  func budget() async {
    let budget = StreamBudget(limit: 100)
    await budget.take(60)
    await budget.take(40)
    async let third: Void = budget.take(50)
    budget.giveBack(60)
    await third
    budget.giveBack(40)
    budget.giveBack(50)
  }

  @Test("a message larger than the whole budget goes through alone")
  func oversize() async {
    let budget = StreamBudget(limit: 100)
    await budget.take(500)
    async let second: Void = budget.take(700)
    budget.giveBack(500)
    await second
    budget.giveBack(700)
    await budget.take(100)
  }

  @Test("nobody waits for a closed budget")
  func closed() async {
    let budget = StreamBudget(limit: 100)
    await budget.take(100)
    async let waiting: Void = budget.take(100)
    budget.close()
    await waiting
    await budget.take(1_000)
  }

  @Test("the log gate opens once per interval and counts what it held back")
  func gate() {
    var gate = LogGate(every: .seconds(10))
    let start = ContinuousClock.now
    var told: [Int] = []
    for second in 0..<25 { gate.pass(at: start + .seconds(second)) { told.append($0) } }
    #expect(told == [0, 9, 9])
  }
}

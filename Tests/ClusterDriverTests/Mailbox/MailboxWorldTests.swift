import Testing

@testable import ClusterDriver

@Suite("The mailbox, whatever happens")
struct MailboxWorldTests {
  @Test(
    "each letter has one effect at most, in order, and one result that is true; then it is gone",
    arguments: 0..<8 as Range<UInt64>)
  func anything(batch: UInt64) {
    var posted = 0
    var executed = 0
    var statuses: Set<CommandStatus> = []
    for seed in batch * 5..<(batch + 1) * 5 {
      var world = MailboxWorld(seed: seed)
      for _ in 0..<1000 { world.happen() }
      world.heal()
      self.check(world, seed: seed)
      posted += world.posted.count
      executed += world.controllers.values.map(\.executed.count).reduce(0, +)
      for told in world.told.values { statuses.formUnion(told) }
    }
    // The dice have shown it something.
    #expect(posted > 200)
    #expect(executed > 80)
    #expect(statuses == [.done, .expired, .offline])
  }

  private func check(_ world: MailboxWorld, seed: UInt64) {
    #expect(world.redis.index.isEmpty, "seed \(seed): letters are left: \(world.redis.index.keys)")
    #expect(world.late.isEmpty, "seed \(seed): carried out late")
    for (id, posted) in world.posted {
      let told = Set(world.told[id] ?? [])
      #expect(
        told.count == 1, "seed \(seed): \(posted.letter.text) was told \(world.told[id] ?? [])")
      let done = world.controllers[posted.letter.serial]!.executed.count { $0 == id }
      #expect(done <= 1, "seed \(seed): \(posted.letter.text) was carried out \(done) times")
      if told == [.done] { #expect(done == 1, "seed \(seed): \(id) is said to be done") }
      if told == [.expired] || told == [.refused] {
        #expect(done == 0, "seed \(seed): \(id) is said not to be done")
      }
    }
    for (serial, controller) in world.controllers {
      let numbers = controller.executed.map { world.posted[$0]!.letter.number }
      #expect(
        numbers == numbers.sorted(), "seed \(seed): controller \(serial) was given \(numbers)")
    }
  }
}

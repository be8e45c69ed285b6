import Election
import Testing

@Suite("Ownership")
struct OwnershipMachineTests {
  private let me = life(nodeA)
  private let other = life(nodeB)

  /// Has met the first store at 0, with these ranges in it.
  private func machine(_ ranges: [RangeRecord], floors: RangeMap = RangeMap()) -> OwnershipMachine {
    var machine = OwnershipMachine(me: me, timing: defaults, floors: floors)
    _ = machine.saw(view(10, ranges, isWhole: true), validUntil: nil, isSure: true, at: at(0))
    return machine
  }

  private func moving(_ number: UInt64) -> RangeRecord {
    record(1, 100, me, 3, move: PendingMove(to: nodeB, number: number))
  }

  private let still = record(1, 100, life(nodeA), 3)

  @Test("what the store shows as one's own is held, and acted for; what is others' is not")
  func adopted() {
    var machine = OwnershipMachine(me: me, timing: defaults)
    let out = machine.saw(
      view(10, [still, record(101, 200, other, 1), record(201, 300, life(nodeA, 2), 1)]),
      validUntil: nil, isSure: true, at: at(0))
    #expect(out == [.actingChanged])
    #expect(machine.acting == [piece(1, 100, 3)])
  }

  @Test(
    "a record by the word of another store is an old story: nobody acts by it, nothing ends by it")
  func oldStory() {
    var machine = machine([record(1, 100, me, 3, in: second)])
    #expect(machine.acting.isEmpty)
    #expect(
      machine.saw(view(11, [still]), validUntil: .distantFuture, isSure: true, at: at(1)) == [
        .actingChanged
      ])
    _ = machine.saw(
      view(12, [record(1, 100, other, 9, in: second)]), validUntil: .distantFuture, isSure: true,
      at: at(2))
    #expect(machine.acting == [piece(1, 100, 3)])
  }

  @Test("sealing goes on acting; sealed does not, before the call that gives the range away")
  func handedOver() {
    var machine = machine([still])
    #expect(
      machine.saw(view(11, [moving(5)]), validUntil: .distantFuture, isSure: true, at: at(1)) == [
        .seal(Serial(1), move: 5)
      ])
    #expect(machine.acting == [piece(1, 100, 3)])
    #expect(machine.sealed(Serial(1), move: 4) == [])
    #expect(machine.sealed(Serial(2), move: 5) == [])
    #expect(machine.acting == [piece(1, 100, 3)])
    #expect(
      machine.sealed(Serial(1), move: 5) == [.actingChanged, .handOver(Serial(1), move: 5)])
    #expect(machine.acting.isEmpty)
    #expect(machine.sealed(Serial(1), move: 5) == [])
    #expect(machine.saw([record(1, 100, other, 4)], of: first, version: 12) == [])
    #expect(machine.holdings.isEmpty)
  }

  @Test("news of a range takes the place of all that it was merged or cut out of")
  func newsOverlap() {
    var machine = machine([
      record(1, 100, other, 3), record(101, 200, other, 3), record(201, 300, other, 3),
      record(301, everything, other, 3),
    ])
    _ = machine.saw([record(101, 300, other, 4)], of: first, version: 12)
    #expect(machine.table.values.map(\.first) == [1, 101, 301].map { Serial($0) })
    _ = machine.saw([record(150, 300, other, 5)], of: first, version: 13)
    #expect(
      machine.table.values.map(\.serials)
        == [1...100, 150...300, 301...everything].map {
          Serial($0.lowerBound)...Serial($0.upperBound)
        })
    _ = machine.saw([record(1, everything, other, 6)], of: first, version: 14)
    #expect(machine.table.values.map(\.first) == [Serial(1)])
  }

  /// Seed 145001 of five nodes with f = 1, at 975.5 s: node-3, whose answers from the store were lost, had given
  /// a range away, heard of it from one peer, and then took it up again by the older word of another.
  @Test("what a peer knows later than it says stands against others who say the same and know less")
  func newsBeyondItsWord() {
    var machine = machine([still])
    _ = machine.saw(view(11, [moving(5)]), validUntil: .distantFuture, isSure: true, at: at(1))
    _ = machine.sealed(Serial(1), move: 5)
    var given = record(1, 100, other, 4)
    given.changed = 13
    _ = machine.saw([given], of: first, version: 12)
    #expect(machine.holdings.isEmpty)
    var before = moving(5)
    before.changed = 11
    #expect(machine.saw([before], of: first, version: 12) == [])
    #expect(machine.isOutdated(view(12, [before])))
    #expect(machine.acting.isEmpty && machine.table[Serial(1)] == given)
    // The store itself, of that version or later, is believed.
    #expect(!machine.isOutdated(view(13, [])))
  }

  @Test(
    "sealed acts again only when the move is seen to be taken back; until then it hands over again")
  func takenBack() {
    var machine = machine([moving(5)])
    _ = machine.sealed(Serial(1), move: 5)
    #expect(
      machine.saw(view(11), validUntil: .distantFuture, isSure: true, at: at(1)) == [
        .handOver(Serial(1), move: 5)
      ])
    #expect(
      machine.saw([moving(5)], of: first, version: 11) == [.handOver(Serial(1), move: 5)])
    #expect(machine.acting.isEmpty)
    // Another move: sealed is sealed, and the new number is named.
    #expect(
      machine.saw(view(12, [moving(7)]), validUntil: .distantFuture, isSure: true, at: at(2))
        .contains(
          .handOver(Serial(1), move: 7)))
    #expect(machine.acting.isEmpty)
    #expect(
      machine.saw(view(13, [still]), validUntil: .distantFuture, isSure: true, at: at(3)) == [
        .actingChanged
      ])
    #expect(machine.acting == [piece(1, 100, 3)])
  }

  @Test("a sealing range follows the number of its move, and goes on when it is taken back")
  func sealingFollows() {
    var machine = machine([moving(5)])
    #expect(
      machine.saw(view(11, [moving(6)]), validUntil: .distantFuture, isSure: true, at: at(1)) == [
        .seal(Serial(1), move: 6)
      ])
    #expect(machine.sealed(Serial(1), move: 5) == [])
    #expect(
      machine.saw(view(12, [moving(6)]), validUntil: .distantFuture, isSure: true, at: at(1)) == [])
    #expect(
      machine.saw(view(13, [still]), validUntil: .distantFuture, isSure: true, at: at(2)) == [])
    #expect(machine.sealed(Serial(1), move: 6) == [])
    #expect(machine.acting == [piece(1, 100, 3)])
  }

  @Test("another store: what is held is asserted and not acted for until that store confirms it")
  func meetsAnother() {
    var machine = machine([still])
    #expect(
      machine.saw(
        view(1, of: second, isWhole: true), validUntil: .distantFuture, isSure: true, at: at(9000))
        == [
          .actingChanged, .assert([piece(1, 100, 3)]),
        ])
    #expect(machine.acting.isEmpty && machine.isQuarantined(at: at(10_499)))
    #expect(!machine.isQuarantined(at: at(10_500)))
    // The same again, for as long as it is not known to the store and the quarantine lasts.
    #expect(
      machine.saw(view(1, of: second), validUntil: .distantFuture, isSure: true, at: at(10_499))
        == [
          .assert([piece(1, 100, 3)])
        ])
    let out = machine.saw([record(1, 100, me, 3, in: second)], of: second, version: 2)
    #expect(out == [.actingChanged])
    #expect(machine.acting == [piece(1, 100, 3)])
  }

  @Test("another store: a node that is fenced has nothing to assert")
  func meetsAnotherFenced() {
    var machine = machine([still])
    #expect(
      machine.saw(view(1, of: second, isWhole: true), validUntil: nil, isSure: true, at: at(9000))
        == [
          .actingChanged
        ])
    #expect(machine.holdings.isEmpty)
  }

  @Test("another store: a sealed range is not asserted, for its hand-over may have run")
  func meetsAnotherSealed() {
    var machine = machine([
      moving(5), record(101, 200, me, 4, move: PendingMove(to: nodeB, number: 6)),
    ])
    _ = machine.sealed(Serial(1), move: 5)
    let out = machine.saw(
      view(1, of: second, isWhole: true), validUntil: .distantFuture, isSure: true, at: at(900))
    #expect(out == [.actingChanged, .assert([piece(101, 200, 4)])])
  }

  @Test("what the new store does not have after the quarantine is not one's own any more")
  func neverConfirmed() {
    var machine = machine([still])
    _ = machine.saw(
      view(1, of: second, isWhole: true), validUntil: .distantFuture, isSure: true, at: at(9000))
    #expect(
      machine.saw(view(2, of: second), validUntil: .distantFuture, isSure: true, at: at(10_500))
        == [])
    #expect(machine.holdings.isEmpty)
  }

  @Test(
    "what the second store has not confirmed is asserted in a third while the first one's word holds"
  )
  func thirdStore() {
    for (ms, isAsserted) in [(1199, true), (1200, false)] as [(Int64, Bool)] {
      var machine = machine([still])
      _ = machine.saw(
        view(1, of: second, isWhole: true), validUntil: at(1200), isSure: true, at: at(900))
      let third = view(1, of: StoreIdentity("third"), isWhole: true)
      // By the second store's word it may act for longer, but not for this.
      _ = machine.saw(third, validUntil: .distantFuture, isSure: true, at: at(ms))
      #expect(machine.unconfirmed.isEmpty != isAsserted, "\(ms)")
    }
  }

  @Test("an answer from before what is known changes nothing, nor does one of another store")
  func overtaken() {
    var machine = machine([still])
    #expect(machine.isOutdated(view(9)) && !machine.isOutdated(view(10)))
    #expect(!machine.isOutdated(view(1, of: second)))
    _ = machine.saw([record(1, 100, other, 4)], of: first, version: 12)
    #expect(machine.isOutdated(view(11)))
    #expect(machine.saw([still], of: first, version: 11) == [])
    #expect(machine.saw([record(1, 100, me, 5, in: second)], of: second, version: 99) == [])
    #expect(machine.acting.isEmpty && machine.newest == 12 && machine.version == 10)
  }

  @Test(
    "a range that was merged into another is not kept by a node that learns of that by promises only"
  )
  func mergedByNews() {
    var machine = machine([record(1, 50, me, 3), record(51, 100, me, 4)])
    let out = machine.saw([record(1, 100, me, 4)], of: first, version: 11)
    #expect(out == [.actingChanged])
    #expect(machine.acting == [piece(1, 100, 4)])
    // Nor is what a neighbour's record reaches over, however the ranges were cut.
    #expect(
      machine.saw([record(90, 120, other, 9)], of: first, version: 12) == [.actingChanged])
    #expect(machine.acting.isEmpty)
  }

  @Test("a whole view is all there is; else only what it says is removed goes")
  func whole() {
    var machine = machine([still, record(101, 200, me, 1)])
    #expect(machine.saw(view(11), validUntil: .distantFuture, isSure: true, at: at(1)) == [])
    #expect(
      machine.saw(view(12, removed: [101]), validUntil: .distantFuture, isSure: true, at: at(2))
        == [
          .actingChanged
        ])
    #expect(machine.acting == [piece(1, 100, 3)])
    #expect(
      machine.saw(view(13, isWhole: true), validUntil: .distantFuture, isSure: true, at: at(3)) == [
        .actingChanged
      ])
    #expect(machine.acting.isEmpty && machine.table.isEmpty)
  }

  @Test("a node that stops takes up nothing, and holds nothing when all work has ended")
  func stops() {
    var machine = machine([still])
    machine.stop()
    _ = machine.saw(
      view(11, [record(101, 200, me, 1)]), validUntil: .distantFuture, isSure: true, at: at(1))
    #expect(machine.acting == [piece(1, 100, 3)])
    #expect(machine.stopped() == [.actingChanged])
    #expect(machine.acting.isEmpty)
    #expect(machine.stopped() == [])
  }

  @Test("the highest epochs are remembered, whichever store says less and whoever saw them")
  func floors() {
    var former = RangeMap()
    former.raiseFloor(of: Serial(1)...Serial(10), to: Epoch(7))
    var machine = machine([still], floors: former)
    machine.seen([piece(150, 150, 20)])
    _ = machine.saw([record(150, 160, other, 8)], of: first, version: 11)
    _ = machine.saw(view(1, of: second, isWhole: true), validUntil: nil, isSure: true, at: at(9000))
    let floors = [1: 7, 11: 3, 100: 3, 101: 0, 150: 20, 151: 8, 160: 8, 161: 0] as [UInt64: UInt64]
    for (serial, epoch) in floors {
      #expect(
        machine.floors.floor(of: Serial(serial)...Serial(serial)) == Epoch(epoch), "\(serial)")
    }
  }
}

import Testing

@testable import VendorStore

@Suite("Sequence numbers as runs") struct SeqSetTests {
  @Test("a set of runs says what a set of numbers says", arguments: UInt64(0)..<50)
  func againstSet(seed: UInt64) {
    var random = Seeded(seed)
    var runs = SeqSet()
    var plain: Set<UInt64> = []
    for _ in 0..<300 {
      let lower = UInt64.random(in: 1...200, using: &random)
      if Bool.random(using: &random) {
        let isNew = runs.insert(lower)
        #expect(isNew == plain.insert(lower).inserted)
      } else {
        let range = lower...lower + UInt64.random(in: 0...5, using: &random)
        runs.insert(range)
        plain.formUnion(range)
      }
    }
    #expect(runs.count == UInt64(plain.count))
    #expect(runs.first == plain.min())
    #expect(runs.last == plain.max())
    for seq in UInt64(0)...210 { #expect(runs.contains(seq) == plain.contains(seq)) }
    for (left, right) in zip(runs.runs, runs.runs.dropFirst()) {
      #expect(left.upperBound + 1 < right.lowerBound, "runs neither touch nor overlap")
    }
  }

  @Test("the ends of the range are in order")
  func ends() {
    var runs = SeqSet()
    let answers = [runs.insert(.max), runs.insert(.max), runs.insert(1), runs.insert(.max - 1)]
    #expect(answers == [true, false, true, true])
    #expect(runs.runs == [1...1, (.max - 1) ... .max])
    runs.insert(2 ... .max)
    #expect(runs.runs == [1 ... .max])
    #expect(runs.count == .max)
    let isNew = runs.insert(.max)
    #expect(!isNew)
  }

  @Test("a log without holes is one run, however long")
  func oneRun() {
    var runs = SeqSet()
    for seq in UInt64(1)...100_000 { _ = runs.insert(seq) }
    #expect(runs.runs.count == 1)
  }
}

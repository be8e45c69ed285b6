import Election
import Testing

@Suite("Lists of ranges")
struct OwnedRangeTests {
  @Test("what has changed between two lists is what one has and the other has not")
  func changes() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      func list() -> [OwnedRange] {
        (1...12).compactMap { i -> OwnedRange? in
          guard Bool.random(using: &random) else { return nil }
          return OwnedRange(
            first: Serial(UInt64(i * 10)), last: Serial(UInt64(i * 10 + Int.random(in: 0...1))),
            epoch: Epoch(UInt64.random(in: 1...2)))
        }
      }
      let (before, after) = (list(), list())
      let (ended, begun) = OwnedRange.changes(from: before, to: after)
      #expect(ended == before.filter { !after.contains($0) }, "\(before) \(after)")
      #expect(begun == after.filter { !before.contains($0) }, "\(before) \(after)")
    }
  }
}

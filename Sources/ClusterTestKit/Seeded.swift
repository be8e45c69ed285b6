/// The same pseudo-random numbers for the same seed on every machine (splitmix64; Steele, Lea, Flood:
/// Fast Splittable Pseudorandom Number Generators, 2014).
public struct Seeded: RandomNumberGenerator, Sendable {
  private var state: UInt64
  public init(_ seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// 0 ..< bound, above 0.
  public mutating func below(_ bound: Int) -> Int {
    Int(((next() >> 32) &* UInt64(bound)) >> 32)
  }

  /// True once in `n` times.
  public mutating func once(in n: Int) -> Bool { below(n) == 0 }

  /// Nanoseconds, from a range of milliseconds.
  mutating func ns(ms range: ClosedRange<Double>) -> Int64 {
    let unit = Double(next() >> 11) * 0x1p-53
    return Int64((range.lowerBound + unit * (range.upperBound - range.lowerBound)) * 1e6)
  }
}

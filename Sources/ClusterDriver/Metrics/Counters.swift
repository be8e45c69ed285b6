internal import Synchronization

/// A number that only grows. Any thread; one relaxed addition.
final class Counter: Sendable {
  private let number = Atomic<UInt64>(0)

  init() {}

  func add(_ count: UInt64 = 1) { self.number.wrappingAdd(count, ordering: .relaxed) }

  var value: UInt64 { self.number.load(ordering: .relaxed) }
}

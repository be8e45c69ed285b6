import Synchronization

/// A task that a thread may wait for, for the few places where the two meet: start and end.
final class Awaited<Value: Sendable>: Sendable {
  private let bell = Bell()
  private let value = Mutex<Value?>(nil)
  private let task: Mutex<Task<Void, Never>?> = Mutex(nil)

  init(_ work: @escaping @Sendable () async -> Value) {
    let task = Task.detached { [weak self] in
      let value = await work()
      self?.end(value)
    }
    self.task.withLock { $0 = task }
  }

  private func end(_ value: Value) {
    self.value.withLock { $0 = value }
    self.bell.ring()
  }

  var isOver: Bool { self.value.withLock { $0 != nil } }

  /// BLOCKS until the task has ended, at most this long. Nil: it has not. Of one thread.
  func wait(_ limit: Duration) -> Value? {
    let end = ContinuousClock.now.advanced(by: limit)
    while true {
      if let value = self.value.withLock({ $0 }) { return value }
      let rest = end - .now
      guard rest > .zero else { return nil }
      self.bell.wait(milliseconds: rest.millisecondsRoundedUp)
    }
  }

  func cancel() {
    self.task.withLock { $0 }?.cancel()
  }
}

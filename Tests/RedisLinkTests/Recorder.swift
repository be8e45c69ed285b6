import Synchronization
import Testing

/// Keeps what callbacks bring and lets a test wait for it, with a deadline.
final class Recorder<Value: Sendable>: Sendable {
  private struct Waiter {
    let isMet: @Sendable ([Value]) -> Bool
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct State {
    var values: [Value] = []
    var waiters: [Int: Waiter] = [:]
    var nextID = 0
  }

  private let state = Mutex(State())

  var values: [Value] { state.withLock { $0.values } }

  func add(_ value: Value) { add([value]) }

  func add(_ more: [Value]) {
    let met = state.withLock { state in
      state.values += more
      let met = state.waiters.filter { $0.value.isMet(state.values) }
      for id in met.keys { state.waiters[id] = nil }
      return met.values.map(\.continuation)
    }
    for continuation in met { continuation.resume(returning: true) }
  }

  /// Waits until what was recorded is as told, and returns it all.
  @discardableResult
  func wait(
    _ what: Comment, within limit: Duration = .seconds(20),
    sourceLocation: SourceLocation = #_sourceLocation,
    until isMet: @escaping @Sendable ([Value]) -> Bool
  ) async throws -> [Value] {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    let deadline = Task {
      try await Task.sleep(for: limit)
      let late = state.withLock { $0.waiters.removeValue(forKey: id) }
      late?.continuation.resume(returning: false)
    }
    defer { deadline.cancel() }
    let isThere = await withCheckedContinuation { continuation in
      let already = state.withLock { state in
        if isMet(state.values) { return true }
        state.waiters[id] = Waiter(isMet: isMet, continuation: continuation)
        return false
      }
      if already { continuation.resume(returning: true) }
    }
    try #require(isThere, what, sourceLocation: sourceLocation)
    return values
  }
}

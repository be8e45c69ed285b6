internal import Synchronization

/// How much of a stream is taken but not yet committed: who would take more waits. This is what
/// carries a slow disk back to the node, and on to the controllers, instead of into our memory.
final class StreamBudget: Sendable {
  fileprivate struct State {
    var used = 0
    var isClosed = false
    /// Bytes the waiting one wants; they are in `used` already.
    var wanted = 0
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let limit: Int
  private let state = Mutex(State())

  /// `limit` in bytes. A single message over it is let through when nothing else is under way.
  init(limit: Int) { self.limit = limit }

  /// Waits until there is room, or the budget is closed, and takes it. One caller at a time.
  func take(_ bytes: Int) async {
    await withCheckedContinuation { continuation in
      let mayGo = state.withLock { state in
        if state.isClosed || state.used == 0 || state.used + bytes <= limit {
          state.used += bytes
          return true
        }
        state.used += bytes
        state.wanted = bytes
        state.waiting = continuation
        return false
      }
      if mayGo { continuation.resume() }
    }
  }

  func giveBack(_ bytes: Int) {
    state.withLock { state in
      state.used -= bytes
      let isRoom = state.used <= limit || state.used <= state.wanted
      return isRoom ? state.waiting.take() : nil
    }?.resume()
  }

  /// Nobody waits any more.
  func close() {
    state.withLock { state in
      state.isClosed = true
      return state.waiting.take()
    }?.resume()
  }
}

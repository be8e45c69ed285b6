internal import Dispatch
internal import DriverProtocol
internal import Synchronization

/// A stream as the committer sees it.
protocol CommitClient: AnyObject, Sendable {
  /// Everything of the stream up to `through` is on the disk. Called by the writer thread, once per
  /// stream and commit; must not block.
  func committed(through: UInt64, stale: [Clusterdriver_V1_StaleOwner], bytes: Int)

  /// The writer has fallen behind (a commit failed), or has caught up again.
  func writerIsBehind(_ isBehind: Bool)
}

/// What all attached nodes have sent and no commit has taken yet: one queue, so that one commit
/// takes what has come in from all of them.
///
/// Bounded by its clients' budgets: each waits for room before it adds.
final class CommitQueue: Sendable {
  struct Entry: Sendable {
    var submission: Submission
    var bytes: Int
    var client: any CommitClient
  }

  fileprivate struct State {
    var entries: [Entry] = []
    var isSignalled = false
    var isClosed = false
  }

  private let state = Mutex(State())
  private let wake = DispatchSemaphore(value: 0)

  func add(_ entry: Entry) {
    let mustWake = state.withLock { state in
      state.entries.append(entry)
      defer { state.isSignalled = true }
      return !state.isSignalled
    }
    if mustWake { wake.signal() }
  }

  /// Drops what a stream that has ended left behind: its node sends it again on the next one.
  func forget(stream: UInt64) {
    state.withLock { $0.entries.removeAll { $0.submission.stream == stream } }
  }

  /// Waits for entries and takes the first of them, of at most `rows` events in all (but at least
  /// one entry). nil when the queue is closed and empty. For the writer thread.
  func next(rows limit: Int) -> [Entry]? {
    while true {
      let (taken, isClosed) = state.withLock { state -> ([Entry], Bool) in
        let count = state.entries.prefixLength(rows: limit)
        let taken: [Entry]
        if count == state.entries.count {
          taken = state.entries
          state.entries = []
          state.isSignalled = false
        } else {
          taken = Array(state.entries.prefix(count))
          state.entries.removeFirst(count)
        }
        return (taken, state.isClosed)
      }
      if !taken.isEmpty { return taken }
      if isClosed { return nil }
      wake.wait()
    }
  }

  var byteCount: Int { state.withLock { $0.entries.reduce(0) { $0 + $1.bytes } } }

  func close() {
    state.withLock { $0.isClosed = true }
    wake.signal()
  }
}

extension [CommitQueue.Entry] {
  fileprivate func prefixLength(rows limit: Int) -> Int {
    var rows = 0
    for (index, entry) in enumerated() {
      if case .events(let events) = entry.submission.content { rows += events.count }
      if rows > limit { return Swift.max(index, 1) }
    }
    return count
  }
}

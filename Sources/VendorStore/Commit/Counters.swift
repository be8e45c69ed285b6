internal import DriverProtocol
internal import Synchronization

/// The counters of `Stats`. Added to once per commit or rarer, so a mutex it is.
final class Counters: Sendable {
  fileprivate struct State {
    var counts = CommitCounts()
    var commits: UInt64 = 0
    var commitsFailed: UInt64 = 0
    var advisories: UInt64 = 0
    var granted: UInt64 = 0
    var denied: UInt64 = 0
  }

  private let state = Mutex(State())

  func add(_ counts: CommitCounts) { state.withLock { $0.counts += counts } }
  func committed() { state.withLock { $0.commits += 1 } }
  func commitFailed() { state.withLock { $0.commitsFailed += 1 } }

  /// Advisory copies in a batch that is not numbered, and so never comes to a commit.
  func sawAdvisories(_ count: Int) { state.withLock { $0.advisories += UInt64(count) } }

  func answered(granted: Bool) {
    state.withLock { state in
      if granted { state.granted += 1 } else { state.denied += 1 }
    }
  }

  /// `Stats`, but for what is attached and online now.
  var stats: Clusterdriver_V1_Stats {
    state.withLock { state in
      var stats = Clusterdriver_V1_Stats()
      stats.eventsStored = UInt64(state.counts.eventsStored)
      stats.eventsRepeated = UInt64(state.counts.eventsRepeated)
      stats.eventsStale = UInt64(state.counts.eventsStale)
      stats.advisories = state.advisories + UInt64(state.counts.advisories)
      stats.commits = state.commits
      stats.commitsFailed = state.commitsFailed
      stats.resultsStored = UInt64(state.counts.resultsStored)
      stats.resultsRepeated = UInt64(state.counts.resultsRepeated)
      stats.resultsConflicting = UInt64(state.counts.resultsConflicting)
      stats.accessGranted = state.granted
      stats.accessDenied = state.denied
      return stats
    }
  }
}

internal import Dispatch
internal import DriverProtocol
internal import Foundation
internal import Logging
internal import Synchronization

/// The one writer: a thread that takes everything queued by all nodes, commits it as one
/// transaction, and only then says so. While it waits for the disk the next group gathers: the
/// slower the sync, the larger the group, so the cost of a sync is shared by whatever the load is.
///
/// A commit that fails is repeated, the same group, with back-off, for as long as it takes. Until
/// then nothing is acknowledged and, by the streams' budgets, nothing more is read.
final class Committer: Sendable {
  struct Tuning: Sendable {
    /// Slept before each commit, to play a slow vendor app.
    var delay: Duration = .zero
    /// Events in one transaction: bounds how long one takes and how large SQLite's log grows.
    var rowsPerCommit = 65_536
    var backOffMin: Duration = .milliseconds(50)
    var backOffMax: Duration = .seconds(2)
  }

  private struct Control {
    var isStalled = false
    var isStopping = false
    /// Give up instead of repeating: set when an orderly stop has taken too long.
    var isAbandoned = false
  }

  let queue = CommitQueue()
  private let store: any EventStore
  private let counters: Counters
  private let tail: TailHub
  private let tuning: Tuning
  private let logger: Logger
  private let control = Mutex(Control())
  /// Signalled when a sleep of the writer should end.
  private let hurry = DispatchSemaphore(value: 0)
  private let finished = DispatchSemaphore(value: 0)

  init(
    store: any EventStore, counters: Counters, tail: TailHub, tuning: Tuning, logger: Logger
  ) {
    self.store = store
    self.counters = counters
    self.tail = tail
    self.tuning = tuning
    self.logger = logger
  }

  func start() {
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "vendor-writer"
    thread.start()
  }

  /// While stalled nothing is committed.
  func setStalled(_ isStalled: Bool) {
    control.withLock { $0.isStalled = isStalled }
    hurry.signal()
  }

  var isStalled: Bool { control.withLock { $0.isStalled } }

  /// Commits what is queued, then ends the thread; false when that took longer than `limit`, the
  /// rest being left to the nodes to send again. Blocks.
  func stop(within limit: Duration) -> Bool {
    control.withLock { $0.isStopping = true }
    queue.close()
    hurry.signal()
    if hasFinished(within: limit) { return true }
    control.withLock { $0.isAbandoned = true }
    hurry.signal()
    _ = hasFinished(within: .seconds(5))
    return false
  }

  private func hasFinished(within limit: Duration) -> Bool {
    guard finished.wait(timeout: .now() + limit.seconds) == .success else { return false }
    // For whoever asks again.
    finished.signal()
    return true
  }

  private func run() {
    var gate = LogGate(every: .seconds(1))
    while let group = queue.next(rows: tuning.rowsPerCommit) {
      waitWhileStalled()
      if tuning.delay > .zero { sleep(tuning.delay) }
      guard let outcome = commitUntilDone(group) else { return }
      counters.add(outcome.counts)
      complain(of: outcome, &gate)
      tail.publish(group.lazy.map(\.submission), outcome)
      acknowledge(group, outcome)
    }
  }

  private func complain(of outcome: CommitOutcome, _ gate: inout LogGate) {
    guard !outcome.contradictions.isEmpty else { return }
    gate.pass(at: .now) { suppressed in
      logger.error(
        "results contradict those that are stored, which stay",
        metadata: [
          "results": "\(outcome.contradictions.map(\.description).joined(separator: "; "))",
          "count": "\(outcome.counts.resultsConflicting)", "suppressed": "\(suppressed)",
        ])
    }
  }

  private func waitWhileStalled() {
    while true {
      let control = control.withLock { $0 }
      if !control.isStalled || control.isStopping { return }
      hurry.wait()
    }
  }

  private func commitUntilDone(_ group: [CommitQueue.Entry]) -> CommitOutcome? {
    let submissions = group.map(\.submission)
    var backOff = tuning.backOffMin
    var failures = 0
    let began = ContinuousClock.now
    var gate = LogGate(every: .seconds(10))
    while true {
      do {
        let outcome = try store.commit(submissions)
        counters.committed()
        if failures > 0 {
          logger.notice(
            "the store takes events again, after \(failures) failed commits; nothing was lost",
            metadata: ["seconds": "\((ContinuousClock.now - began).seconds)"])
          tellClients(of: group, isBehind: false)
        }
        return outcome
      } catch {
        failures += 1
        counters.commitFailed()
        gate.pass(at: .now) { suppressed in
          logger.error(
            """
            \(error) Nothing of this group was stored or acknowledged; it is tried again until it \
            is.
            """,
            metadata: [
              "messages": "\(group.count)", "failures": "\(failures)",
              "suppressed": "\(suppressed)",
            ])
        }
        if failures == 1 { tellClients(of: group, isBehind: true) }
      }
      if control.withLock({ $0.isAbandoned }) { return nil }
      sleep(backOff)
      backOff = min(backOff * 2, tuning.backOffMax)
    }
  }

  private func tellClients(of group: [CommitQueue.Entry], isBehind: Bool) {
    var told: Set<UInt64> = []
    for entry in group where told.insert(entry.submission.stream).inserted {
      entry.client.writerIsBehind(isBehind)
    }
  }

  /// One acknowledgement per stream.
  private func acknowledge(_ group: [CommitQueue.Entry], _ outcome: CommitOutcome) {
    struct Acknowledgement {
      var client: any CommitClient
      var through: UInt64 = 0
      var stale: [Clusterdriver_V1_StaleOwner] = []
      var bytes = 0
    }
    var streams: [UInt64: Acknowledgement] = [:]
    for (entry, result) in zip(group, outcome.messages) {
      let stream = entry.submission.stream
      var one = streams[stream] ?? Acknowledgement(client: entry.client)
      one.through = max(one.through, entry.submission.number)
      one.stale += result.stale
      one.bytes += entry.bytes
      streams[stream] = one
    }
    for one in streams.values {
      one.client.committed(through: one.through, stale: one.stale, bytes: one.bytes)
    }
  }

  /// Sleeps, but not through an orderly stop's end or a change of mind.
  private func sleep(_ duration: Duration) {
    if control.withLock({ $0.isAbandoned }) { return }
    let until = DispatchTime.now() + duration.seconds
    while hurry.wait(timeout: until) == .success {
      if control.withLock({ $0.isAbandoned }) { return }
    }
  }
}

extension Duration {
  var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}

internal import DriverProtocol
internal import GRPCCore
internal import Synchronization

/// One node's Attach stream, from Hello to its end: what the reader, the writer of the database and
/// the writer of the stream share.
final class AttachedStream: CommitClient {
  let id: UInt64
  let node: NodeIdentity
  let outbox: Outbox
  let budget: StreamBudget
  private let flowBytes: UInt64
  private let cancelReader: @Sendable () -> Void

  fileprivate struct State {
    var submitted: UInt64 = 0
    var acknowledged: UInt64 = 0
    /// Set when nothing more will be submitted: the stream ends so once all is acknowledged.
    var endWhenDone: Result<Void, RPCError>?
    var isStopping = false
  }

  private let state: Mutex<State>

  /// `cancelReader` has the task that reads the stream read no more.
  init(
    id: UInt64, hello: Clusterdriver_V1_Hello, outbox: Outbox, budget: Int, flowBytes: UInt64,
    cancelReader: @escaping @Sendable () -> Void
  ) {
    self.id = id
    self.outbox = outbox
    self.budget = StreamBudget(limit: budget)
    self.flowBytes = flowBytes
    self.cancelReader = cancelReader
    node = NodeIdentity(id: hello.nodeID, incarnation: hello.incarnation, version: hello.version)
    let before = hello.nextNumber - 1
    state = Mutex(State(submitted: before, acknowledged: before))
    if flowBytes > 0 { outbox.hint(bytesInFlightMax: flowBytes) }
  }

  func submitted(_ number: UInt64) { state.withLock { $0.submitted = number } }

  func committed(
    through: UInt64, stale: [Clusterdriver_V1_StaleOwner], bytes: Int
  ) {
    outbox.acknowledge(through: through, stale: stale)
    budget.giveBack(bytes)
    let end = state.withLock { state in
      state.acknowledged = max(state.acknowledged, through)
      return state.acknowledged >= state.submitted ? state.endWhenDone : nil
    }
    if let end { outbox.finish(end) }
  }

  func writerIsBehind(_ isBehind: Bool) {
    // A node may otherwise keep megabytes under way for a disk that is full.
    outbox.hint(bytesInFlightMax: isBehind ? 64 << 10 : flowBytes)
  }

  /// The node has sent its last message, or is not listened to any longer: ends the stream when
  /// everything submitted is acknowledged.
  func finishWhenDone(_ end: Result<Void, RPCError>) {
    let isDone = state.withLock { state in
      state.endWhenDone = end
      return state.acknowledged >= state.submitted
    }
    if isDone { outbox.finish(end) }
  }

  /// Ends the stream now.
  func fail(_ error: RPCError) {
    outbox.finish(.failure(error))
    readNoMore()
  }

  /// Orderly stop: reads no more, acknowledges what was read, then ends.
  func stop() {
    state.withLock { $0.isStopping = true }
    readNoMore()
  }

  var isStopping: Bool { state.withLock { $0.isStopping } }

  private func readNoMore() {
    budget.close()
    cancelReader()
  }
}

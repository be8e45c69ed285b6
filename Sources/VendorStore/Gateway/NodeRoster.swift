internal import GRPCCore
internal import Synchronization

/// The nodes attached now, one stream each: of two streams of one node the newer counts.
final class NodeRoster: Sendable {
  static let nodesMax = 128

  fileprivate struct State {
    var streams: [String: AttachedStream] = [:]
    var nextID: UInt64 = 1
    var isStopping = false
  }

  private let state = Mutex(State())

  func newStreamID() -> UInt64 {
    state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
  }

  /// Enters a stream; an older one of the same node is ended.
  func attach(_ stream: AttachedStream) throws(RPCError) {
    let older = try state.withLock { state throws(RPCError) -> AttachedStream? in
      if state.isStopping { throw .stopping }
      let older = state.streams[stream.node.id]
      guard older != nil || state.streams.count < Self.nodesMax else {
        throw RPCError(
          code: .resourceExhausted,
          message: "\(Self.nodesMax) nodes are attached already; this vendor app takes no more.")
      }
      // The newer stream alone is asked from here on; an id is never given out again.
      if let older, older.id > stream.id { throw .supersededStream(stream.node.id) }
      state.streams[stream.node.id] = stream
      return older
    }
    older?.fail(.supersededStream(stream.node.id))
  }

  /// False when a newer stream has taken its place.
  @discardableResult
  func detach(_ stream: AttachedStream) -> Bool {
    state.withLock { state in
      guard state.streams[stream.node.id]?.id == stream.id else { return false }
      state.streams[stream.node.id] = nil
      return true
    }
  }

  func stream(of node: String) -> AttachedStream? { state.withLock { $0.streams[node] } }
  func isAttached(_ id: UInt64) -> Bool {
    state.withLock { $0.streams.values.contains { $0.id == id } }
  }
  var count: Int { state.withLock { $0.streams.count } }

  /// Takes no more, and has every stream read no more.
  func stop() {
    let streams = state.withLock { state in
      state.isStopping = true
      return Array(state.streams.values)
    }
    for stream in streams { stream.stop() }
  }
}

extension RPCError {
  static let stopping = RPCError(
    code: .unavailable, message: "The vendor app is stopping. Attach again in a moment.")

  static func supersededStream(_ node: String) -> RPCError {
    RPCError(
      code: .aborted,
      message: "Node \(node) has attached again; this older stream of it is over. "
        + "If two nodes have the same id, give each its own.")
  }
}

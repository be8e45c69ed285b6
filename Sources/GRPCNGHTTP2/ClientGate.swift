internal import GRPCCore
internal import Synchronization

/// Where RPCs wait for a connection, and where it is known how many are under way.
final class ClientGate: Sendable {
  struct Peers: Sendable {
    var remote: String
    var local: String
  }

  private enum Availability {
    /// Not connected yet, for the first time: everybody waits.
    case connecting
    case ready(Peers)
    /// The last attempt failed: only those wait who want to.
    case failing(RPCError)
    case closed(RPCError)
  }

  private struct State {
    var availability = Availability.connecting
    var isShuttingDown = false
    var open = 0
    var waiters: [UInt64: (waiter: StreamCore.Waiter, patient: Bool)] = [:]
    var cancelled: Set<UInt64> = []
    var lastID: UInt64 = 0
  }

  private let state = Mutex(State())

  private static let shuttingDown = RPCError(
    code: .failedPrecondition, message: "The client transport is shutting down or has shut down.")

  /// Waits until an RPC can begin, and counts it as open.
  func enter(waitForReady: Bool) async throws -> Peers {
    while true {
      let id = try self.state.withLock { state -> (UInt64?, Peers?) in
        if state.isShuttingDown { throw Self.shuttingDown }
        switch state.availability {
        case .ready(let peers):
          state.open += 1
          return (nil, peers)
        case .failing(let error) where !waitForReady:
          throw error
        case .closed(let error):
          throw error
        case .connecting, .failing:
          state.lastID += 1
          return (state.lastID, nil)
        }
      }
      if let peers = id.1 { return peers }
      try await self.wait(id.0!, patient: waitForReady)
    }
  }

  private func wait(_ id: UInt64, patient: Bool) async throws {
    await withTaskCancellationHandler {
      await withUnsafeContinuation { (waiter: StreamCore.Waiter) in
        let now = self.state.withLock { state -> Bool in
          if state.cancelled.remove(id) != nil || state.isShuttingDown { return true }
          switch state.availability {
          case .ready, .closed: return true
          case .failing where !patient: return true
          case .connecting, .failing: break
          }
          state.waiters[id] = (waiter, patient)
          return false
        }
        if now { waiter.resume() }
      }
    } onCancel: {
      let waiter = self.state.withLock { state -> StreamCore.Waiter? in
        if let entry = state.waiters.removeValue(forKey: id) { return entry.waiter }
        state.cancelled.insert(id)
        return nil
      }
      waiter?.resume()
    }
    if Task.isCancelled {
      self.state.withLock { _ = $0.cancelled.remove(id) }
      throw RPCError(code: .cancelled, message: "The RPC was cancelled before it had a connection.")
    }
  }

  /// - Returns: true when this was the last RPC of a transport that shuts down.
  func leave() -> Bool {
    self.state.withLock { state in
      state.open -= 1
      return state.isShuttingDown && state.open == 0
    }
  }

  func isReady(_ peers: Peers) {
    self.change { $0.availability = .ready(peers) }
  }

  /// No connection right now, but soon: as at the beginning.
  func isConnecting() {
    self.change { $0.availability = .connecting }
  }

  func isFailing(_ error: RPCError) {
    self.change { $0.availability = .failing(error) }
  }

  func isClosed() {
    self.change {
      $0.isShuttingDown = true
      $0.availability = .closed(Self.shuttingDown)
    }
  }

  /// - Returns: true when no RPC is open.
  func beginShutdown() -> Bool {
    self.change { $0.isShuttingDown = true }
    return self.state.withLock { $0.open == 0 }
  }

  private func change(_ body: (inout State) -> Void) {
    let waiters = self.state.withLock { state -> [StreamCore.Waiter] in
      if case .closed = state.availability { return [] }
      body(&state)
      var wake: [StreamCore.Waiter] = []
      for (id, entry) in state.waiters {
        switch state.availability {
        case .connecting where !state.isShuttingDown: continue
        case .failing where entry.patient && !state.isShuttingDown: continue
        default: break
        }
        wake.append(entry.waiter)
        state.waiters[id] = nil
      }
      return wake
    }
    for waiter in waiters { waiter.resume() }
  }
}

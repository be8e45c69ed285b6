internal import DriverProtocol
internal import GRPCCore
internal import Synchronization

/// One command's result, waited for by one caller who may give up first.
final class AwaitedResult: Sendable {
  private enum State {
    case open
    case waiting(CheckedContinuation<Clusterdriver_V1_CommandResult, any Error>)
    case ended(Result<Clusterdriver_V1_CommandResult, RPCError>)
  }

  private let state = Mutex(State.open)

  init() {}

  func end(with result: Clusterdriver_V1_CommandResult) { self.settle(.success(result)) }

  func giveUp() {
    self.settle(
      .failure(
        RPCError(
          code: .deadlineExceeded,
          message: "there is no result yet, and the command goes on; repeating it under the same"
            + " id is safe and tells how it ended")))
  }

  func value() async throws -> Clusterdriver_V1_CommandResult {
    try await withCheckedThrowingContinuation { continuation in
      let ended = self.state.withLock {
        state -> Result<Clusterdriver_V1_CommandResult, RPCError>? in
        if case .ended(let result) = state { return result }
        state = .waiting(continuation)
        return nil
      }
      if let ended { continuation.resume(with: ended) }
    }
  }

  /// The first end counts.
  private func settle(_ result: Result<Clusterdriver_V1_CommandResult, RPCError>) {
    typealias Waiting = CheckedContinuation<Clusterdriver_V1_CommandResult, any Error>
    let waiting = self.state.withLock { state -> Waiting? in
      switch state {
      case .open:
        state = .ended(result)
        return nil
      case .waiting(let continuation):
        state = .ended(result)
        return continuation
      case .ended:
        return nil
      }
    }
    waiting?.resume(with: result)
  }
}

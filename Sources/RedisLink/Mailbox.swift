internal import CSystem
internal import Synchronization

/// What other threads leave for a loop. The bell is rung only for a loop that sleeps: a busy one
/// looks in by itself, once a turn.
final class Mailbox<Item: Sendable>: Sendable {
  private struct State {
    var items: [Item] = []
    /// By the tag of the wire that asked: at most one each.
    var resolved: [UInt64: Resolution] = [:]
    var isClosing = false
    var isSleeping = false
    var count = 0
    var bytes = 0
  }

  let bell: Int32
  private let countMax: Int
  private let bytesMax: Int
  private let state = Mutex(State())

  /// Limits of what is outstanding: put in and not yet released.
  init(countMax: Int, bytesMax: Int) throws(RedisFailure) {
    self.countMax = countMax
    self.bytesMax = bytesMax
    bell = csys_bell_new()
    if bell < 0 { throw .system(doing: "making an eventfd", errno: -bell) }
  }

  deinit {
    csys_fd_close(bell)
  }

  private func change<Result>(_ body: (inout State) -> Result) -> Result {
    let (result, mustRing) = state.withLock { state in
      let result = body(&state)
      let mustRing = state.isSleeping
      state.isSleeping = false
      return (result, mustRing)
    }
    if mustRing { csys_bell_ring(bell) }
    return result
  }

  /// Puts in an item that stands for `count` commands of `bytes` bytes.
  func put(_ item: Item, count: Int, bytes: Int) throws(RedisFailure) {
    let refusal: RedisFailure? = change { state in
      if state.isClosing { return .closed }
      if state.count + count > countMax || state.bytes + bytes > bytesMax { return .full }
      state.count += count
      state.bytes += bytes
      state.items.append(item)
      return nil
    }
    if let refusal { throw refusal }
  }

  func post(_ resolution: Resolution, for tag: UInt64) {
    change { $0.resolved[tag] = resolution }
  }

  var isClosing: Bool { state.withLock { $0.isClosing } }

  func close() {
    change { $0.isClosing = true }
  }

  func release(count: Int, bytes: Int) {
    state.withLock { state in
      state.count -= count
      state.bytes -= bytes
    }
  }

  // MARK: The loop's side

  struct Mail {
    var items: [Item]
    var resolved: [UInt64: Resolution]
    var isClosing: Bool
  }

  func take() -> Mail {
    state.withLock { state in
      state.isSleeping = false
      let mail = Mail(items: state.items, resolved: state.resolved, isClosing: state.isClosing)
      if !state.items.isEmpty { state.items = [] }
      if !state.resolved.isEmpty { state.resolved = [:] }
      return mail
    }
  }

  /// Whether the loop may sleep; it is then woken by the next change.
  func prepareToSleep() -> Bool {
    state.withLock { state in
      state.isSleeping = state.items.isEmpty && state.resolved.isEmpty && !state.isClosing
      return state.isSleeping
    }
  }
}

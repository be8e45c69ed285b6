internal import DriverProtocol
internal import GRPCCore
internal import Synchronization

/// What waits to be written to one node. Acknowledgements merge into one while the stream is busy,
/// so their number is bounded by the stream's speed; commands have a limit. Sequences go one at a time and
/// behind everything else: they are large, and nobody stands at a door for them.
final class Outbox: Sendable {
  static let commandsMax = 4_096

  fileprivate struct State {
    var through: UInt64?
    var stale: [Clusterdriver_V1_StaleOwner] = []
    var commands: [Clusterdriver_V1_Command] = []
    var sequences: [Clusterdriver_V1_Command] = []
    var flow: Clusterdriver_V1_FlowHint?
    var end: Result<Void, RPCError>?
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let state = Mutex(State())

  func acknowledge(through: UInt64, stale: [Clusterdriver_V1_StaleOwner]) {
    change { state in
      state.through = max(state.through ?? 0, through)
      state.stale += stale
    }
  }

  /// False when there is no room, or the stream has ended.
  func send(_ command: Clusterdriver_V1_Command) -> Bool {
    change { state in
      guard state.end == nil, state.commands.count + state.sequences.count < Self.commandsMax else {
        return false
      }
      if command.isSequence {
        state.sequences.append(command)
      } else {
        state.commands.append(command)
      }
      return true
    }
  }

  func hint(bytesInFlightMax: UInt64) {
    change { state in
      var flow = Clusterdriver_V1_FlowHint()
      flow.bytesInFlightMax = bytesInFlightMax
      state.flow = flow
    }
  }

  /// Ends the stream after what waits has been written; the first end counts.
  func finish(_ end: Result<Void, RPCError>) {
    change { state in
      if state.end == nil { state.end = end }
    }
  }

  var isFinished: Bool { state.withLock { $0.end != nil } }

  /// Waits for something to write; nil at the end. Throws what the stream is to end with.
  func next() async throws(RPCError) -> [Clusterdriver_V1_VendorMessage]? {
    while true {
      let (messages, end) = state.withLock { ($0.take(), $0.end) }
      if !messages.isEmpty { return messages }
      if let end {
        try end.get()
        return nil
      }
      await withCheckedContinuation { continuation in
        let mayGo = state.withLock { state in
          if !state.isEmpty || state.end != nil { return true }
          state.waiting = continuation
          return false
        }
        if mayGo { continuation.resume() }
      }
    }
  }

  private func change<R>(_ body: (inout State) -> R) -> R {
    let (result, waiting) = state.withLock { state in
      let result = body(&state)
      return (result, state.waiting.take())
    }
    waiting?.resume()
    return result
  }
}

extension Outbox.State {
  fileprivate var isEmpty: Bool {
    through == nil && commands.isEmpty && sequences.isEmpty && flow == nil
  }

  /// Commands first: a door may be waiting.
  fileprivate mutating func take() -> [Clusterdriver_V1_VendorMessage] {
    var messages = commands.map { command in
      var message = Clusterdriver_V1_VendorMessage()
      message.command = command
      return message
    }
    if let flow {
      var message = Clusterdriver_V1_VendorMessage()
      message.flow = flow
      messages.append(message)
    }
    if let through {
      var message = Clusterdriver_V1_VendorMessage()
      message.ack.through = through
      message.ack.stale = stale
      messages.append(message)
    }
    if let sequence = sequences.first {
      var message = Clusterdriver_V1_VendorMessage()
      message.command = sequence
      messages.append(message)
      sequences.removeFirst()
    }
    commands = []
    flow = nil
    through = nil
    stale = []
    return messages
  }
}

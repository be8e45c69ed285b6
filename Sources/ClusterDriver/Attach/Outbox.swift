import Synchronization

/// Between the threads that have something for the vendor app and the one task that writes the
/// stream to it: `OutboxState` under a lock, and whom to wake.
///
/// The writer is resumed once for all that was added while it was away or asleep, not once for each
/// message. The event thread asks for room before it takes more; it sleeps on the bell while there is
/// none.
final class Outbox: Sendable {
  /// Bytes given to the writer at once.
  static let writeBytesMax = 256 * 1024
  /// Bytes of advisories that may wait for the writer; more are dropped, as they are without a stream.
  static let advisoryBytesMax = 256 * 1024

  private struct State {
    var retained: OutboxState
    var advisories: [[UInt8]] = []
    var advisoryBytes = 0
    /// The stream being written; nil = none.
    var stream: UInt64?
    var isFinishing = false
    var writer: CheckedContinuation<Void, Never>?
    var waitsForRoom = false
    var advisoriesDropped: UInt64 = 0
    var messagesAcked: UInt64 = 0
    var eventsAcked: UInt64 = 0
    var eventsRefused: UInt64 = 0
    var stalls: UInt64 = 0
    var streams: UInt64 = 0
  }

  struct Counters: Sendable, Equatable {
    var bytes = 0
    var limit = 0
    var messages = 0
    var events = 0
    var results = 0
    var sentMessages: UInt64 = 0
    var sentEvents: UInt64 = 0
    var repeatedMessages: UInt64 = 0
    var messagesAcked: UInt64 = 0
    var eventsAcked: UInt64 = 0
    var eventsRefused: UInt64 = 0
    var advisoriesDropped: UInt64 = 0
    /// Times the event thread found no room.
    var stalls: UInt64 = 0
    /// Streams begun.
    var streams: UInt64 = 0
  }

  /// From reading an event to its acknowledgement by the vendor app.
  let latency = LatencyHistogram()

  private let state: Mutex<State>
  private let room = Bell()

  init(bytesMax: Int) {
    self.state = Mutex(State(retained: OutboxState(bytesMax: bytesMax)))
  }

  // MARK: Adding

  /// Retains a message, which `encode` makes for the number it is given.
  func append(
    cursors: [AckCursor] = [], events: Int = 0, results: Int = 0,
    readAt: ContinuousClock.Instant? = nil, onlyHereSince: ContinuousClock.Instant? = nil,
    encode: (UInt64) -> [UInt8]
  ) {
    let writer = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
      let bytes = encode(state.retained.nextNumber)
      state.retained.append(
        OutboxState.Message(
          bytes: bytes, cursors: cursors, events: events, results: results,
          onlyHereSince: onlyHereSince, readAt: readAt))
      return state.writer.take()
    }
    writer?.resume()
  }

  /// Sends a message once if there is a stream that keeps up, and forgets it.
  func sendUnnumbered(_ bytes: [UInt8], events: Int) {
    let writer = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard state.stream != nil, state.advisoryBytes < Outbox.advisoryBytesMax else {
        state.advisoriesDropped += UInt64(events)
        return nil
      }
      state.advisories.append(bytes)
      state.advisoryBytes += bytes.count
      return state.writer.take()
    }
    writer?.resume()
  }

  /// Whether events may be taken. If not, `waitForRoom` returns when they may.
  var hasRoom: Bool {
    self.state.withLock { state in
      guard state.retained.isFull else { return true }
      if !state.waitsForRoom { state.stalls += 1 }
      state.waitsForRoom = true
      return false
    }
  }

  /// BLOCKS until there is room or somebody calls `wakeTaker`, at most this long.
  func waitForRoom(milliseconds: Int32) {
    self.room.wait(milliseconds: milliseconds)
  }

  func wakeTaker() {
    self.room.ring()
  }

  /// The highest message number the vendor app has acknowledged; 0 = none.
  var ackedThrough: UInt64 { self.state.withLock { $0.retained.firstNumber - 1 } }

  /// Twice what may be retained is: nothing is to be added that its maker can do without.
  var isOverfull: Bool {
    self.state.withLock { $0.retained.isOverfull }
  }

  // MARK: The stream

  /// A stream begins. Returns the number of the first message on it.
  func begin(stream: UInt64) -> UInt64 {
    self.state.withLock { state in
      state.stream = stream
      state.streams += 1
      state.advisories = []
      state.advisoryBytes = 0
      return state.retained.begin()
    }
  }

  /// The stream is over; its writer is given nothing more.
  func end(stream: UInt64) {
    let writer = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard state.stream == stream else { return nil }
      state.stream = nil
      state.advisories = []
      state.advisoryBytes = 0
      return state.writer.take()
    }
    writer?.resume()
  }

  /// What there is has been given to the writer: its next batch is the end.
  func finish() {
    let writer = self.state.withLock { state in
      state.isFinishing = true
      return state.writer.take()
    }
    writer?.resume()
  }

  /// What to write next, in order; waits while there is nothing. Nil: the stream is over.
  /// Of the stream's one writer.
  func nextBatch(stream: UInt64) async -> [[UInt8]]? {
    while true {
      let batch = self.state.withLock { state -> [[UInt8]]? in
        guard state.stream == stream else { return nil }
        return Outbox.takeBatch(&state)
      }
      guard let batch, !Task.isCancelled else { return nil }
      if !batch.isEmpty { return batch }
      if self.state.withLock({ $0.isFinishing }) { return nil }
      if let until = self.resumesAt {
        // The vendor app asked for a pause. It may lift it, so look now and then.
        let soon = ContinuousClock.now.advanced(by: .milliseconds(100))
        try? await Task.sleep(until: min(until, soon), clock: .continuous)
        continue
      }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let goesOn = self.state.withLock { state in
            let now = ContinuousClock.now
            if state.stream != stream || Task.isCancelled || state.isFinishing
              || !state.advisories.isEmpty || state.retained.hasUnsent(at: now)
            {
              return true
            }
            state.writer = continuation
            return false
          }
          if goesOn { continuation.resume() }
        }
      } onCancel: {
        self.wakeWriter()
      }
    }
  }

  private static func takeBatch(_ state: inout State) -> [[UInt8]] {
    let batch = state.retained.takeUnsent(bytesMax: Outbox.writeBytesMax, at: .now)
    guard !state.advisories.isEmpty else { return batch }
    defer {
      state.advisories = []
      state.advisoryBytes = 0
    }
    return state.advisories + batch
  }

  private func wakeWriter() {
    self.state.withLock { $0.writer.take() }?.resume()
  }

  private var resumesAt: ContinuousClock.Instant? {
    self.state.withLock { $0.retained.resumesAt(after: .now) }
  }

  // MARK: What the vendor app says

  func acknowledge(
    through: UInt64, refusals: [OutboxState.Refusal]
  ) throws(OutboxState.AckError) -> OutboxState.Acknowledgement {
    let (result, roomAgain) = self.state.withLock { state in
      let result = state.retained.acknowledge(through: through, refusals: refusals)
      if case .success(let acknowledgement) = result {
        state.messagesAcked += UInt64(acknowledgement.messages)
        state.eventsRefused += UInt64(acknowledgement.refusedEvents)
        state.eventsAcked += UInt64(acknowledgement.events - acknowledgement.refusedEvents)
      }
      let roomAgain = state.waitsForRoom && state.retained.hasRoom
      if roomAgain { state.waitsForRoom = false }
      return (result, roomAgain)
    }
    if roomAgain { self.room.ring() }
    let acknowledgement = try result.get()
    let now = ContinuousClock.now
    for reading in acknowledgement.readings {
      self.latency.record(
        us: (now - reading.readAt).microseconds, count: UInt64(reading.events))
    }
    return acknowledgement
  }

  /// Another bound of the node's own.
  func bound(bytesMax: Int) {
    self.state.withLock { $0.retained.bytesMax = bytesMax }
    self.room.ring()
    self.wakeWriter()
  }

  func hint(bytesMax: UInt64, pause: Duration) {
    self.state.withLock { state in
      state.retained.hint(bytesMax: bytesMax, pause: pause, at: .now)
    }
    self.room.ring()
    self.wakeWriter()
  }

  /// Sessions that begin, before anything of theirs is appended, or that ended, after everything.
  func sessions(_ changes: [SessionChange]) {
    guard !changes.isEmpty else { return }
    self.state.withLock { state in
      for change in changes {
        if change.isConnected {
          state.retained.begin(session: change.connection)
        } else {
          state.retained.end(session: change.connection)
        }
      }
    }
  }

  // MARK: Looking in

  /// Whether the vendor app has asked for a pause that is still on.
  var isPaused: Bool { self.resumesAt != nil }

  /// The messages with results that the vendor app has not acknowledged, in order, as they are sent.
  var resultMessages: [[UInt8]] { self.state.withLock { $0.retained.resultMessages } }

  /// `OutboxState.onlyHere`.
  func onlyHere(since: ContinuousClock.Instant, bytesMax: Int) -> [(number: UInt64, bytes: [UInt8])]
  {
    self.state.withLock { $0.retained.onlyHere(since: since, bytesMax: bytesMax) }
  }

  /// Somebody else has the results of these messages, too.
  func copied(_ numbers: [UInt64]) {
    self.state.withLock { $0.retained.copied(numbers) }
  }

  /// The number of the oldest message that the vendor app has not acknowledged; nil: there is none.
  var oldest: UInt64? {
    self.state.withLock { $0.retained.isEmpty ? nil : $0.retained.firstNumber }
  }

  var isEmpty: Bool { self.state.withLock { $0.retained.isEmpty } }

  var counters: Counters {
    self.state.withLock { state in
      Counters(
        bytes: state.retained.bytes, limit: state.retained.limit, messages: state.retained.count,
        events: state.retained.events, results: state.retained.results,
        sentMessages: state.retained.sentMessages, sentEvents: state.retained.sentEvents,
        repeatedMessages: state.retained.repeatedMessages, messagesAcked: state.messagesAcked,
        eventsAcked: state.eventsAcked, eventsRefused: state.eventsRefused,
        advisoriesDropped: state.advisoriesDropped,
        stalls: state.stalls, streams: state.streams)
    }
  }
}

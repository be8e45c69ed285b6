internal import DriverProtocol
internal import Synchronization

/// Lets people watch the events pass. Costs the hot path one relaxed load a batch while nobody does.
///
/// The event thread asks ``isWanted`` and, when it is, offers what it took. A reader that cannot
/// keep up loses the oldest of what it did not take yet, and is told how many; nobody ever waits
/// for a reader.
final class TailHub: Sendable {
  /// Readers at once.
  static let readersMax = 32
  /// Events a reader may be behind by.
  static let backlogMax = 4_096

  private let wanted = Atomic<Bool>(false)
  private let readers = Mutex<[TailReader]>([])

  init() {}

  /// Whether anybody watches. Any thread; a relaxed load.
  var isWanted: Bool { self.wanted.load(ordering: .relaxed) }

  /// Offers events, in the order they were taken. Any thread; copies references, never waits.
  func offer(_ events: [Clusterdriver_V1_Event]) {
    for reader in self.readers.withLock({ $0 }) { reader.offer(events) }
  }

  /// A new reader of the events of `serial` (0 = all) from now on, or `nil` when there are
  /// ``readersMax`` already. Must be closed.
  func open(serial: UInt64) -> TailReader? {
    self.readers.withLock { readers in
      guard readers.count < TailHub.readersMax else { return nil }
      let reader = TailReader(serial: serial)
      readers.append(reader)
      self.wanted.store(true, ordering: .relaxed)
      return reader
    }
  }

  /// Ends a reader: its ``TailReader/next()`` returns `nil`.
  func close(_ reader: TailReader) {
    self.readers.withLock { readers in
      readers.removeAll { $0 === reader }
      self.wanted.store(!readers.isEmpty, ordering: .relaxed)
    }
    reader.close()
  }

  /// Ends every reader, as the node stops.
  func closeAll() {
    for reader in self.readers.withLock({ $0 }) { self.close(reader) }
  }
}

/// One watcher's bounded buffer.
final class TailReader: Sendable {
  /// What a reader is given next: the number of events it missed, then those it did not.
  struct Batch: Equatable {
    var missed: UInt64
    var events: [Clusterdriver_V1_Event]
  }

  private struct State {
    var events: [Clusterdriver_V1_Event] = []
    var missed: UInt64 = 0
    var isClosed = false
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let serial: UInt64
  private let state = Mutex(State())

  fileprivate init(serial: UInt64) {
    self.serial = serial
  }

  fileprivate func offer(_ events: [Clusterdriver_V1_Event]) {
    let waiting = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard !state.isClosed else { return nil }
      if self.serial == 0 {
        state.events += events
      } else {
        state.events += events.lazy.filter { $0.serial == self.serial }
      }
      let excess = state.events.count - TailHub.backlogMax
      if excess > 0 {
        state.events.removeFirst(excess)
        state.missed += UInt64(excess)
      }
      guard !state.events.isEmpty else { return nil }
      return state.waiting.take()
    }
    waiting?.resume()
  }

  fileprivate func close() {
    let waiting = self.state.withLock { state in
      state.isClosed = true
      return state.waiting.take()
    }
    waiting?.resume()
  }

  /// Waits for events; `nil` once the reader is closed or the task cancelled. One caller at a time.
  func next() async -> Batch? {
    while true {
      let batch = self.state.withLock { state -> Batch?? in
        if state.isClosed { return .some(nil) }
        guard !state.events.isEmpty else { return nil }
        defer {
          state.events = []
          state.missed = 0
        }
        return Batch(missed: state.missed, events: state.events)
      }
      if let batch { return batch }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let isDue = self.state.withLock { state in
            if state.isClosed || !state.events.isEmpty { return true }
            state.waiting = continuation
            return false
          }
          if isDue { continuation.resume() }
        }
      } onCancel: {
        self.close()
      }
    }
  }
}

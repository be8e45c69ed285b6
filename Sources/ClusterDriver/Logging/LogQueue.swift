internal import CSystem
internal import Glibc
internal import Logging
internal import Synchronization

/// Stands between the threads that log and the one thread that writes: a log that is slow to take
/// lines, or does not take them at all, stops nobody but the writer.
///
/// What does not fit is dropped and counted, and the count is written once there is room again.
final class LogQueue: Sendable {
  /// Lines, and bytes of them, that may wait.
  static let linesMax = 8_192
  static let bytesMax = 4 << 20

  private struct State {
    var records: [LogRecord] = []
    var bytes = 0
    var droppedSinceTold: UInt64 = 0
    var isWriterAsleep = false
    var isClosing = false
  }

  private let state = Mutex(State())
  private let dropped = Atomic<UInt64>(0)
  private let written = Atomic<UInt64>(0)
  private let levelIndex: Atomic<Int>
  /// Rung for the writer, and by it when it has ended.
  private let bell: CInt
  private let endBell: CInt
  private let sink: any LogSink

  /// Starts the writer. It keeps the queue alive until ``close(within:)``.
  init(sink: any LogSink, level: Logger.Level) {
    self.sink = sink
    self.levelIndex = Atomic(LogQueue.index(level))
    self.bell = csys_bell_new()
    self.endBell = csys_bell_new()
    precondition(self.bell >= 0 && self.endBell >= 0, "a process can have two more descriptors")
    let body: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
      guard let context else { return }
      Unmanaged<LogQueue>.fromOpaque(context).takeRetainedValue().write()
    }
    let started = csys_thread_start("log", body, Unmanaged.passRetained(self).toOpaque(), nil)
    precondition(started >= 0, "a process can have one more thread")
  }

  deinit {
    csys_fd_close(self.bell)
    csys_fd_close(self.endBell)
  }

  /// Lines dropped since the start, and lines written.
  var droppedTotal: UInt64 { self.dropped.load(ordering: .relaxed) }
  var writtenTotal: UInt64 { self.written.load(ordering: .relaxed) }

  /// The least grave lines to log. Any thread.
  var level: Logger.Level {
    get { Logger.Level.allCases[self.levelIndex.load(ordering: .relaxed)] }
    set { self.levelIndex.store(LogQueue.index(newValue), ordering: .relaxed) }
  }

  private static func index(_ level: Logger.Level) -> Int {
    Logger.Level.allCases.firstIndex(of: level)!
  }

  /// Never waits for the log. Any thread.
  func offer(_ record: LogRecord) {
    let mustRing = self.state.withLock { state -> Bool in
      let cost = record.cost
      guard !state.isClosing, state.records.count < LogQueue.linesMax,
        state.bytes + cost <= LogQueue.bytesMax
      else {
        state.droppedSinceTold += 1
        self.dropped.wrappingAdd(1, ordering: .relaxed)
        return false
      }
      state.records.append(record)
      state.bytes += cost
      defer { state.isWriterAsleep = false }
      return state.isWriterAsleep
    }
    if mustRing { csys_bell_ring(self.bell) }
  }

  /// Ends the writer when it has written what is waiting, but waits for that no longer than `limit`.
  /// Returns whether everything was written. Lines offered afterwards are dropped.
  @discardableResult
  func close(within limit: Duration) -> Bool {
    self.state.withLock { $0.isClosing = true }
    csys_bell_ring(self.bell)
    let until = csys_clock_boottime() &+ nanoseconds(limit)
    while true {
      let now = csys_clock_boottime()
      guard now < until else { return false }
      var ended = pollfd(fd: self.endBell, events: Int16(POLLIN), revents: 0)
      let timeoutMs = CInt(min((until - now) / 1_000_000 + 1, 60_000))
      if poll(&ended, 1, timeoutMs) == 1 { return true }
    }
  }

  private func write() {
    while true {
      let (records, dropped, isLast) = self.take()
      for record in records { self.write(record) }
      if dropped > 0 { self.write(LogQueue.notice(dropped: dropped)) }
      if isLast {
        csys_bell_ring(self.endBell)
        return
      }
      if records.isEmpty && dropped == 0 { self.sleep() }
    }
  }

  private func write(_ record: LogRecord) {
    if self.sink.write(record) {
      self.written.wrappingAdd(1, ordering: .relaxed)
    } else {
      self.dropped.wrappingAdd(1, ordering: .relaxed)
    }
  }

  /// What waits now. When nothing does, the next offer rings.
  private func take() -> (records: [LogRecord], dropped: UInt64, isLast: Bool) {
    self.state.withLock { state in
      let taken = (state.records, state.droppedSinceTold)
      let isEmpty = taken.0.isEmpty && taken.1 == 0
      state.records = []
      state.bytes = 0
      state.droppedSinceTold = 0
      state.isWriterAsleep = isEmpty
      return (taken.0, taken.1, isEmpty && state.isClosing)
    }
  }

  private func sleep() {
    var rung = pollfd(fd: self.bell, events: Int16(POLLIN), revents: 0)
    poll(&rung, 1, -1)
    csys_bell_clear(self.bell)
  }

  private static func notice(dropped: UInt64) -> LogRecord {
    LogRecord(
      atMs: csys_clock_realtime() / 1_000_000, level: .warning, label: "log",
      message: "lines were dropped because the log does not take them fast enough",
      fields: [("dropped", "\(dropped)")])
  }
}

private func nanoseconds(_ duration: Duration) -> UInt64 {
  let (seconds, attoseconds) = duration.components
  return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds) / 1_000_000_000)
}

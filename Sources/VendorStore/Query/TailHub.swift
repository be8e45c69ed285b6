internal import DriverProtocol
internal import GRPCCore
internal import Synchronization

/// Shows committed records to whoever is watching. Costs the writer nothing while nobody is, and a
/// slow reader costs itself records, never anybody memory or time.
final class TailHub: Sendable {
  static let readersMax = 64

  private let readers = Mutex<[ObjectIdentifier: TailReader]>([:])

  /// `serial` 0 = all controllers.
  func open(serial: UInt64) throws -> TailReader {
    let reader = TailReader(serial: serial)
    try readers.withLock { readers in
      guard readers.count < Self.readersMax else {
        throw RPCError(
          code: .resourceExhausted,
          message: "\(Self.readersMax) readers are tailing already; end one of them.")
      }
      readers[ObjectIdentifier(reader)] = reader
    }
    return reader
  }

  func close(_ reader: TailReader) {
    readers.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(reader)) }
    reader.close()
  }

  func closeAll() {
    for reader in readers.withLock({ Array($0.values) }) { reader.close() }
  }

  /// Called by the writer thread after a commit.
  func publish(_ submissions: some Sequence<Submission>, _ outcome: CommitOutcome) {
    let readers = readers.withLock { Array($0.values) }
    if readers.isEmpty { return }
    for (submission, result) in zip(submissions, outcome.messages) {
      guard case .events(let events) = submission.content else { continue }
      for reader in readers { reader.offer(events, result.fresh) }
    }
  }
}

/// One reader's share: the newest batches, bounded in bytes; what fell out is counted.
final class TailReader: Sendable {
  static let bytesMax = 4 << 20

  enum Item: Sendable {
    case events(EventRows)
    case missed(UInt64)
  }

  fileprivate struct State {
    var batches: [EventRows] = []
    var bytes = 0
    var missed: UInt64 = 0
    var isClosed = false
    var waiting: CheckedContinuation<Void, Never>?
  }

  private let serial: UInt64
  private let state = Mutex(State())

  init(serial: UInt64) { self.serial = serial }

  func offer(_ events: EventRows, _ fresh: SubmissionOutcome.Fresh) {
    let rows = events.rows
    let batch: EventRows
    switch (fresh, serial) {
    case (.all, 0): batch = events
    case (.some(let indexes), 0): batch = events.subset(indexes)
    case (.all, let serial):
      batch = events.subset(rows.indices.lazy.filter { rows[$0].serial == serial })
    case (.some(let indexes), let serial):
      batch = events.subset(indexes.lazy.filter { rows[$0].serial == serial })
    }
    if batch.isEmpty { return }
    state.withLock { state in
      state.append(batch)
      return state.waiting.take()
    }?.resume()
  }

  /// What has come since the last call, oldest first; waits for something. nil when closed.
  func next() async -> [Item]? {
    while true {
      let (items, isClosed) = state.withLock { ($0.take(), $0.isClosed) }
      if isClosed { return nil }
      if !items.isEmpty { return items }
      await withCheckedContinuation { continuation in
        let mayGo = state.withLock { state in
          if state.isClosed || !state.batches.isEmpty { return true }
          state.waiting = continuation
          return false
        }
        if mayGo { continuation.resume() }
      }
    }
  }

  func close() {
    state.withLock { state in
      state.isClosed = true
      return state.waiting.take()
    }?.resume()
  }
}

extension TailReader.State {
  fileprivate mutating func append(_ batch: EventRows) {
    batches.append(batch)
    bytes += batch.byteCount
    // The newest batch stays, whatever its size: a message has a limit of its own.
    while bytes > TailReader.bytesMax, batches.count > 1 {
      bytes -= batches[0].byteCount
      missed += UInt64(batches[0].count)
      batches.removeFirst()
    }
  }

  fileprivate mutating func take() -> [TailReader.Item] {
    var items: [TailReader.Item] = missed > 0 ? [.missed(missed)] : []
    items += batches.map { .events($0) }
    missed = 0
    bytes = 0
    batches = []
    return items
  }
}

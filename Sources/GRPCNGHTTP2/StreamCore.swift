internal import CHTTP2
internal import GRPCCore
internal import Synchronization

/// One RPC's stream: the place where the task that handles the RPC and the thread that owns the
/// connection meet. Each side only ever takes the lock, moves what is ready and leaves; bytes cross
/// in bulk, never message by message.
///
/// Inbound: the loop appends raw body bytes; the reader takes all of them at once and finds the
/// messages on its own thread. Taking them is what replenishes the peer's window, so a reader that
/// stops reading stops the peer.
///
/// Outbound: a writer appends framed messages; the loop takes all of them at once. A writer is
/// suspended while more than `writeBufferBytes` have not been put into frames.
final class StreamCore: @unchecked Sendable {
  /// How the inbound direction ended.
  enum End {
    /// Client: the server's status.
    case status(Status, Metadata)
    /// Server: the client has sent everything.
    case halfClosed
    case failed(RPCError)
  }

  /// What the loop has to do for the stream.
  struct Work: @unchecked Sendable {
    var head: HeaderBlock?
    var headIsEverything = false
    var body = CH2Chain()
    var trailers: HeaderBlock?
    var finish = false
    var reset: UInt32?
    /// Body bytes the reader has taken, to be given back as window.
    var consumed = 0
  }

  enum Intent {
    case nothing
    case open(headerListSize: Int)
    case drop
  }

  enum Room {
    case room
    case full
  }

  enum Taken {
    case metadata(Metadata)
    case bytes
    case end(End)
    case nothing
  }

  typealias Waiter = UnsafeContinuation<Void, Never>

  struct State: @unchecked Sendable {
    // Inbound
    var metadata: Metadata?
    var bytes: [UInt8] = []
    var end: End?
    var reader: Waiter?
    var readerWants = 1
    var readerCancelled = false
    // Outbound
    var work = Work()
    var headWritten = false
    var outboundEnded = false
    var buffered = 0
    var writers: [(id: UInt64, waiter: Waiter)] = []
    var cancelledWriters: Set<UInt64> = []
    var lastWriterID: UInt64 = 0
    /// Why nothing can be written any more.
    var closed: RPCError?
    /// Held back until the whole request or response is there: it then leaves in one packet.
    var corked: Bool
    /// In the loop's mailbox.
    var isPosted = false
    // Server
    var cancellation: ServerContext.RPCCancellationHandle?
    var isCancelled = false
  }

  let loop: EventLoop
  let waitForReady: Bool
  private let lowWater: Int
  private let highWater: Int
  private let creditThreshold: Int
  private let state: Mutex<State>

  // Of the loop's thread only.
  var connection: Connection?
  var stream: UnsafeMutablePointer<CH2Stream>?
  var isPending = false
  var isTouched = false

  init(loop: EventLoop, config: NGHTTP2ConnectionConfig, corked: Bool, waitForReady: Bool) {
    self.loop = loop
    self.waitForReady = waitForReady
    self.highWater = max(1, config.writeBufferBytes)
    self.lowWater = self.highWater / 2
    self.creditThreshold = config.streamWindowBytes / 4
    self.state = Mutex(State(corked: corked))
  }

  deinit {
    self.state.withLock { ch2_chain_clear(&$0.work.body) }
  }

  private func post(_ needed: Bool) {
    if needed { self.loop.post(self) }
  }
}

// MARK: - The reader's side

extension StreamCore {
  /// Takes what is next. For `.bytes`, `buffer` (empty) is exchanged for the bytes that came.
  func take(into buffer: inout [UInt8]) -> Taken {
    var post = false
    let taken = self.state.withLock { state -> Taken in
      if let metadata = state.metadata {
        state.metadata = nil
        return .metadata(metadata)
      }
      if !state.bytes.isEmpty {
        swap(&state.bytes, &buffer)
        state.work.consumed += buffer.count
        if state.work.consumed >= self.creditThreshold && state.end == nil && !state.isPosted {
          state.isPosted = true
          post = true
        }
        return .bytes
      }
      if let end = state.end { return .end(end) }
      return .nothing
    }
    self.post(post)
    return taken
  }

  /// Suspends until there is something to take: metadata, an end, or at least `wanted` bytes.
  func waitForInbound(wanted: Int) async throws {
    self.state.withLock {
      $0.readerCancelled = false
      $0.readerWants = wanted
    }
    await withTaskCancellationHandler {
      await withUnsafeContinuation { (waiter: Waiter) in
        let ready = self.state.withLock { state -> Bool in
          if state.readerCancelled || state.reader != nil || Self.isReadable(state) { return true }
          state.reader = waiter
          return false
        }
        if ready { waiter.resume() }
      }
    } onCancel: {
      let reader = self.state.withLock { state -> Waiter? in
        state.readerCancelled = true
        defer { state.reader = nil }
        return state.reader
      }
      reader?.resume()
    }
    if Task.isCancelled {
      throw RPCError(code: .cancelled, message: "The task reading the stream was cancelled.")
    }
  }

  private static func isReadable(_ state: borrowing State) -> Bool {
    state.metadata != nil || state.end != nil || state.bytes.count >= state.readerWants
  }
}

// MARK: - The writer's side

extension StreamCore {
  /// Queues the headers that begin our direction.
  func writeHead(_ head: HeaderBlock) throws {
    let post = try self.state.withLock { state -> Bool in
      if let closed = state.closed { throw closed }
      guard !state.headWritten else {
        throw RPCError(code: .internalError, message: "Metadata was written twice.")
      }
      state.headWritten = true
      state.work.head = head
      return Self.markPosted(&state)
    }
    self.post(post)
  }

  /// Queues one message.
  func write(_ message: [UInt8]) throws -> Room {
    // A small message is copied under the lock, next to those before it; a large one is not.
    if message.count > 4096 {
      var chain = CH2Chain()
      try Self.append(message, to: &chain)
      return try self.write(&chain)
    }
    var post = false
    let room = try self.state.withLock { state -> Room in
      try Self.checkWritable(state)
      let before = state.work.body.n_bytes
      try Self.append(message, to: &state.work.body)
      state.buffered += state.work.body.n_bytes - before
      return self.afterWrite(&state, &post)
    }
    self.post(post)
    return room
  }

  /// Queues messages framed already; takes the chain's content.
  func write(_ chain: inout CH2Chain) throws -> Room {
    var post = false
    // The lock's closure may not capture an inout chain that holds pointers: it gets the value.
    let moved = Work(body: chain)
    chain = CH2Chain()
    do {
      let room = try self.state.withLock { state -> Room in
        try Self.checkWritable(state)
        var body = moved.body
        state.buffered += body.n_bytes
        ch2_chain_splice(&state.work.body, &body)
        return self.afterWrite(&state, &post)
      }
      self.post(post)
      return room
    } catch {
      chain = moved.body
      throw error
    }
  }

  static func append(_ message: [UInt8], to chain: inout CH2Chain) throws {
    let result = message.withUnsafeBytes {
      ch2_chain_append_message(&chain, $0.baseAddress, $0.count)
    }
    guard result == 0 else {
      throw RPCError(
        code: .resourceExhausted,
        message: "A message of \(message.count) bytes could not be queued: out of memory.")
    }
  }

  private static func checkWritable(_ state: borrowing State) throws {
    if let closed = state.closed { throw closed }
    if state.outboundEnded {
      throw RPCError(code: .internalError, message: "The stream was written to after its end.")
    }
    if !state.headWritten {
      throw RPCError(code: .internalError, message: "A message was written before the metadata.")
    }
  }

  private func afterWrite(_ state: inout State, _ post: inout Bool) -> Room {
    let full = state.buffered > self.highWater
    if full { state.corked = false }
    post = Self.markPosted(&state)
    return full ? .full : .room
  }

  private static func markPosted(_ state: inout State) -> Bool {
    if state.corked || state.isPosted { return false }
    state.isPosted = true
    return true
  }

  /// Ends our direction; with trailers on a server. `instead` is sent in place of everything when
  /// no headers have been written yet.
  func finish(trailers: HeaderBlock?, instead: HeaderBlock?) throws {
    let post = try self.state.withLock { state -> Bool in
      if let closed = state.closed { throw closed }
      guard !state.outboundEnded else { return false }
      state.outboundEnded = true
      state.corked = false
      if !state.headWritten, let instead {
        state.headWritten = true
        state.work.head = instead
        state.work.headIsEverything = true
      } else if let trailers {
        state.work.trailers = trailers
      } else {
        state.work.finish = true
      }
      return Self.markPosted(&state)
    }
    self.post(post)
  }

  /// Whether the outbound direction was ended regularly.
  var isOutboundEnded: Bool {
    self.state.withLock { $0.outboundEnded }
  }

  /// Gives the stream up, unless it is over: the peer gets a RST_STREAM, and whoever still reads or
  /// writes gets an error.
  func abandon(_ code: UInt32, unlessEnded: Bool, because error: RPCError? = nil) {
    var post = false
    let waiters = self.state.withLock { state -> [Waiter] in
      if unlessEnded && state.end != nil { return [] }
      if state.work.reset == nil { state.work.reset = code }
      state.corked = false
      post = Self.markPosted(&state)
      return Self.close(
        &state, error ?? RPCError(code: .cancelled, message: "The stream was abandoned."),
        inbound: true)
    }
    self.post(post)
    for waiter in waiters { waiter.resume() }
  }

  /// Suspends while the peer takes less than is written.
  func waitForRoom() async throws {
    let id = self.state.withLock { state -> UInt64 in
      state.lastWriterID += 1
      return state.lastWriterID
    }
    await withTaskCancellationHandler {
      await withUnsafeContinuation { (waiter: Waiter) in
        let ready = self.state.withLock { state -> Bool in
          if state.cancelledWriters.remove(id) != nil || state.closed != nil
            || state.buffered <= self.highWater
          {
            return true
          }
          state.writers.append((id, waiter))
          return false
        }
        if ready { waiter.resume() }
      }
    } onCancel: {
      let waiter = self.state.withLock { state -> Waiter? in
        guard let index = state.writers.firstIndex(where: { $0.id == id }) else {
          state.cancelledWriters.insert(id)
          return nil
        }
        return state.writers.remove(at: index).waiter
      }
      waiter?.resume()
    }
    if let closed = self.state.withLock({ $0.closed }) { throw closed }
    if Task.isCancelled {
      throw RPCError(code: .cancelled, message: "The task writing to the stream was cancelled.")
    }
  }
}

// MARK: - The loop's side

extension StreamCore {
  /// What the stream wants while it has no connection; also takes it out of the mailbox.
  func intent() -> Intent {
    self.state.withLock { state in
      state.isPosted = false
      if state.work.reset != nil || state.closed != nil { return .drop }
      if let head = state.work.head { return .open(headerListSize: head.listSize) }
      return .nothing
    }
  }

  /// Everything there is to do, and takes the stream out of the mailbox.
  func takeWork() -> Work {
    self.state.withLock { state in
      state.isPosted = false
      let work = state.work
      state.work = Work()
      return work
    }
  }

  func deliver(metadata: Metadata) {
    self.state.withLock { $0.metadata = metadata }
  }

  /// - Returns: how many bytes the reader has taken since last asked, to be given back as window.
  func deliver(bytes: UnsafeRawBufferPointer) -> Int {
    self.state.withLock { state in
      if state.end == nil { state.bytes.append(contentsOf: bytes) }
      defer { state.work.consumed = 0 }
      return state.work.consumed
    }
  }

  /// The reader, if what came since is what it waits for.
  func readerToWake() -> Waiter? {
    self.state.withLock { state in
      guard state.reader != nil, Self.isReadable(state) else { return nil }
      defer { state.reader = nil }
      return state.reader
    }
  }

  /// The inbound direction is over. On a client that is the whole RPC: `closing` says so.
  func deliver(end: End, closing: RPCError?) -> [Waiter] {
    self.state.withLock { state in
      if state.end == nil { state.end = end }
      guard let closing else { return [] }
      return Self.close(&state, closing, inbound: false)
    }
  }

  /// Whether the RPC is over but our direction is still open.
  var needsReset: Bool {
    self.state.withLock { $0.end != nil && !$0.outboundEnded }
  }

  /// `n` bytes have been put into frames.
  func drained(_ n: Int) -> [Waiter] {
    self.state.withLock { state in
      state.buffered -= n
      guard state.buffered <= self.lowWater, !state.writers.isEmpty else { return [] }
      let waiters = state.writers.map(\.waiter)
      state.writers = []
      return waiters
    }
  }

  /// The stream is over; `error` is for those to whom it is not the regular end.
  func fail(_ error: RPCError) -> [Waiter] {
    var cancellation: ServerContext.RPCCancellationHandle?
    let waiters = self.state.withLock { state -> [Waiter] in
      if !state.outboundEnded {
        cancellation = state.cancellation
        state.isCancelled = true
      }
      return Self.close(&state, error, inbound: true)
    }
    cancellation?.cancel()
    return waiters
  }

  private static func close(_ state: inout State, _ error: RPCError, inbound: Bool) -> [Waiter] {
    if state.closed == nil { state.closed = error }
    if inbound && state.end == nil { state.end = .failed(error) }
    ch2_chain_clear(&state.work.body)
    var waiters = state.writers.map(\.waiter)
    state.writers = []
    if let reader = state.reader, Self.isReadable(state) {
      waiters.append(reader)
      state.reader = nil
    }
    return waiters
  }
}

// MARK: - The server handler's cancellation

extension StreamCore {
  func setCancellation(_ handle: ServerContext.RPCCancellationHandle) {
    let cancelled = self.state.withLock { state -> Bool in
      state.cancellation = handle
      return state.isCancelled
    }
    if cancelled { handle.cancel() }
  }

  /// Tells the handler that it should come to an end, without touching the stream.
  func cancelHandler() {
    let handle = self.state.withLock { state -> ServerContext.RPCCancellationHandle? in
      state.isCancelled = true
      return state.cancellation
    }
    handle?.cancel()
  }
}

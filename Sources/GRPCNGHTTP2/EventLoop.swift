internal import CHTTP2
internal import GRPCCore
internal import Glibc
internal import Synchronization

/// Something the loop waits for.
protocol LoopSource: AnyObject {
  /// The descriptor named by the source's token is ready: a set of `CH2_READABLE`… flags.
  func ready(_ events: UInt32)
  /// Does what is due at `now` (ns, monotonic) and says when to ask again.
  func check(now: UInt64) -> UInt64
}

/// The role (client or server) whose connections a loop runs.
protocol LoopRole: AnyObject {
  /// The stream has something to do.
  func serve(_ core: StreamCore)
}

/// The one thread that owns a transport's sockets and HTTP/2 sessions.
///
/// Other threads reach it only through the mailbox, which costs them a lock and, when the loop is
/// asleep, one wake. Everything in one turn of the loop (mail, socket input, timers) is done before
/// any output is sent and before any task is resumed, so that both go out in bulk.
final class EventLoop: @unchecked Sendable {
  typealias Task = @Sendable () -> Void

  private struct Mailbox {
    var streams: [StreamCore] = []
    var tasks: [Task] = []
    var isSleeping = false
    var isClosed = false
  }

  private static let bufferBytes = 256 * 1024

  private static let sleepMs: Int32 = 1000

  private let poller: OpaquePointer
  private let mailbox = Mutex(Mailbox())
  private let turnCount = Atomic<UInt64>(0)
  private let heardAt = Atomic<UInt64>(ch2_now_ns())
  private let isAskedLess = Atomic<Bool>(false)

  // Of the loop's thread only.
  private var sources: [UInt64: any LoopSource] = [:]
  private var lastToken: UInt64 = 0
  private var dirty: [Connection] = []
  private var waiters: [StreamCore.Waiter] = []
  private var nextCheck = UInt64.max
  private var isStopping = false
  private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private(set) var now: UInt64 = 0
  /// No deadline that arises later can be nearer than this, ns: how long sources need not be asked.
  var checkInterval: UInt64 = 1_000_000_000
  private var role: (any LoopRole)?

  init() throws {
    var poller: OpaquePointer?
    let result = ch2_poller_new(&poller)
    guard result == 0, let poller else {
      throw RPCError(
        code: .unavailable,
        message: "The transport could not create its event queue: \(Errno(result)).")
    }
    self.poller = poller
  }

  deinit {
    ch2_poller_free(self.poller)
  }

  // MARK: From any thread

  /// Grows at least once a second while the thread lives and is not stuck.
  var turns: UInt64 { self.turnCount.load(ordering: .relaxed) }

  /// Since something came by any connection, or since there is a loop; ns. Nil: the peer is asked less often than
  /// it should be.
  var silence: UInt64? {
    if self.isAskedLess.load(ordering: .relaxed) { return nil }
    let (now, heardAt) = (ch2_now_ns(), self.heardAt.load(ordering: .relaxed))
    return now > heardAt ? now - heardAt : 0
  }

  /// Starts the thread. `role` and the loop live until ``stop()`` has been called and done; then
  /// `onEnd` is.
  func start(name: String, role: any LoopRole, onEnd: @escaping Task) throws {
    self.role = role
    try Thread.start(name: name) {
      self.run()
      onEnd()
    }
  }

  func post(_ core: StreamCore) {
    let wake = self.mailbox.withLock { mailbox -> Bool in
      if mailbox.isClosed { return false }
      mailbox.streams.append(core)
      defer { mailbox.isSleeping = false }
      return mailbox.isSleeping
    }
    if wake { ch2_poller_wake(self.poller) }
  }

  /// Runs `task` on the loop's thread; never when the loop has ended.
  func post(_ task: @escaping Task) {
    let wake = self.mailbox.withLock { mailbox -> Bool in
      if mailbox.isClosed { return false }
      mailbox.tasks.append(task)
      defer { mailbox.isSleeping = false }
      return mailbox.isSleeping
    }
    if wake { ch2_poller_wake(self.poller) }
  }

  // MARK: On the loop's thread

  func stop() {
    self.isStopping = true
  }

  func asksLess(_ isSo: Bool) { self.isAskedLess.store(isSo, ordering: .relaxed) }

  func heard() { self.heardAt.store(self.now, ordering: .relaxed) }

  /// Waits for a descriptor. - Returns: the token, or nil when the system refuses.
  func add(_ source: any LoopSource, fd: Int32, events: UInt32) -> UInt64? {
    self.lastToken += 1
    guard ch2_poller_add(self.poller, fd, self.lastToken, events) == 0 else { return nil }
    self.sources[self.lastToken] = source
    self.checkBy(self.now + self.checkInterval)
    return self.lastToken
  }

  /// A source with deadlines but no descriptor.
  func add(_ source: any LoopSource) -> UInt64 {
    self.lastToken += 1
    self.sources[self.lastToken] = source
    self.checkBy(self.now + self.checkInterval)
    return self.lastToken
  }

  func modify(_ token: UInt64, fd: Int32, events: UInt32) {
    _ = ch2_poller_modify(self.poller, fd, token, events)
  }

  /// Before the descriptor is closed; nil for a source without one.
  func remove(_ token: UInt64, fd: Int32?) {
    if let fd { _ = ch2_poller_remove(self.poller, fd) }
    self.sources[token] = nil
  }

  /// Asks all sources for their deadlines no later than at `time`.
  func checkBy(_ time: UInt64) {
    self.nextCheck = min(self.nextCheck, time)
  }

  func flushLater(_ connection: Connection) {
    self.dirty.append(connection)
  }

  func resumeLater(_ waiter: StreamCore.Waiter?) {
    if let waiter { self.waiters.append(waiter) }
  }

  func resumeLater(_ waiters: [StreamCore.Waiter]) {
    if !waiters.isEmpty { self.waiters.append(contentsOf: waiters) }
  }

  /// Where sockets are read into, valid until the next read.
  var readBuffer: UnsafeMutableRawBufferPointer { self.buffer }

  private func run() {
    self.buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
    var ready = [CH2Ready](repeating: CH2Ready(), count: 256)
    self.now = ch2_now_ns()
    while !self.isStopping {
      self.turnCount.add(1, ordering: .relaxed)
      self.takeMail()
      self.now = ch2_now_ns()
      if self.now >= self.nextCheck { self.checkSources() }
      self.sendAndResume()
      if self.isStopping { break }

      let n = ch2_poller_wait(self.poller, &ready, ready.count, self.timeout())
      self.mailbox.withLock { $0.isSleeping = false }
      self.now = ch2_now_ns()
      if n < 0 { break }
      for i in 0..<Int(n) {
        self.sources[ready[i].token]?.ready(ready[i].events)
      }
    }
    self.sendAndResume()
    self.end()
  }

  /// How long to sleep: not at all when there is mail, and at most a second, so that whoever watches
  /// `turns` sees that this thread lives.
  private func timeout() -> Int32 {
    let hasMail = self.mailbox.withLock { mailbox -> Bool in
      let hasMail = !mailbox.streams.isEmpty || !mailbox.tasks.isEmpty
      mailbox.isSleeping = !hasMail
      return hasMail
    }
    if hasMail { return 0 }
    let now = ch2_now_ns()
    if self.nextCheck <= now { return 0 }
    return min(Self.sleepMs, Int32(clamping: (self.nextCheck - now) / 1_000_000 + 1))
  }

  private func takeMail() {
    let (streams, tasks) = self.mailbox.withLock { mailbox in
      let mail = (mailbox.streams, mailbox.tasks)
      mailbox.streams = []
      mailbox.tasks = []
      return mail
    }
    for task in tasks { task() }
    for stream in streams { self.role?.serve(stream) }
  }

  private func checkSources() {
    // Deadlines a few milliseconds apart are served together.
    let soonest = self.now + 2_000_000
    self.nextCheck = .max
    var next = self.sources.isEmpty ? UInt64.max : self.now + self.checkInterval
    for source in Array(self.sources.values) {
      next = min(next, source.check(now: self.now))
    }
    self.nextCheck = max(soonest, min(self.nextCheck, next))
  }

  private func sendAndResume() {
    while !self.dirty.isEmpty {
      let connections = self.dirty
      self.dirty = []
      for connection in connections { connection.flush() }
    }
    guard !self.waiters.isEmpty else { return }
    let waiters = self.waiters
    self.waiters.removeAll(keepingCapacity: true)
    for waiter in waiters { waiter.resume() }
  }

  private func end() {
    let streams = self.mailbox.withLock { mailbox -> [StreamCore] in
      mailbox.isClosed = true
      mailbox.tasks = []
      defer { mailbox.streams = [] }
      return mailbox.streams
    }
    let error = RPCError(code: .unavailable, message: "The transport has ended.")
    for stream in streams where stream.connection == nil {
      self.resumeLater(stream.fail(error))
    }
    self.sendAndResume()
    self.sources = [:]
    self.role = nil
    self.buffer.deallocate()
  }
}

/// A system error in words.
struct Errno: CustomStringConvertible {
  let code: Int32

  /// `result` is -errno, as the C side returns it.
  init(_ result: some BinaryInteger) {
    self.code = Int32(clamping: -Int64(result))
  }

  var description: String {
    var text = [CChar](repeating: 0, count: 128)
    ch2_error_text(self.code, &text, text.count)
    return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}

/// A detached thread of the system. `name` is at most 15 bytes.
enum Thread {
  private final class Body {
    let name: String
    let run: @Sendable () -> Void
    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  static func start(name: String, _ body: @escaping @Sendable () -> Void) throws {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Body(name, body))
    let result = pthread_create(
      &thread, &attributes,
      { context in
        let body = Unmanaged<Body>.fromOpaque(context!).takeRetainedValue()
        ch2_enter_thread(body.name)
        body.run()
        return nil
      }, context.toOpaque())
    guard result == 0 else {
      context.release()
      throw RPCError(
        code: .unavailable, message: "The transport could not start a thread: \(Errno(-result)).")
    }
  }
}

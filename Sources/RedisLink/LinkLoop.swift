internal import CSystem
internal import Glibc
internal import Synchronization

/// What a loop carries: the pipeline of a link, or the subscriptions of a subscriber. All calls
/// come from the loop's thread.
protocol LinkDriver: AnyObject, SendableMetatype {
  associatedtype Item: Sendable
  /// When `expire` wants to be asked, besides after every event.
  var wakeAt: UInt64 { get }
  /// Whether a command waits for its reply under a deadline of its own.
  var isBusy: Bool { get }
  /// Payloads of messages longer than this are left out.
  var payloadBytesMax: Int { get }

  func accept(_ items: [Item], at now: UInt64)
  /// The connection is there and empty.
  func rise(at now: UInt64)
  /// The connection is gone; the socket had taken `sent` bytes of it.
  func fall(_ failure: RedisFailure, sent: UInt64, at now: UInt64)
  func fill(_ out: inout OutputBuffer, at now: UInt64)
  func ping(_ out: inout OutputBuffer)
  func receive(_ value: RedisValue, oversizeBytes: Int, at now: UInt64) throws(RedisFailure)
  /// Gives up what is overdue; the failure if the connection must go with it.
  func expire(at now: UInt64) -> RedisFailure?
  /// Everything received so far was handed over.
  func flush()
  func changed(_ state: RedisLinkState, at now: UInt64)
}

/// What the owner of a loop sees of it from other threads.
final class LoopStatus: Sendable {
  private let stored = Mutex(
    RedisLinkState.down(.notYetConnected, since: boottimeNow(), attempts: 0))
  private let turnCount = Atomic<UInt64>(0)

  var state: RedisLinkState { stored.withLock { $0 } }
  var turns: UInt64 { turnCount.load(ordering: .relaxed) }

  fileprivate func set(_ state: RedisLinkState) { stored.withLock { $0 = state } }
  fileprivate func turn() { turnCount.add(1, ordering: .relaxed) }
}

/// The shell around `LinkMachine`: one thread, one socket, one epoll. Does what the machine directs
/// and tells it what happened.
final class LinkLoop<Driver: LinkDriver> {
  private let url: RedisURL
  private let options: RedisConnectionOptions
  private let scripts: [RedisScript]
  private let mailbox: Mailbox<Driver.Item>
  private let status: LoopStatus
  private let driver: Driver
  private let epoll: Int32

  private var machine: LinkMachine
  private var greeting: Greeting
  private var isResolving = false
  private var candidates: [csys_address] = []
  private var rotation = 0
  private var socket: Int32 = -1
  private var isConnected = false
  private var interest: UInt32 = 0
  private var out = OutputBuffer()
  private var reader: ReplyReader?
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
  private let events = UnsafeMutableBufferPointer<csys_event>.allocate(capacity: 2)

  init(
    url: RedisURL, options: RedisConnectionOptions, scripts: [RedisScript],
    mailbox: Mailbox<Driver.Item>, status: LoopStatus, driver: Driver
  ) throws(RedisFailure) {
    self.url = url
    self.options = options
    self.scripts = scripts
    self.mailbox = mailbox
    self.status = status
    self.driver = driver
    greeting = Greeting(url: url, clientName: "", scripts: [])
    var seed: UInt64 = 0
    if csys_random_fill(&seed, MemoryLayout.size(ofValue: seed)) < 0 { seed = boottimeNow() }
    machine = LinkMachine(timing: LinkMachine.Timing(options), seed: seed)
    epoll = csys_epoll_new()
    if epoll < 0 { throw .system(doing: "making an epoll", errno: -epoll) }
    let result = csys_epoll_set(epoll, mailbox.bell, CSYS_READABLE, bellTag)
    if result < 0 {
      csys_fd_close(epoll)
      throw .system(doing: "watching an eventfd", errno: -result)
    }
  }

  deinit {
    csys_fd_close(socket)
    csys_fd_close(epoll)
    input.deallocate()
    events.deallocate()
  }

  /// Starts the thread, to which the loop then belongs until the mailbox was closed and everything
  /// was told.
  func start() throws(RedisFailure) {
    nonisolated(unsafe) let loop = self
    try startThread(options.threadName) { loop.run() }
  }

  private func run() {
    step(.start, at: boottimeNow())
    while turn() {}
  }

  private func turn() -> Bool {
    status.turn()
    let now = boottimeNow()
    let mail = mailbox.take()
    if let resolved = mail.resolved { take(resolved, at: now) }
    if !mail.items.isEmpty { driver.accept(mail.items, at: now) }
    if mail.isClosing {
      step(.close, at: now)
      driver.flush()
      return false
    }
    // What waits to be read may be the very thing whose absence is about to be judged: this thread
    // may have slept, too.
    if isConnected, min(machine.wakeAt, driver.wakeAt) <= now { receive(at: now) }
    step(.wake(busy: driver.isBusy), at: now)
    if let failure = driver.expire(at: now) { step(.failed(failure), at: now) }
    if machine.isUp { driver.fill(&out, at: now) }
    send(at: now)
    driver.flush()
    sleep(since: now)
    return true
  }

  /// At most a second, so that whoever watches `turns` sees that this thread lives.
  private func sleep(since now: UInt64) {
    let until = min(machine.wakeAt, driver.wakeAt, now.plus(1_000_000_000))
    let pause = mailbox.prepareToSleep() && until > now ? until - now : 0
    let count = csys_epoll_wait(epoll, events.baseAddress!, events.count, Int64(pause))
    for index in 0..<max(0, Int(count)) { handle(events[index]) }
  }

  private func handle(_ event: csys_event) {
    if event.tag == bellTag {
      csys_bell_clear(mailbox.bell)
    } else if socket >= 0, !isConnected {
      finishConnecting(at: boottimeNow())
    } else if socket >= 0, event.what & ~CSYS_WRITABLE != 0 {
      receive(at: boottimeNow())
    }
  }

  // MARK: The machine's directives

  private func step(_ event: LinkMachine.Event, at now: UInt64) {
    for directive in machine.step(event, at: now) {
      switch directive {
      case .connect: connect(at: now)
      case .greet: greet(at: now)
      case .disconnect(let failure): disconnect(failure, at: now)
      case .ping: driver.ping(&out)
      case .report(let state):
        status.set(state)
        if case .up = state { driver.rise(at: now) }
        driver.changed(state, at: now)
      }
    }
  }

  private func connect(at now: UInt64) {
    candidates = []
    if let resolution = Resolver.numeric(url) { return take(resolution, at: now) }
    // A resolver that outlasted the attempt it was started for serves the next one.
    if isResolving { return }
    do throws(RedisFailure) {
      try Resolver.start(url) { [mailbox] in mailbox.post($0) }
      isResolving = true
    } catch {
      step(.failed(error), at: now)
    }
  }

  private func take(_ resolution: Resolution, at now: UInt64) {
    isResolving = false
    guard machine.isConnecting, socket < 0 else { return }
    switch resolution {
    case .failed(let failure): step(.failed(failure), at: now)
    case .addresses(let addresses):
      // After an attempt that ran out of time another address goes first.
      let first = rotation % addresses.count
      candidates = Array(addresses[first...] + addresses[..<first])
      connectNext(because: nil, at: now)
    }
  }

  private func connectNext(because failure: RedisFailure?, at now: UInt64) {
    var failure = failure
    while !candidates.isEmpty {
      var address = candidates.removeFirst()
      let result = csys_socket_connect(&address)
      if result >= 0 {
        socket = result
        interest = 0
        return watch(CSYS_WRITABLE)
      }
      failure = .system(doing: "connecting to \(url.host):\(url.port)", errno: -result)
    }
    if let failure { step(.failed(failure), at: now) }
  }

  private func finishConnecting(at now: UInt64) {
    let result = csys_socket_error(socket)
    if result == 0 { return step(.connected, at: now) }
    socket = csys_fd_close(socket)
    connectNext(
      because: .system(doing: "connecting to \(url.host):\(url.port)", errno: -result), at: now)
  }

  private func greet(at now: UInt64) {
    isConnected = true
    rotation = 0
    // The kernel's own probes, for what no PING can find out sooner; best effort.
    let idle = Int32(clamping: max(1, options.pingAfter.components.seconds))
    csys_socket_keepalive(socket, idle, max(1, idle / 3), 3)
    out = OutputBuffer()
    greeting = Greeting(url: url, clientName: options.clientName, scripts: scripts)
    do throws(RedisFailure) {
      reader = try ReplyReader(
        bytesMax: options.replyBytesMax, elementsMax: options.replyElementsMax,
        payloadBytesMax: driver.payloadBytesMax)
    } catch {
      return step(.failed(error), at: now)
    }
    out.append(greeting.wire)
    send(at: now)
  }

  private func disconnect(_ failure: RedisFailure, at now: UInt64) {
    if !isConnected, failure == .timeout { rotation += 1 }
    socket = csys_fd_close(socket)
    isConnected = false
    candidates = []
    reader = nil
    let sent = out.sent
    out = OutputBuffer()
    driver.fall(failure, sent: sent, at: now)
  }

  // MARK: The socket

  private func watch(_ wanted: UInt32) {
    if wanted == interest { return }
    interest = wanted
    // Only for want of memory can this fail; the connection's timeouts then end it.
    csys_epoll_set(epoll, socket, wanted, socketTag)
  }

  private func send(at now: UInt64) {
    guard isConnected else { return }
    do throws(RedisFailure) {
      try out.flush(to: socket)
      watch(out.unsent > 0 ? CSYS_READABLE | CSYS_WRITABLE : CSYS_READABLE)
    } catch {
      // The reason the server gave may wait to be read.
      receive(at: now)
      step(.failed(error), at: now)
    }
  }

  private func receive(at now: UInt64) {
    do throws(RedisFailure) {
      // Some pieces, then others get their turn: epoll tells again of what is left.
      for _ in 0..<16 where socket >= 0 {
        let count = csys_socket_receive(socket, input.baseAddress!, input.count)
        if count == -Int(EAGAIN) { break }
        if count < 0 { throw .system(doing: "receiving", errno: Int32(-count)) }
        if count == 0 { throw .closedByPeer }
        step(.heard, at: now)
        try digest(count, at: now)
        if count < input.count { break }
      }
    } catch {
      driver.flush()
      step(.failed(error), at: now)
    }
  }

  private func digest(_ count: Int, at now: UInt64) throws(RedisFailure) {
    guard let reader else { return }
    try reader.feed(UnsafeRawBufferPointer(start: input.baseAddress, count: count))
    while self.reader === reader, let value = try reader.next() {
      if machine.isUp {
        try driver.receive(value, oversizeBytes: reader.oversizeBytes, at: now)
        continue
      }
      switch greeting.judge(value) {
      case .more: break
      case .done: step(.greeted, at: now)
      case .refused(let failure): throw failure
      }
    }
  }
}

private let bellTag: UInt64 = 0
private let socketTag: UInt64 = 1

extension LinkMachine.Timing {
  init(_ options: RedisConnectionOptions) {
    self.init(
      connectTimeout: options.connectTimeout.clampedNanoseconds,
      backOffFirst: options.backOffFirst.clampedNanoseconds,
      backOffMost: options.backOffMost.clampedNanoseconds,
      pingAfter: options.pingAfter.clampedNanoseconds,
      pingTimeout: options.pingTimeout.clampedNanoseconds)
  }
}

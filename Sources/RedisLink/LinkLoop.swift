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
  /// Whether what is said has replies that tell when the server is the wrong one.
  var hasCommands: Bool { get }
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
  /// The reply is that the server has turned the command away.
  func turnAway(because failure: RedisFailure) throws(RedisFailure)
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

/// The shell around `LinkMachine`: one thread, one connection, one epoll, and beside the connection
/// those to the sentinels, or to nodes of a cluster, if it is they who know the server. Does what the
/// machine directs and tells it what happened.
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
  /// Whence the server saw the last connection come.
  private var cameFrom: String?
  private let wire: Wire
  /// Finds the server, where it is not always the same.
  private let watch: (any ServerFinder)?
  /// Where we were sent, if we were not there yet.
  private var ordered: RedisAddress?
  /// Of a cluster, what the server is to serve.
  private let slot: RedisSlot?
  /// It does not, and is left once it has answered what was sent: nothing is written to it any more.
  private var redirection: Redirection?
  /// Where the wire leads, and what was last found to be no master or not there.
  private var current: RedisAddress?
  private var rejected: RedisAddress?
  private var isUp = false
  private var hasHeard = false
  private var out = OutputBuffer()
  private var reader: ReplyReader?
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
  private let events: UnsafeMutableBufferPointer<csys_event>

  init(
    url: RedisURL, options: RedisConnectionOptions, scripts: [RedisScript],
    tls: TLSSource?, mailbox: Mailbox<Driver.Item>, status: LoopStatus, driver: Driver
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
    let epoll = csys_epoll_new()
    self.epoll = epoll
    if epoll < 0 { throw .system(doing: "making an epoll", errno: -epoll) }
    func makeWire(_ tag: UInt64) -> Wire {
      Wire(tag: tag, epoll: epoll, tls: tls) { (address) throws(RedisFailure) in
        try Resolver.start(address) { mailbox.post($0, for: tag) }
      }
    }
    wire = makeWire(linkTag)
    var lines = 0
    switch url.place {
    case .server: (watch, slot) = (nil, nil)
    case .sentinels(let place):
      watch = SentinelWatch(
        place, options: options, seed: ~seed, firstTag: linkTag + 1, wire: makeWire)
      slot = nil
      lines = place.addresses.count
    case .cluster(let place):
      let slot = RedisSlot(ofKey: options.slotKey ?? "")
      watch = ClusterWatch(
        place, slot: slot, url: url, options: options, looksAround: !driver.hasCommands,
        seed: ~seed, firstTag: linkTag + 1, wire: makeWire)
      self.slot = slot
      lines = ClusterMachine.linesMax
    }
    events = .allocate(capacity: 2 + lines)
    let result = csys_epoll_set(epoll, mailbox.bell, CSYS_READABLE, bellTag)
    if result < 0 { throw .system(doing: "watching an eventfd", errno: -result) }
    // What is wrong with the files at the start is the caller's to know at once.
    try tls?.load()
  }

  deinit {
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
    let now = boottimeNow()
    watch?.start(at: now)
    step(.start, at: now)
    while turn() {}
  }

  private func turn() -> Bool {
    status.turn()
    let now = boottimeNow()
    let mail = mailbox.take()
    for (tag, resolution) in mail.resolved {
      if tag != linkTag {
        watch?.resolved(tag, resolution, at: now)
      } else {
        attempt(at: now) { () throws(RedisFailure) in try wire.resolved(resolution) }
      }
    }
    if !mail.items.isEmpty { driver.accept(mail.items, at: now) }
    if mail.isClosing {
      step(.close, at: now)
      watch?.close(at: now)
      driver.flush()
      return false
    }
    // What waits to be read may be the very thing whose absence is about to be judged: this thread
    // may have slept, too. And TLS holds what the socket no longer tells of.
    if wire.isOpen, wire.hasInput || min(machine.wakeAt, driver.wakeAt) <= now { receive(at: now) }
    if wire.isShaking, machine.wakeAt <= now { step(.failed(stalledHandshake), at: now) }
    step(.wake(busy: driver.isBusy), at: now)
    if let watch, watch.wakeAt <= now || watch.hasInput { watch.wake(at: now) }
    settle(at: now)
    if let failure = driver.expire(at: now) { step(.failed(failure), at: now) }
    if machine.isUp, redirection == nil { driver.fill(&out, at: now) }
    send(at: now)
    driver.flush()
    sleep(since: now)
    return true
  }

  /// At most a second, so that whoever watches `turns` sees that this thread lives.
  private func sleep(since now: UInt64) {
    let until = min(
      machine.wakeAt, driver.wakeAt, watch?.wakeAt ?? .max, now.plus(1_000_000_000))
    let hasInput = wire.hasInput || watch?.hasInput == true
    let mayRest = mailbox.prepareToSleep() && until > now && !hasInput
    let count = csys_epoll_wait(
      epoll, events.baseAddress!, events.count, mayRest ? Int64(until - now) : 0)
    for index in 0..<max(0, Int(count)) { handle(events[index]) }
    settle(at: boottimeNow())
  }

  /// Goes where others say, after all that epoll told at a time was handled: see `ServerFinder`.
  private func settle(at now: UInt64) {
    if let redirection, !driver.isBusy {
      switch redirection {
      case .moved(let address):
        ordered = address
        step(.moved, at: now)
      case .refused(let error): step(.failed(.refused(error)), at: now)
      }
    }
    while let finding = watch?.nextFinding() {
      switch finding {
      case .found(let address):
        if machine.isConnecting, current == nil { open(address, at: now) }
      case .lost(let failure):
        if machine.isConnecting, current == nil { step(.failed(failure), at: now) }
      case .follow(let address):
        ordered = address
        step(.moved, at: now)
      }
    }
  }

  private func handle(_ event: csys_event) {
    let now = boottimeNow()
    if event.tag == bellTag {
      csys_bell_clear(mailbox.bell)
    } else if event.tag != linkTag {
      watch?.handle(event.tag, at: now)
    } else if !wire.isOpen {
      attempt(at: now) { () throws(RedisFailure) in
        if try wire.advance() { step(.connected, at: now) }
      }
    } else if wire.isTLS || event.what & ~CSYS_WRITABLE != 0 {
      receive(at: now)
    }
  }

  private func attempt(at now: UInt64, _ body: () throws(RedisFailure) -> Void) {
    do throws(RedisFailure) {
      try body()
    } catch {
      step(.failed(error), at: now)
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
        if case .up = state {
          isUp = true
          driver.rise(at: now)
        }
        driver.changed(state, at: now)
      }
    }
  }

  private func connect(at now: UInt64) {
    switch url.place {
    case .server(let address): open(address, at: now)
    case .sentinels, .cluster:
      guard let address = ordered else { return watch!.find(avoiding: rejected, at: now) }
      ordered = nil
      watch!.aim(at: address, now: now)
      open(address, at: now)
    }
  }

  private func open(_ address: RedisAddress, at now: UInt64) {
    current = address
    attempt(at: now) { () throws(RedisFailure) in try wire.open(address) }
  }

  private func greet(at now: UInt64) {
    wire.keepAlive(idleSeconds: Int32(clamping: max(1, options.pingAfter.components.seconds)))
    out = OutputBuffer()
    hasHeard = false
    greeting = Greeting(
      url: url, clientName: options.clientName, scripts: scripts, listens: !driver.hasCommands,
      former: cameFrom)
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
    wire.close(isLate: failure == .timeout)
    watch?.giveUp(at: now)
    // One that was up and is gone may be back at once; one that may not serve will not be.
    rejected = isUp && !failure.condemnsServer ? nil : current
    redirection = nil
    current = nil
    isUp = false
    reader = nil
    let sent = out.sent
    out = OutputBuffer()
    driver.fall(failure, sent: sent, at: now)
  }

  // MARK: The connection

  private func send(at now: UInt64) {
    guard wire.isOpen else { return }
    do throws(RedisFailure) {
      try out.flush(to: wire)
      wire.watch(hasOutput: out.unsent > 0)
    } catch {
      // The reason the server gave may wait to be read.
      receive(at: now)
      step(.failed(error), at: now)
    }
  }

  private func receive(at now: UInt64) {
    do throws(RedisFailure) {
      // Some pieces, then others get their turn: epoll tells again of what is left.
      for _ in 0..<16 where wire.isOpen {
        let count = try wire.receive(into: input)
        if count == 0 { break }
        hasHeard = true
        step(.heard, at: now)
        try digest(count, at: now)
        if !wire.isTLS, count < input.count { break }
      }
      if wire.isOpen { wire.watch(hasOutput: out.unsent > 0) }
    } catch {
      driver.flush()
      let isUnheard = machine.isGreeting && !hasHeard && !wire.isTLS
      step(.failed(isUnheard && error.isHangup ? .closedUnheard : error), at: now)
    }
  }

  private func digest(_ count: Int, at now: UInt64) throws(RedisFailure) {
    guard let reader else { return }
    // A TLS alert: what a TLS port says to a plain client.
    if machine.isGreeting, !wire.isTLS, input[0] == 0x15 { throw unwantedTLS }
    try reader.feed(UnsafeRawBufferPointer(start: input.baseAddress, count: count))
    while self.reader === reader, let value = try reader.next() {
      if machine.isUp {
        if let slot, case .error(let error) = value,
          let new = Redirection(error, slot: slot, at: current)
        {
          try driver.turnAway(because: new.failure)
          if redirection == nil || new.failure == .moved { redirection = new }
          continue
        }
        try driver.receive(value, oversizeBytes: reader.oversizeBytes, at: now)
        // A master that was demoted: those who know may be slower to say so.
        if watch != nil, case .error(let error) = value, error.code == "READONLY" {
          throw .notMaster("it takes no writes")
        }
        continue
      }
      switch greeting.judge(value) {
      case .more: break
      case .done:
        cameFrom = greeting.address
        step(.greeted, at: now)
      case .refused(let failure): throw failure
      }
    }
  }
}

extension RedisFailure {
  /// Whether the server itself says that others are to be looked for.
  fileprivate var condemnsServer: Bool {
    switch self {
    case .notMaster: true
    case .refused(let error): error.code == "CLUSTERDOWN"
    default: false
    }
  }

  fileprivate var isHangup: Bool {
    switch self {
    case .closedByPeer, .system(_, ECONNRESET): true
    default: false
    }
  }
}

private let bellTag: UInt64 = 0
private let linkTag: UInt64 = 1

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

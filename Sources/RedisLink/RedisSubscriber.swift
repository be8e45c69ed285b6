internal import Synchronization

/// A connection that listens on many channels, and on all of them again after every loss.
///
/// The wanted channels are kept here; a new connection (`generation`) starts by subscribing to all
/// of them, in chunks. What was published while the connection was away, or before a channel was
/// confirmed, is gone: pub/sub delivers at most once.
///
/// With sentinels it listens at the master, and follows it. With a cluster it listens at the master
/// of a slot, since what is published at any node all of them tell; about every `pingAfter` it asks
/// others for the slot's master, and goes there when most of them name another.
///
/// A half-open connection is found by PING, within `pingAfter + pingTimeout` of the last byte. The next
/// one has the server end it (CLIENT KILL, from 6.2 on, if it is allowed to), so that it is not counted
/// among those who hear what is published.
/// Closed by `close()` or with its last reference.
public final class RedisSubscriber: Sendable {
  private let mailbox: Mailbox<[SubscriptionChange]>
  private let status = LoopStatus()
  private let shared = SubscriberShared()
  private let channelsMax: Int
  private let tls: TLSSource?

  /// Starts the subscriber's thread, which connects at once.
  ///
  /// Both callbacks come on that thread and must not block: while they do, nothing is received, and
  /// a server whose output buffer for us overflows closes the connection. `onMessages` gets all
  /// that one turn of the loop has read, in order. `onStatus` is called when the connection comes
  /// or goes and when changes were confirmed.
  ///
  /// Throws `RedisOptionsError`, or `RedisFailure` when thread or descriptors cannot be had.
  public init(
    _ url: RedisURL, options: RedisSubscriberOptions = RedisSubscriberOptions(),
    onMessages: @escaping @Sendable ([RedisMessage]) -> Void,
    onStatus: @escaping @Sendable (RedisSubscriberStatus) -> Void = { _ in }
  ) throws {
    try options.check(for: url)
    channelsMax = options.channelsMax
    tls = url.tls.map(TLSSource.init)
    mailbox = try Mailbox(countMax: .max, bytesMax: .max)
    let driver = SubscriptionDriver(
      options: options, shared: shared, onMessages: onMessages, onStatus: onStatus)
    try LinkLoop(
      url: url, options: options.connection, scripts: [], tls: tls, mailbox: mailbox,
      status: status, driver: driver
    ).start()
  }

  deinit {
    mailbox.close()
  }

  /// Wants these channels, besides those wanted already. Returns the number of the change: it is in
  /// force once `confirmedRevision` has reached it. Throws `.full` beyond `channelsMax` (nothing is
  /// changed then), `.closed` after `close()`.
  @discardableResult
  public func subscribe(_ channels: some Sequence<[UInt8]>) throws(RedisFailure) -> UInt64 {
    try shared.change(mailbox) { (desired) throws(RedisFailure) in
      try desired.subscribe(channels, max: channelsMax)
    }
  }

  /// Wants these channels no more. Messages under way may still come.
  @discardableResult
  public func unsubscribe(_ channels: some Sequence<[UInt8]>) throws(RedisFailure) -> UInt64 {
    try shared.change(mailbox) { $0.unsubscribe(channels) }
  }

  public var currentStatus: RedisSubscriberStatus { shared.status(link: status.state) }

  /// Grows at least once a second while the subscriber's thread lives: for a watchdog.
  public var turns: UInt64 { status.turns }

  /// Reads the files of TLS for the connections to come, and disconnects nobody. Any thread; BLOCKS on
  /// the disk. Throws what is wrong with them, and goes on with the former ones then.
  public func renewTLS() throws(RedisFailure) { try tls?.renew() }

  public func close() {
    mailbox.close()
  }
}

/// What callers and the loop both touch.
private final class SubscriberShared: Sendable {
  private let desired = Mutex(DesiredChannels())
  private let last = Mutex(RedisSubscriberStatus(link: .closed))

  /// One lock around change and posting, so that changes are posted in the order of their numbers.
  func change(
    _ mailbox: Mailbox<[SubscriptionChange]>,
    _ body: (inout DesiredChannels) throws(RedisFailure) -> [SubscriptionChange]
  ) throws(RedisFailure) -> UInt64 {
    try desired.withLock { (desired) throws(RedisFailure) in
      if mailbox.isClosing { throw .closed }
      let changes = try body(&desired)
      if !changes.isEmpty { try mailbox.put(changes, count: 0, bytes: 0) }
      return desired.revision
    }
  }

  var snapshot: DesiredChannels { desired.withLock { $0 } }

  func status(link: RedisLinkState) -> RedisSubscriberStatus {
    var status = last.withLock { $0 }
    status.desired = desired.withLock { $0.channels.count }
    if status.link == .closed { status.link = link }
    return status
  }

  func set(_ status: RedisSubscriberStatus) {
    last.withLock { $0 = status }
  }
}

/// The subscriber's part of the loop.
private final class SubscriptionDriver: LinkDriver {
  private let shared: SubscriberShared
  private let onMessages: @Sendable ([RedisMessage]) -> Void
  private let onStatus: @Sendable (RedisSubscriberStatus) -> Void
  private let confirmTimeout: UInt64

  private var flow: SubscriptionFlow
  private var confirmUntil = UInt64.max
  private var pingsSent = 0
  private var messages: [RedisMessage] = []
  private var told = RedisSubscriberStatus(
    link: .down(.notYetConnected, since: boottimeNow(), attempts: 0))
  private var current: RedisSubscriberStatus

  let payloadBytesMax: Int
  let isBusy = false
  let hasCommands = false

  init(
    options: RedisSubscriberOptions, shared: SubscriberShared,
    onMessages: @escaping @Sendable ([RedisMessage]) -> Void,
    onStatus: @escaping @Sendable (RedisSubscriberStatus) -> Void
  ) {
    self.shared = shared
    self.onMessages = onMessages
    self.onStatus = onStatus
    confirmTimeout = options.confirmTimeout.clampedNanoseconds
    payloadBytesMax = options.payloadBytesMax
    flow = SubscriptionFlow(
      chunkChannels: options.chunkChannels, chunksInFlight: options.chunksInFlight)
    current = told
    shared.set(told)
  }

  var wakeAt: UInt64 { confirmUntil }

  func accept(_ items: [[SubscriptionChange]], at now: UInt64) {
    for changes in items { flow.add(changes) }
  }

  func rise(at now: UInt64) {
    pingsSent = 0
    flow.restart(with: shared.snapshot)
  }

  func fall(_ failure: RedisFailure, sent: UInt64, at now: UInt64) {
    flow.lose()
    confirmUntil = .max
  }

  func fill(_ out: inout OutputBuffer, at now: UInt64) {
    while out.unsent < 256 << 10, let command = flow.nextCommand() {
      out.append(command.wire)
      if confirmUntil == .max { confirmUntil = now.plus(confirmTimeout) }
    }
  }

  func ping(_ out: inout OutputBuffer) {
    pingsSent += 1
    out.append(pingCommand.wire)
  }

  func expire(at now: UInt64) -> RedisFailure? { confirmUntil <= now ? .timeout : nil }

  func receive(_ value: RedisValue, oversizeBytes: Int, at now: UInt64) throws(RedisFailure) {
    switch value {
    case .array(let parts) where parts.count >= 2:
      guard case .bytes(let kind) = parts[0], case .bytes(let channel) = parts[1] else { break }
      if kind == Kind.message, parts.count == 3, case .bytes(let payload) = parts[2] {
        return take(channel, payload, oversizeBytes: oversizeBytes)
      }
      if kind == Kind.subscribe { return try confirm(.subscribe, channel, at: now) }
      if kind == Kind.unsubscribe { return try confirm(.unsubscribe, channel, at: now) }
      if kind == Kind.pong, pingsSent > 0 {
        pingsSent -= 1
        return
      }
    case .status("PONG") where pingsSent > 0:
      pingsSent -= 1
      return
    case .error(let error): throw .refused(error)
    default: break
    }
    throw .protocolViolation("\(value.summary) on a connection for messages")
  }

  /// Nothing that is said here has a key.
  func turnAway(because failure: RedisFailure) throws(RedisFailure) { throw failure }

  private func take(_ channel: [UInt8], _ payload: [UInt8], oversizeBytes: Int) {
    if oversizeBytes > 0 { current.oversizeMessages += 1 }
    messages.append(
      RedisMessage(
        channel: channel, payload: payload, payloadByteCount: max(payload.count, oversizeBytes)))
  }

  private func confirm(
    _ kind: SubscriptionChange.Kind, _ channel: [UInt8], at now: UInt64
  ) throws(RedisFailure) {
    try flow.confirm(kind, channel)
    confirmUntil = flow.isConfirming ? now.plus(confirmTimeout) : .max
  }

  func flush() {
    current.subscribed = flow.subscribed
    current.confirmedRevision = flow.confirmedRevision
    current.isComplete = flow.isComplete
    shared.set(current)
    if !messages.isEmpty {
      let batch = messages
      messages = []
      onMessages(batch)
    }
    if current.link != told.link || current.confirmedRevision != told.confirmedRevision
      || current.isComplete != told.isComplete
    {
      told = current
      onStatus(shared.status(link: current.link))
    }
  }

  func changed(_ state: RedisLinkState, at now: UInt64) {
    if case .up(_, let generation) = state { current.generation = generation }
    // Each state is told, also one that lasts for less than a turn.
    flush()
    current.link = state
    flush()
  }

  private enum Kind {
    static let message = Array("message".utf8)
    static let subscribe = Array("subscribe".utf8)
    static let unsubscribe = Array("unsubscribe".utf8)
    static let pong = Array("pong".utf8)
  }
}

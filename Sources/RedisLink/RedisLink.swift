/// A pipelined connection to one Redis server, to whichever the sentinels hold for the master, or to
/// whichever node of a cluster serves the link's slot, which comes back by itself.
///
/// Commands are handed over from any thread, written in that order, and answered in it. One thread
/// and one socket a link, and within it a connection to each sentinel, or to some nodes of a cluster
/// while they are asked; nothing of one link waits for another. What must not wait behind anything,
/// as leases, has a `RedisLink` of its own, with times of its own (`RedisLinkOptions`).
///
/// Every command ends exactly once: with its reply, or within its timeout with an error that tells
/// whether it may have been carried out (`RedisError`). A command that was written and not answered
/// in time costs the connection, because the order of replies is lost with it: the others in flight
/// then end with `.unknown(.abandoned)`, and those not yet sent wait for the next connection.
///
/// Commands that a node of a cluster has turned away, which it then has not carried out, go back
/// among those not yet sent, ahead of them and in their order (`RedisError.notSent`). Those that
/// were sent behind them are answered first, if they name no key of the slot. A transaction goes as
/// one batch, of which the link never repeats a part.
///
/// Closed by `close()` or with its last reference.
public final class RedisLink: Sendable {
  private let mailbox: Mailbox<Submission>
  private let status = LoopStatus()
  private let commandTimeout: UInt64
  private let tls: TLSSource?

  /// Starts the link's thread, which connects at once. `onState` is called on that thread at every
  /// change, and once for each failed attempt; like every callback here it must not block.
  ///
  /// Throws `RedisOptionsError`, or `RedisFailure` when thread or descriptors cannot be had. A
  /// server that is not there is no error.
  public init(
    _ url: RedisURL, options: RedisLinkOptions = RedisLinkOptions(),
    onState: @escaping @Sendable (RedisLinkState) -> Void = { _ in }
  ) throws {
    try options.check(for: url)
    commandTimeout = options.commandTimeout.clampedNanoseconds
    tls = url.tls.map(TLSSource.init)
    mailbox = try Mailbox(countMax: options.commandsMax, bytesMax: options.commandBytesMax)
    let driver = PipelineDriver(mailbox: mailbox, whenDown: options.whenDown, onState: onState)
    try LinkLoop(
      url: url, options: options.connection, scripts: options.scripts, tls: tls, mailbox: mailbox,
      status: status, driver: driver
    ).start()
  }

  deinit {
    mailbox.close()
  }

  /// What is known of the connection now.
  public var state: RedisLinkState { status.state }

  /// Grows at least once a second while the link's thread lives: for a watchdog.
  public var turns: UInt64 { status.turns }

  /// Reads the files of TLS for the connections to come, and disconnects nobody. Any thread; BLOCKS on
  /// the disk. Throws what is wrong with them, and goes on with the former ones then.
  public func renewTLS() throws(RedisFailure) { try tls?.renew() }

  /// Ends the link. Commands in flight end with `.unknown(.closed)`, waiting ones with
  /// `.notSent(.closed)`, on the link's thread.
  public func close() {
    mailbox.close()
  }

  // MARK: For those who wait

  /// Sends a command and waits for its reply, up to `timeout` (nil: the link's). A task that is
  /// cancelled already sends nothing; one cancelled later still waits for the outcome.
  public func send(
    _ command: RedisCommand, timeout: Duration? = nil
  ) async throws(RedisError) -> RedisValue {
    let deadline = deadline(timeout)
    return try await waitForOne { (tell) throws(RedisError) in
      try self.submit(command, deadline: deadline, then: tell)
    }
  }

  /// Sends commands one behind the other, nothing between them, and waits for all replies: one
  /// result for each, in order. Throws only when none was sent.
  public func send(
    _ commands: [RedisCommand], timeout: Duration? = nil
  ) async throws(RedisError) -> [Result<RedisValue, RedisError>] {
    if commands.isEmpty { return [] }
    if Task.isCancelled { throw .notSent(.cancelled) }
    let deadline = deadline(timeout)
    let outcome = await withCheckedContinuation {
      (
        continuation: CheckedContinuation<
          Result<[Result<RedisValue, RedisError>], RedisError>, Never
        >
      )
      in
      do throws(RedisError) {
        try submit(commands, deadline: deadline) { continuation.resume(returning: .success($0)) }
      } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    return try outcome.get()
  }

  // MARK: For those who do not

  /// Hands over a command. `tell` is called once, on the link's thread. Throws, and never calls it,
  /// when the command is refused at once: `.notSent(.full)` or `.notSent(.closed)`.
  public func submit(
    _ command: RedisCommand, timeout: Duration? = nil,
    then tell: @escaping @Sendable (Result<RedisValue, RedisError>) -> Void
  ) throws(RedisError) {
    try submit(command, deadline: deadline(timeout), then: tell)
  }

  /// Hands over commands that go one behind the other. `tell` gets one result for each, in order,
  /// once all are there. An empty batch is told at once, on the caller's thread.
  public func submit(
    _ commands: [RedisCommand], timeout: Duration? = nil,
    then tell: @escaping @Sendable ([Result<RedisValue, RedisError>]) -> Void
  ) throws(RedisError) {
    try submit(commands, deadline: deadline(timeout), then: tell)
  }

  func deadline(_ timeout: Duration?) -> UInt64 {
    boottimeNow().plus(timeout?.clampedNanoseconds ?? commandTimeout)
  }

  func submit(
    _ command: RedisCommand, deadline: UInt64,
    then tell: @escaping @Sendable (Result<RedisValue, RedisError>) -> Void
  ) throws(RedisError) {
    try put(Submission(commands: .one(command), deadline: deadline, completion: .one(tell)))
  }

  func submit(
    _ commands: [RedisCommand], deadline: UInt64,
    then tell: @escaping @Sendable ([Result<RedisValue, RedisError>]) -> Void
  ) throws(RedisError) {
    if commands.isEmpty { return tell([]) }
    try put(Submission(commands: .several(commands), deadline: deadline, completion: .all(tell)))
  }

  private func put(_ submission: Submission) throws(RedisError) {
    do throws(RedisFailure) {
      try mailbox.put(submission, count: submission.count, bytes: submission.byteCount)
    } catch {
      throw .notSent(error)
    }
  }

  func waitForOne(
    _ start: (@escaping @Sendable (Result<RedisValue, RedisError>) -> Void) throws(RedisError) ->
      Void
  ) async throws(RedisError) -> RedisValue {
    if Task.isCancelled { throw .notSent(.cancelled) }
    let result = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<RedisValue, RedisError>, Never>) in
      do throws(RedisError) {
        try start { continuation.resume(returning: $0) }
      } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    return try result.get()
  }
}

/// The link's part of the loop: moves submissions through the pipeline and tells their ends.
private final class PipelineDriver: LinkDriver {
  private let mailbox: Mailbox<Submission>
  private let whenDown: RedisWhenDown
  private let onState: @Sendable (RedisLinkState) -> Void
  private var pipeline = Pipeline()
  private var failure: RedisFailure? = .notYetConnected

  let payloadBytesMax = Int.max
  let hasCommands = true

  init(
    mailbox: Mailbox<Submission>, whenDown: RedisWhenDown,
    onState: @escaping @Sendable (RedisLinkState) -> Void
  ) {
    self.mailbox = mailbox
    self.whenDown = whenDown
    self.onState = onState
  }

  var wakeAt: UInt64 { pipeline.wakeAt }
  var isBusy: Bool { pipeline.isBusy }

  func accept(_ items: [Submission], at now: UInt64) {
    for submission in items { pipeline.add(submission) }
    failWaitingIfDown()
  }

  func rise(at now: UInt64) { failure = nil }

  func fall(_ failure: RedisFailure, sent: UInt64, at now: UInt64) {
    end(pipeline.lose(sent: sent, because: failure, at: now))
    self.failure = failure
    failWaitingIfDown()
  }

  private func failWaitingIfDown() {
    // The way to where a server has sent us is short, or ends with another failure.
    if whenDown == .fail, let failure, failure != .moved {
      end(pipeline.failWaiting(because: failure))
    }
  }

  func fill(_ out: inout OutputBuffer, at now: UInt64) {
    pipeline.fill(&out, room: 256 << 10)
  }

  func ping(_ out: inout OutputBuffer) { pipeline.ping(&out) }

  func receive(_ value: RedisValue, oversizeBytes: Int, at now: UInt64) throws(RedisFailure) {
    if let completed = try pipeline.match(value) { end(completed) }
  }

  func turnAway(because failure: RedisFailure) throws(RedisFailure) {
    if let completed = try pipeline.turnAway(because: failure) { end(completed) }
  }

  func expire(at now: UInt64) -> RedisFailure? {
    end(pipeline.expireWaiting(at: now, because: failure ?? .timeout))
    return pipeline.isOverdue(at: now) ? .timeout : nil
  }

  func flush() {}

  func changed(_ state: RedisLinkState, at now: UInt64) {
    if state == .closed { end(pipeline.failWaiting(because: .closed)) }
    onState(state)
  }

  private func end(_ list: [Completed]) {
    for completed in list { end(completed) }
  }

  private func end(_ completed: Completed) {
    if case .ping = completed.submission.completion { return }
    // Before it is told, because whoever hears of it may hand over the next one.
    mailbox.release(count: completed.submission.count, bytes: completed.submission.byteCount)
    completed.tell()
  }
}

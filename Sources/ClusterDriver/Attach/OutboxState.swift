/// Up to which record of a connection's log a message reaches: what may be acknowledged to the
/// controller once the vendor app has the message on disk.
struct AckCursor: Sendable, Equatable {
  var connection: UInt64
  var serial: UInt64
  /// Under which the events were sent up.
  var ownerEpoch: UInt64
  var logEpoch: UInt32
  /// Events it stands for.
  var events: UInt32 = 1
  var seq: UInt64
}

/// The numbered messages the vendor app has not acknowledged, in order, and which of them the present
/// stream has been given.
///
/// A value: it reads no clock and does no I/O. Numbers begin at 1 and have no holes.
///
/// Invariants: `firstNumber` … `nextNumber` − 1 are retained; of these, the ones below `nextToSend`
/// were given to the present stream; nothing at or above `sentEver` + 1 was given to any.
struct OutboxState: Sendable {
  struct Message: Sendable {
    var bytes: [UInt8]
    /// Empty for anything but events.
    var cursors: [AckCursor]
    /// Events inside; 0 = a message of another kind.
    var events: Int
    /// Command results inside.
    var results = 0
    /// Since when there are some that nobody else has; nil: there are none.
    var onlyHereSince: ContinuousClock.Instant?
    /// When the oldest of its events was read from its controller.
    var readAt: ContinuousClock.Instant?

    /// What it costs to keep, in bytes.
    var cost: Int {
      self.bytes.count + self.cursors.count * MemoryLayout<AckCursor>.stride + 96
    }
  }

  /// Of a serial whose events the vendor app refused for a too low owner epoch.
  struct Refusal: Sendable, Equatable {
    var serial: UInt64
    var epochSeen: UInt64
    /// The message that was refused.
    var number: UInt64
  }

  struct Acknowledgement: Sendable, Equatable {
    /// What may be acknowledged to the controllers.
    var cursors: [AckCursor] = []
    /// Sessions with refused events. They get no acknowledgement any more: they have to begin again,
    /// under a higher epoch.
    var refusedSessions: [UInt64] = []
    /// Events that are not stored, or must not be acknowledged for one that is not.
    var refusedEvents = 0
    /// Messages and events that are done with.
    var messages = 0
    var events = 0
    /// Of each message with events: how many, and when the oldest was read.
    var readings: [Reading] = []

    struct Reading: Sendable, Equatable {
      var events: Int
      var readAt: ContinuousClock.Instant
    }
  }

  enum AckError: Error, Equatable {
    /// The vendor app acknowledged what it was never sent.
    case aheadOfSent(through: UInt64, sent: UInt64)
  }

  /// Bytes that may be retained; see `isFull`.
  var bytesMax: Int
  private(set) var firstNumber: UInt64 = 1
  private(set) var sentEver: UInt64 = 0
  private(set) var bytes = 0
  private(set) var events = 0
  private(set) var results = 0
  /// Messages and events given to a stream for the first time, and messages given again.
  private(set) var sentMessages: UInt64 = 0
  private(set) var sentEvents: UInt64 = 0
  private(set) var repeatedMessages: UInt64 = 0
  private var nextToSend: UInt64 = 1
  private var messages = Queue<Message>()
  private var hintBytes = 0
  private var pausedUntil: ContinuousClock.Instant?
  /// Connections with a session, by their handles, and those among them that were refused something.
  private var sessions: Set<UInt64> = []
  private var barred: Set<UInt64> = []

  init(bytesMax: Int) {
    self.bytesMax = bytesMax
  }

  /// The number the next message will have.
  var nextNumber: UInt64 { self.firstNumber + UInt64(self.messages.count) }
  var isEmpty: Bool { self.messages.isEmpty }
  var count: Int { self.messages.count }

  /// The bound that holds now: the node's own, or the vendor app's if that is lower.
  var limit: Int { self.hintBytes == 0 ? self.bytesMax : min(self.bytesMax, self.hintBytes) }

  /// No further events are to be taken. One message may always be under way, however low the limit.
  var isFull: Bool { !self.isEmpty && self.bytes >= self.limit }

  /// Room enough again to go on taking; lower than the limit, so that the taker is not woken for
  /// every single message that leaves.
  var hasRoom: Bool { self.isEmpty || self.bytes < self.limit - self.limit / 4 }

  /// So much is retained that nothing that can be refused is to be added. Results and statuses are
  /// few and always retained; this bound is for whatever makes them.
  var isOverfull: Bool { self.bytes >= self.bytesMax * 2 }

  /// The messages with results, in order, as they are sent.
  var resultMessages: [[UInt8]] {
    (0..<self.messages.count).lazy.map { self.messages[$0] }.filter { $0.results > 0 }.map(\.bytes)
  }

  /// Messages with results that nobody else has had since that instant, or longer, the oldest first: at least
  /// one if there is any, then as many as fit into `bytesMax`.
  func onlyHere(since: ContinuousClock.Instant, bytesMax: Int) -> [(number: UInt64, bytes: [UInt8])]
  {
    guard self.results > 0 else { return [] }
    var found: [(number: UInt64, bytes: [UInt8])] = []
    var size = 0
    for place in 0..<self.messages.count {
      let message = self.messages[place]
      guard let at = message.onlyHereSince, at <= since else { continue }
      size += message.bytes.count
      if !found.isEmpty && size > bytesMax { break }
      found.append((number: self.firstNumber + UInt64(place), bytes: message.bytes))
    }
    return found
  }

  /// Somebody else has the results of these messages, too.
  mutating func copied(_ numbers: [UInt64]) {
    for number in numbers where number >= self.firstNumber {
      self.messages[Int(number - self.firstNumber)].onlyHereSince = nil
    }
  }

  /// Retains a message that carries `nextNumber`.
  mutating func append(_ message: Message) {
    self.bytes += message.cost
    self.events += message.events
    self.results += message.results
    self.messages.append(message)
  }

  /// A new stream begins: everything retained goes again, in order. Returns the first number of it.
  mutating func begin() -> UInt64 {
    self.nextToSend = self.firstNumber
    return self.firstNumber
  }

  /// What to send next, in order: at least one message if there is any, then as many as fit into
  /// `bytesMax`. Empty when there is none, or when events are paused and one is next.
  mutating func takeUnsent(bytesMax: Int, at now: ContinuousClock.Instant) -> [[UInt8]] {
    let end = self.nextNumber
    guard self.nextToSend < end else { return [] }
    let paused = self.isPaused(at: now)
    var batch: [[UInt8]] = []
    var size = 0
    while self.nextToSend < end {
      let message = self.messages[Int(self.nextToSend - self.firstNumber)]
      if paused && message.events > 0 { break }
      if !batch.isEmpty && size + message.bytes.count > bytesMax { break }
      batch.append(message.bytes)
      size += message.bytes.count
      if self.nextToSend > self.sentEver {
        self.sentMessages += 1
        self.sentEvents += UInt64(message.events)
      } else {
        self.repeatedMessages += 1
      }
      self.nextToSend += 1
    }
    self.sentEver = max(self.sentEver, self.nextToSend - 1)
    return batch
  }

  /// Whether `takeUnsent` would have something.
  func hasUnsent(at now: ContinuousClock.Instant) -> Bool {
    guard self.nextToSend < self.nextNumber else { return false }
    return self.messages[Int(self.nextToSend - self.firstNumber)].events == 0
      || !self.isPaused(at: now)
  }

  /// Everything up to and including `through` is on disk, but for what `refusals` names.
  ///
  /// A session with a refused event gets no acknowledgement any more: acknowledgements are
  /// cumulative, so that one for a later record would cover the refused one too. A later session of
  /// the same controller, under an epoch that is high enough, gets its own.
  mutating func acknowledge(
    through: UInt64, refusals: [Refusal] = []
  ) -> Result<Acknowledgement, AckError> {
    guard through <= self.sentEver else {
      return .failure(.aheadOfSent(through: through, sent: self.sentEver))
    }
    var result = Acknowledgement()
    while self.firstNumber <= through, let message = self.messages.popFirst() {
      self.settle(message.cursors, refusals: refusals, into: &result)
      self.firstNumber += 1
      self.bytes -= message.cost
      self.events -= message.events
      self.results -= message.results
      if let readAt = message.readAt {
        result.readings.append(
          Acknowledgement.Reading(events: message.events, readAt: readAt))
      }
      result.messages += 1
      result.events += message.events
    }
    self.nextToSend = max(self.nextToSend, self.firstNumber)
    return .success(result)
  }

  private mutating func settle(
    _ cursors: [AckCursor], refusals: [Refusal], into result: inout Acknowledgement
  ) {
    guard !refusals.isEmpty || !self.barred.isEmpty else {
      result.cursors += cursors
      return
    }
    for cursor in cursors {
      if self.barred.contains(cursor.connection) {
        result.refusedEvents += Int(cursor.events)
      } else if refusals.contains(where: {
        $0.serial == cursor.serial && $0.number <= self.firstNumber
          && cursor.ownerEpoch < $0.epochSeen
      }) {
        result.refusedEvents += Int(cursor.events)
        // Of a session that is over nothing can be acknowledged anyway.
        if self.sessions.contains(cursor.connection) {
          self.barred.insert(cursor.connection)
          result.refusedSessions.append(cursor.connection)
        }
      } else {
        result.cursors.append(cursor)
      }
    }
  }

  /// A session began; nothing of it was appended yet.
  mutating func begin(session connection: UInt64) {
    self.sessions.insert(connection)
  }

  /// A session is over; everything of it was appended.
  mutating func end(session connection: UInt64) {
    self.sessions.remove(connection)
    self.barred.remove(connection)
  }

  /// What the vendor app would like. `bytesMax` 0 = the node's own bound.
  mutating func hint(
    bytesMax: UInt64, pause: Duration, at now: ContinuousClock.Instant
  ) {
    self.hintBytes = Int(clamping: bytesMax)
    self.pausedUntil = pause > .zero ? now.advanced(by: min(pause, .seconds(60))) : nil
  }

  func isPaused(at now: ContinuousClock.Instant) -> Bool {
    guard let until = self.pausedUntil else { return false }
    return now < until
  }

  /// When a pause ends that is still on.
  func resumesAt(after now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
    self.isPaused(at: now) ? self.pausedUntil : nil
  }
}

import Election

/// What becomes of the letters (commands in the durable mailbox) of the serials this node acts for.
///
/// A value stepped by (event, now); the directives are carried out in order, and before the next event
/// is given. Letters stay in Redis: a node keeps a few words of each controller that has some (*box*),
/// and those letters that are under way. A letter that may be carried out goes this way:
///
/// - *opened*: read, and in the same instant marked in Redis as perhaps sent, when its controller is here;
/// - *given* to the command pipeline, in the order of posting; it comes back when its controller has gone.
///   How far a list has come is noted in Redis meanwhile, and the pipeline told when it is;
/// - *decided*: its result is written into Redis, where the first one stays, whoever says another;
/// - *sent* to the vendor app, which acknowledges it; and only then
/// - *removed*.
///
/// So a node may die between any two of these: the next owner opens what is there, and finds by the mark
/// whether the controller may know the command (it answers a repeated id from its memory) or what its
/// result is. A letter whose deadline passes before it is opened is expired; one with the mark of an
/// owner that is gone is offline: it may have been carried out.
///
/// Invariant: an id in `tracked` is in exactly one stage, and leaves it by an event or with its range.
struct MailboxMachine: Sendable {
  struct Settings: Sendable, Equatable {
    /// Letters of one controller that are with the pipeline at a time.
    var givenMax = 32
    /// Letters under way in all; beyond it no box is opened.
    var trackedMax = 8192
    var callsMax = 8
    /// Of one call: controllers whose letters are read, letters that are looked at without being given
    /// (of one controller), letters that are decided or removed, texts that are scanned.
    var boxesPerCall = 16
    var lookPage = 64
    var lettersPerCall = 128
    var scanPage = 256
    var scansMax = 16
    /// A letter without a deadline waits so long for its controller.
    var keep: Duration = .seconds(7 * 86_400)
    /// What a lost bell would hide is found by then.
    var scanEvery: Duration = .seconds(60)
    /// A letter that came back is given again after this, if its controller is here.
    var retryAfter: Duration = .seconds(1)
    /// After a call that failed; doubles up to the second.
    var pauseFirst: Duration = .milliseconds(100)
    var pauseMost: Duration = .seconds(2)
  }

  enum Event: Sendable, Equatable {
    /// The ranges to act for, by first serial.
    case acting([OwnedRange])
    /// The bell is heard from now on; what rang before was not.
    case listening
    /// Something was posted for these.
    case rang([UInt64])
    case sessions([SessionChange])
    case replied(UInt64, MailboxReply)
    case pipeline(LetterEnd)
    /// The results of these went to the vendor app in the message of that number.
    case sent([CommandID], message: UInt64)
    /// The vendor app has all messages up to this one.
    case acked(through: UInt64)
    case tick
    /// Nothing more is opened; what is under way goes on to its end.
    case stop
  }

  enum Directive: Sendable, Equatable {
    case call(UInt64, MailboxCall)
    /// To the pipeline, in order, all for one controller.
    case give([ControllerCommand])
    /// To the pipeline: what is done of lists is noted.
    case noted([CommandID], done: [Int])
    /// To the vendor app in one message, each in the wire form; answer with `sent`.
    case send([CommandID], [[UInt8]])
    /// For the log.
    case complain(String, serial: UInt64)
  }

  struct Counts: Sendable, Equatable {
    var given: UInt64 = 0
    var putBack: UInt64 = 0
    var decided: UInt64 = 0
    var removed: UInt64 = 0
    /// Letters that are no commands.
    var malformed: UInt64 = 0
    var calls: UInt64 = 0
    var callsFailed: UInt64 = 0
    /// Controllers with letters, and letters under way, now.
    var boxes: UInt64 = 0
    var tracked: UInt64 = 0
  }

  enum Stage: Sendable, Equatable {
    case given
    case deciding([UInt8])
    /// Decided, and on its way into a message.
    case leaving
    case sent
    case removing
  }

  struct Tracked: Sendable {
    var letter: Letter
    var stage: Stage
  }

  /// Of a controller that has letters which are not under way, or some with the pipeline.
  struct Box: Sendable {
    /// With the pipeline, in the order they were given.
    var given: [CommandID] = []
    /// Some came back, or were read and not given: none behind them is given before all is read again.
    var isReturned = false
    /// All letters up to these numbers were read: to be given, and to be looked at.
    var givenThrough: UInt64 = 0
    var seenThrough: UInt64 = 0
    /// How the last reading was done, if it was cut short.
    var goesOn: Reading?
    var isQueued = false
    /// The call that reads it.
    var opening: UInt64?
    /// Asked for while it was being opened.
    var isWanted = false
    /// Letters were seen that have not been given.
    var hasWaiting = false
    /// The time to read all of it again, for a deadline or for another try; ms UTC.
    var dueMs: UInt64 = .max

    enum Reading: Sendable { case give, look }

    var isIdle: Bool {
      self.given.isEmpty && !self.hasWaiting && self.goesOn == nil && !self.isQueued
        && self.opening == nil
        && !self.isWanted
    }
  }

  let settings: Settings
  var acting: [OwnedRange] = []
  /// The newest session of each controller that is connected.
  var sessions: [UInt64: UInt64] = [:]
  var boxes: [UInt64: Box] = [:]
  var tracked: [CommandID: Tracked] = [:]
  var isStopping = false
  var counts = Counts()

  /// What is to be asked: boxes to open, in order; results to decide; what is to be noted of lists; texts to
  /// remove; serials to scan.
  var toOpen = Queue<UInt64>()
  var toDecide = Queue<CommandID>()
  var toNote: [CommandID: Int] = [:]
  var toRemove = Queue<CommandID>()
  var junk: [[UInt8]] = []
  var toScan: [MailboxScan] = []
  /// Ids by the message they were sent in.
  var unacked = Queue<(message: UInt64, ids: [CommandID])>()
  var calls: [UInt64: MailboxCall] = [:]
  var callNumber: UInt64 = 0
  var pausedUntil: ContinuousClock.Instant?
  var failures = 0
  var scanAt: ContinuousClock.Instant?
  /// The earliest `dueMs` there may be.
  var dueMs: UInt64 = .max

  init(settings: Settings = Settings()) {
    self.settings = settings
  }

  /// No letter is between its controller and its removal.
  var isIdle: Bool { self.tracked.isEmpty }

  /// When `tick` is due; nil: not before something happens.
  func wakeAt(_ now: Moment) -> ContinuousClock.Instant? {
    var at = self.dueMs == .max ? nil : now.uptime(atUTC: self.dueMs)
    if let paused = self.pausedUntil { at = min(at ?? paused, paused) }
    if let scan = self.scanAt { at = min(at ?? scan, scan) }
    return at
  }

  mutating func step(_ event: Event, at now: Moment) -> [Directive] {
    var directives: [Directive] = []
    switch event {
    case .acting(let ranges):
      self.act(for: ranges)
      if self.scanAt == nil { self.scanAt = now.uptime.advanced(by: self.settings.scanEvery) }
    case .listening: self.scanAll(at: now.uptime)
    case .rang(let serials):
      for serial in serials where self.range(of: serial) != nil { self.want(serial) }
    case .sessions(let changes): self.take(changes)
    case .replied(let number, let reply):
      self.replied(number, reply, at: now, into: &directives)
    case .pipeline(.ended(let result)): self.ended(result)
    case .pipeline(.putBack(let id)): self.putBack(id, at: now)
    case .pipeline(.came(let id, let done)): self.toNote[id] = done
    case .sent(let ids, let message):
      for id in ids where self.tracked[id]?.stage == .leaving { self.tracked[id]!.stage = .sent }
      self.unacked.append((message: message, ids: ids))
    case .acked(let through): self.acked(through: through)
    case .tick: break
    case .stop: self.isStopping = true
    }
    self.lookAtTime(now)
    self.ask(at: now.uptime, into: &directives)
    self.counts.boxes = UInt64(self.boxes.count)
    self.counts.tracked = UInt64(self.tracked.count)
    return directives
  }

  // MARK: What is this node's

  func range(of serial: UInt64) -> OwnedRange? {
    var low = 0
    var high = self.acting.count
    while low < high {
      let middle = (low + high) / 2
      if self.acting[middle].last.rawValue < serial { low = middle + 1 } else { high = middle }
    }
    guard low < self.acting.count, self.acting[low].first.rawValue <= serial else { return nil }
    return self.acting[low]
  }

  private mutating func act(for ranges: [OwnedRange]) {
    let (ended, begun) = OwnedRange.changes(from: self.acting, to: ranges)
    self.acting = ranges
    if !ended.isEmpty {
      self.boxes = self.boxes.filter { self.range(of: $0.key) != nil }
      // What is under way for others' controllers now is theirs to end.
      self.tracked = self.tracked.filter { self.range(of: $0.value.letter.serial) != nil }
    }
    for range in begun {
      let first = range.first.rawValue
      // Neighbours together.
      if let last = self.toScan.last, last.after.isEmpty, last.last &+ 1 == first {
        self.toScan[self.toScan.count - 1].last = range.last.rawValue
      } else {
        self.toScan.append(MailboxScan(first: first, last: range.last.rawValue))
      }
    }
    // Calls are rationed: of many ranges apart, whatever lies between them is read, too.
    if self.toScan.count > self.settings.scansMax, let first = ranges.first, let last = ranges.last
    {
      self.toScan = [MailboxScan(first: first.first.rawValue, last: last.last.rawValue)]
    }
  }

  /// Everything from the first serial to the last, whoever's: few calls, whatever the ranges are.
  private mutating func scanAll(at now: ContinuousClock.Instant) {
    self.scanAt = now.advanced(by: self.settings.scanEvery)
    guard let first = self.acting.first, let last = self.acting.last else { return }
    self.toScan = [MailboxScan(first: first.first.rawValue, last: last.last.rawValue)]
  }

  private mutating func take(_ changes: [SessionChange]) {
    for change in changes {
      if change.isConnected {
        self.sessions[change.serial] = change.connection
        if self.boxes[change.serial] != nil { self.want(change.serial) }
      } else if self.sessions[change.serial] == change.connection {
        self.sessions[change.serial] = nil
      }
    }
  }

  // MARK: Time

  private mutating func lookAtTime(_ now: Moment) {
    if let until = self.pausedUntil, until <= now.uptime { self.pausedUntil = nil }
    if let at = self.scanAt, at <= now.uptime {
      // Not beside one that is under way still.
      if self.toScan.isEmpty {
        self.scanAll(at: now.uptime)
      } else {
        self.scanAt = now.uptime.advanced(by: self.settings.scanEvery)
      }
    }
    guard self.dueMs <= now.utcMs else { return }
    self.dueMs = .max
    var due: [UInt64] = []
    for (serial, box) in self.boxes {
      if box.dueMs <= now.utcMs {
        due.append(serial)
      } else {
        self.dueMs = min(self.dueMs, box.dueMs)
      }
    }
    for serial in due.sorted() {
      self.boxes[serial]!.dueMs = .max
      self.boxes[serial]!.seenThrough = 0
      self.want(serial)
    }
  }

  mutating func due(_ serial: UInt64, atMs: UInt64) {
    guard let box = self.boxes[serial] else { return }
    self.boxes[serial]!.dueMs = min(box.dueMs, atMs)
    self.dueMs = min(self.dueMs, atMs)
  }

  /// Its letters are to be read as soon as can be.
  mutating func want(_ serial: UInt64) {
    var box = self.boxes[serial] ?? Box()
    if box.opening != nil {
      box.isWanted = true
    } else if !box.isQueued {
      box.isQueued = true
      box.isWanted = false
      self.toOpen.append(serial)
    }
    self.boxes[serial] = box
  }

  mutating func dropIfIdle(_ serial: UInt64) {
    if self.boxes[serial]?.isIdle == true { self.boxes[serial] = nil }
  }
}

import DriverProtocol
import Election

/// What Redis, the pipeline and the vendor app say about letters.
extension MailboxMachine {
  mutating func replied(
    _ number: UInt64, _ reply: MailboxReply, at now: Moment, into directives: inout [Directive]
  ) {
    guard let call = self.calls.removeValue(forKey: number) else { return }
    switch (call, reply) {
    case (.scan(let scan), .scanned(let texts)):
      self.scanned(scan, texts)
    case (.open(let openings, _), .opened(let letters, let read)):
      self.opened(openings, letters, read: read, by: number, at: now, into: &directives)
    case (.decide(let letters, let results, _), .decided(let decisions)):
      self.decided(letters, results, decisions, into: &directives)
    case (.note(let letters, let done, _), .noted):
      directives.append(.noted(letters.map(\.id), done: done))
    case (.remove(let texts, _), .removed):
      for text in texts {
        guard let id = Letter(text: text)?.id, self.tracked[id]?.stage == .removing else {
          continue
        }
        self.tracked[id] = nil
        self.counts.removed += 1
      }
    default:
      self.askAgain(number, call)
      self.counts.callsFailed += 1
      self.failures += 1
      let pause = self.settings.pauseFirst * (1 << min(self.failures - 1, 10))
      self.pausedUntil = now.uptime.advanced(by: min(pause, self.settings.pauseMost))
      return
    }
    self.failures = 0
  }

  private mutating func askAgain(_ number: UInt64, _ call: MailboxCall) {
    switch call {
    case .scan(let scan):
      self.toScan.insert(scan, at: 0)
    case .open(let openings, _):
      for opening in openings { self.notOpened(opening.serial, by: number) }
    case .decide(let letters, _, _):
      for letter in letters { self.toDecide.append(letter.id) }
    case .note(let letters, let done, _):
      for (letter, done) in zip(letters, done) {
        self.toNote[letter.id] = max(done, self.toNote[letter.id] ?? 0)
      }
    case .remove(let texts, _):
      for text in texts {
        if let id = Letter(text: text)?.id {
          self.toRemove.append(id)
        } else {
          self.junk.append(text)
        }
      }
    }
  }

  private mutating func notOpened(_ serial: UInt64, by number: UInt64) {
    // A box that was lost and found again meanwhile is another.
    guard self.boxes[serial]?.opening == number else { return }
    self.boxes[serial]!.opening = nil
    // What it held was not counted anew.
    self.boxes[serial]!.hasWaiting = true
    self.boxes[serial]!.seenThrough = 0
    self.want(serial)
  }

  // MARK: Finding

  private mutating func scanned(_ scan: MailboxScan, _ texts: [[UInt8]]) {
    for text in texts {
      guard let letter = Letter(text: text) else {
        self.discard(text)
        continue
      }
      guard self.range(of: letter.serial) != nil, self.tracked[letter.id] == nil else { continue }
      if let box = self.boxes[letter.serial], letter.number <= box.seenThrough { continue }
      self.want(letter.serial)
    }
    if texts.count >= self.settings.scanPage, let last = texts.last {
      self.toScan.insert(MailboxScan(first: scan.first, last: scan.last, after: last), at: 0)
    }
  }

  /// No letter: nobody can have a result for it.
  private mutating func discard(_ text: [UInt8]) {
    guard self.junk.count < self.settings.lettersPerCall, !self.junk.contains(text) else { return }
    self.junk.append(text)
    self.counts.malformed += 1
  }

  // MARK: Opening

  private mutating func opened(
    _ openings: [MailboxOpening], _ letters: [OpenedLetter], read: Int, by number: UInt64,
    at now: Moment,
    into directives: inout [Directive]
  ) {
    var bySerial: [UInt64: [(Letter, OpenedLetter)]] = [:]
    var isWhole = true
    for opened in letters {
      if let letter = Letter(text: opened.text) {
        bySerial[letter.serial, default: []].append((letter, opened))
      } else {
        self.discard(opened.text)
        isWhole = false
      }
    }
    var leaving = Leaving()
    for (place, opening) in openings.enumerated() {
      guard self.boxes[opening.serial]?.opening == number else { continue }
      if place < read {
        self.opened(
          opening, bySerial[opening.serial] ?? [], at: now, leaving: &leaving, into: &directives)
        // What is no letter has taken others' places in the page: again, when it is gone.
        if !isWhole { self.again(opening.serial, at: now) }
      } else {
        self.notOpened(opening.serial, by: number)
      }
    }
    leaving.close(into: &directives)
  }

  private mutating func opened(
    _ opening: MailboxOpening, _ letters: [(Letter, OpenedLetter)], at now: Moment,
    leaving: inout Leaving, into directives: inout [Directive]
  ) {
    let serial = opening.serial
    guard var box = self.boxes[serial] else { return }
    box.opening = nil
    let gives = opening.marks && self.sessions[serial] != nil && !box.isReturned
    var commands: [ControllerCommand] = []
    var nextMs = UInt64.max
    for (letter, opened) in letters where self.tracked[letter.id] == nil {
      if case .result(let result) = opened.mark {
        self.tracked[letter.id] = Tracked(letter: letter, stage: .leaving)
        leaving.append(letter.id, result)
        continue
      }
      switch self.judge(letter, opened, at: now) {
      case .over(let result):
        if result.reason == DriverReason.badCommand {
          self.counts.malformed += 1
          directives.append(.complain(result.detail, serial: serial))
        }
        self.tracked[letter.id] = Tracked(letter: letter, stage: .deciding(result.wireBytes))
        self.toDecide.append(letter.id)
      case .waits(let command, let untilMs):
        if gives {
          self.tracked[letter.id] = Tracked(letter: letter, stage: .given)
          box.given.append(letter.id)
          commands.append(command)
        } else {
          box.hasWaiting = true
          if opening.marks { box.isReturned = true }
          nextMs = min(nextMs, untilMs)
        }
      }
    }
    let through = letters.last?.0.number ?? opening.after
    if opening.marks { box.givenThrough = through }
    box.seenThrough = through
    box.goesOn =
      letters.count >= opening.count && opening.count > 0 ? (opening.marks ? .give : .look) : nil
    let isWanted = box.isWanted || box.goesOn != nil
    box.isWanted = false
    self.boxes[serial] = box
    self.due(serial, atMs: nextMs)
    if isWanted { self.want(serial) }
    self.dropIfIdle(serial)
    if !commands.isEmpty {
      self.counts.given += UInt64(commands.count)
      directives.append(.give(commands))
    }
  }

  private enum Judgement {
    case over(FinishedCommand)
    case waits(ControllerCommand, untilMs: UInt64)
  }

  private func judge(_ letter: Letter, _ opened: OpenedLetter, at now: Moment) -> Judgement {
    func over(_ status: CommandStatus, reason: UInt32 = 0, _ detail: String) -> Judgement {
      .over(
        FinishedCommand(
          id: letter.id, serial: letter.serial, door: .mailbox, status: status, reason: reason,
          detail: detail, atMs: now.utcMs, elapsedUs: 0))
    }
    if opened.body.isEmpty {
      return over(.refused, reason: DriverReason.badCommand, CommandDetail.noBody)
    }
    var command: ControllerCommand
    switch CommandPayload.decode(opened.body, channel: letter.serial, id: letter.id) {
    case .success(let decoded): command = decoded
    case .failure(let refusal):
      return over(.refused, reason: DriverReason.badCommand, refusal.detail)
    }
    if case .given(let done) = opened.mark {
      command.mayHaveBeenSent = true
      command.sequence?.resume(at: done)
    }
    if command.notAfterMs != 0 && command.notAfterMs <= now.utcMs {
      return command.mayHaveBeenSent
        ? over(.offline, CommandDetail.perhapsSent) : over(.expired, CommandDetail.expired)
    }
    let keptUntilMs = letter.postedAtMs &+ self.settings.keep.microseconds / 1000
    if keptUntilMs <= now.utcMs { return over(.offline, CommandDetail.keptForLong) }
    let untilMs = command.notAfterMs == 0 ? keptUntilMs : min(command.notAfterMs, keptUntilMs)
    return .waits(command, untilMs: untilMs)
  }

  // MARK: The pipeline

  mutating func ended(_ result: FinishedCommand) {
    guard let tracked = self.tracked[result.id], tracked.stage == .given else { return }
    self.tracked[result.id]!.stage = .deciding(result.wireBytes)
    self.toDecide.append(result.id)
    self.leftPipeline(tracked.letter)
    let serial = tracked.letter.serial
    guard let box = self.boxes[serial] else { return }
    let hasRoom =
      box.given.isEmpty || !box.isReturned && box.given.count <= self.settings.givenMax / 2
    if hasRoom, box.hasWaiting || box.goesOn != nil { self.want(serial) }
    self.dropIfIdle(serial)
  }

  /// It is given again after a while, or when its controller comes.
  mutating func putBack(_ id: CommandID, at now: Moment) {
    guard let tracked = self.tracked[id], tracked.stage == .given else { return }
    self.tracked[id] = nil
    self.counts.putBack += 1
    let serial = tracked.letter.serial
    guard self.boxes[serial] != nil else { return }
    self.boxes[serial]!.isReturned = true
    self.again(serial, at: now)
    self.leftPipeline(tracked.letter)
  }

  /// Its letters are read again after a while.
  private mutating func again(_ serial: UInt64, at now: Moment) {
    self.boxes[serial, default: Box()].hasWaiting = true
    self.due(serial, atMs: now.utcMs + self.settings.retryAfter.microseconds / 1000)
  }

  private mutating func leftPipeline(_ letter: Letter) {
    guard var box = self.boxes[letter.serial] else { return }
    if let place = box.given.firstIndex(of: letter.id) { box.given.remove(at: place) }
    self.boxes[letter.serial] = box
  }

  // MARK: Results

  private mutating func decided(
    _ letters: [Letter], _ results: [[UInt8]], _ decisions: [MailboxReply.Decision],
    into directives: inout [Directive]
  ) {
    var leaving = Leaving()
    for ((letter, result), decision) in zip(zip(letters, results), decisions) {
      guard case .deciding = self.tracked[letter.id]?.stage else { continue }
      switch decision {
      case .taken:
        self.counts.decided += 1
        self.tracked[letter.id]!.stage = .leaving
        leaving.append(letter.id, result)
      case .was(let former):
        self.tracked[letter.id]!.stage = .leaving
        leaving.append(letter.id, former)
      case .ended:
        self.tracked[letter.id] = nil
      case .gone:
        // Redis has lost it; nobody else can say how it ended.
        self.tracked[letter.id] = nil
        leaving.append(letter.id, result)
      }
    }
    leaving.close(into: &directives)
  }

  mutating func acked(through: UInt64) {
    while let first = self.unacked.first, first.message <= through {
      for id in first.ids where self.tracked[id]?.stage == .sent {
        self.tracked[id]!.stage = .removing
        self.toRemove.append(id)
      }
      _ = self.unacked.popFirst()
    }
  }

  /// Results that go in one message.
  private struct Leaving {
    var ids: [CommandID] = []
    var results: [[UInt8]] = []

    mutating func append(_ id: CommandID, _ result: [UInt8]) {
      self.ids.append(id)
      self.results.append(result)
    }

    func close(into directives: inout [Directive]) {
      if !self.ids.isEmpty { directives.append(.send(self.ids, self.results)) }
    }
  }
}

extension FinishedCommand {
  /// As a `CommandResult` in the wire format.
  var wireBytes: [UInt8] { Clusterdriver_V1_CommandResult(self).wireBytes() }
}

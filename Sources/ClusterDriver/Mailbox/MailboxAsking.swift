import Election

/// What the machine asks in Redis: never more than a few calls at a time, each for a few letters.
extension MailboxMachine {
  mutating func ask(at now: ContinuousClock.Instant, into directives: inout [Directive]) {
    guard self.pausedUntil == nil else { return }
    self.askDecisions(into: &directives)
    self.askNotes(into: &directives)
    self.askRemovals(into: &directives)
    guard !self.isStopping else { return }
    self.askOpenings(into: &directives)
    while self.hasRoomToAsk, !self.toScan.isEmpty, self.toOpen.count < self.settings.trackedMax {
      self.call(.scan(self.toScan.removeFirst()), into: &directives)
    }
  }

  private var hasRoomToAsk: Bool { self.calls.count < self.settings.callsMax }

  private mutating func call(_ call: MailboxCall, into directives: inout [Directive]) {
    self.callNumber += 1
    self.counts.calls += 1
    self.calls[self.callNumber] = call
    directives.append(.call(self.callNumber, call))
  }

  private mutating func askDecisions(into directives: inout [Directive]) {
    for (range, ids) in self.take(from: \.toDecide) {
      var letters: [Letter] = []
      var results: [[UInt8]] = []
      for id in ids {
        guard let tracked = self.tracked[id], case .deciding(let result) = tracked.stage else {
          continue
        }
        letters.append(tracked.letter)
        results.append(result)
      }
      if !letters.isEmpty {
        self.call(.decide(letters, results: results, by: range), into: &directives)
      }
    }
  }

  private mutating func askNotes(into directives: inout [Directive]) {
    // One that has ended meanwhile has its result to be decided.
    self.toNote = self.toNote.filter { self.tracked[$0.key]?.stage == .given }
    while self.hasRoomToAsk, let id = self.toNote.keys.first, let first = self.tracked[id]?.letter,
      let range = self.range(of: first.serial)
    {
      let letters = self.toNote.keys.compactMap { self.tracked[$0]?.letter }
        .filter { self.range(of: $0.serial) == range }.prefix(self.settings.lettersPerCall)
      let done = letters.map { self.toNote.removeValue(forKey: $0.id) ?? 0 }
      self.call(.note(Array(letters), done: done, by: range), into: &directives)
    }
  }

  private mutating func askRemovals(into directives: inout [Directive]) {
    for (range, ids) in self.take(from: \.toRemove) {
      let texts = ids.compactMap { id in
        self.tracked[id].flatMap { $0.stage == .removing ? Array($0.letter.text.utf8) : nil }
      }
      if !texts.isEmpty { self.call(.remove(texts, by: range), into: &directives) }
    }
    if self.hasRoomToAsk, !self.junk.isEmpty, let range = self.acting.first {
      self.call(
        .remove(Array(self.junk.prefix(self.settings.lettersPerCall)), by: range), into: &directives
      )
      self.junk.removeFirst(min(self.junk.count, self.settings.lettersPerCall))
    }
  }

  /// As many as there is room to ask for, by range, since each call is for one.
  private mutating func take(
    from queue: WritableKeyPath<MailboxMachine, Queue<CommandID>>
  ) -> [(OwnedRange, [CommandID])] {
    var groups: [(range: OwnedRange, ids: [CommandID])] = []
    let room = self.settings.callsMax - self.calls.count
    guard room > 0 else { return [] }
    for _ in 0..<min(self[keyPath: queue].count, self.settings.lettersPerCall * room) {
      guard let id = self[keyPath: queue].popFirst() else { break }
      guard let serial = self.tracked[id]?.letter.serial, let range = self.range(of: serial) else {
        continue
      }
      if let place = groups.firstIndex(where: {
        $0.range == range && $0.ids.count < self.settings.lettersPerCall
      }) {
        groups[place].ids.append(id)
      } else if groups.count < room {
        groups.append((range, [id]))
      } else {
        self[keyPath: queue].append(id)
      }
    }
    return groups.map { ($0.range, $0.ids) }
  }

  private mutating func askOpenings(into directives: inout [Directive]) {
    while self.hasRoomToAsk, self.tracked.count < self.settings.trackedMax, !self.toOpen.isEmpty {
      var openings: [MailboxOpening] = []
      var owner: OwnedRange?
      while openings.count < self.settings.boxesPerCall, let serial = self.toOpen.first {
        guard let range = self.range(of: serial), self.boxes[serial]?.isQueued == true else {
          _ = self.toOpen.popFirst()
          continue
        }
        // A call is for one range.
        if let owner, owner != range { break }
        owner = range
        _ = self.toOpen.popFirst()
        openings.append(self.opening(serial))
      }
      guard let owner, !openings.isEmpty else { return }
      self.call(
        .open(openings, by: openings.contains(where: \.marks) ? owner : nil), into: &directives)
    }
  }

  /// How its letters are read: to be given if that can be, else to know until when they may wait.
  private mutating func opening(_ serial: UInt64) -> MailboxOpening {
    var box = self.boxes[serial]!
    box.isQueued = false
    // The one that is about to be made.
    box.opening = self.callNumber + 1
    let room = self.settings.givenMax - box.given.count
    let isHere = self.sessions[serial] != nil
    let opening: MailboxOpening
    if isHere, box.given.isEmpty || !box.isReturned && room > 0 {
      if box.given.isEmpty {
        if box.isReturned || box.goesOn != .give { box.givenThrough = 0 }
        box.isReturned = false
      }
      box.hasWaiting = false
      box.dueMs = .max
      opening = MailboxOpening(serial: serial, after: box.givenThrough, count: room, marks: true)
    } else {
      if box.seenThrough == 0 {
        box.hasWaiting = false
        box.dueMs = .max
      }
      opening = MailboxOpening(
        serial: serial, after: box.seenThrough, count: self.settings.lookPage, marks: false)
    }
    self.boxes[serial] = box
    return opening
  }
}

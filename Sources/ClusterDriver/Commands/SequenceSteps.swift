/// What is given of a sequence, and what the results of its steps mean.
extension SequenceMachine {
  /// Reasons of Docs/PROTOCOL.md after which a transfer is begun again.
  private static let reasonsToBegin: Set<UInt32> = [6, 7]  // wrong_offset, no_transfer

  // MARK: Going on

  /// Gives what is to be given next, if its time has come.
  mutating func goOn(_ id: CommandID, at now: Moment, into directives: inout [Directive]) {
    guard let held = self.held[id] else { return }
    if let turn = held.turn {
      guard held.underWay == 0 else { return }
      switch turn {
      case .begin:
        self.held[id]!.turn = nil
        self.held[id]!.stage = .waiting
      case .giveBack:
        self.giveBack(id, at: now, into: &directives)
        return
      case .end(let status, let reason, let body, let detail):
        self.finish(
          id, status, reason: reason, body: body, detail: detail, at: now, into: &directives)
        return
      }
    }
    switch held.content {
    case .list(let commands, _):
      self.goOn(id, in: commands, at: now, into: &directives)
    case .configuration(let configuration):
      self.goOn(id, with: configuration, at: now, into: &directives)
    }
  }

  private mutating func goOn(
    _ id: CommandID, in commands: [ControllerCommand], at now: Moment,
    into directives: inout [Directive]
  ) {
    guard var held = self.held[id], held.underWay == 0 else { return }
    guard held.done < commands.count else {
      self.finish(id, .done, at: now, into: &directives)
      return
    }
    held.stage = .sending
    self.held[id] = held
    guard held.done - held.kept < self.settings.aheadMax else { return }
    var command = commands[held.done]
    // Of one that the vendor app gives again nobody says whether it was given to the controller before.
    command.mayHaveBeenSent = held.isAttached || held.command.mayHaveBeenSent
    self.give(command, as: .part(through: held.done + 1), of: id, into: &directives)
  }

  private mutating func goOn(
    _ id: CommandID, with configuration: ControllerConfiguration, at now: Moment,
    into directives: inout [Directive]
  ) {
    guard var held = self.held[id] else { return }
    let sequence = held.command
    switch held.stage {
    case .waiting where held.begins >= self.settings.beginsMax:
      self.finish(
        id, .refused, reason: DriverReason.badTransfer, detail: CommandDetail.badTransfer, at: now,
        into: &directives)
    case .waiting:
      held.stage = .beginning
      held.begins += 1
      self.held[id] = held
      self.give(
        .begin(configuration, of: sequence, round: held.begins - 1), as: .begin, of: id,
        into: &directives)
    case .sending where held.next < configuration.bytes.count:
      while held.underWay < self.settings.window, held.next < configuration.bytes.count {
        guard self.isChunkAllowed(at: now) else {
          self.pace(id)
          return
        }
        let end = min(held.next + self.settings.chunkBytes, configuration.bytes.count)
        let chunk = ControllerCommand.chunk(
          held.next..<end, of: configuration, of: sequence, round: held.begins - 1)
        self.held[id]!.next = end
        self.give(chunk, as: .part(through: end), of: id, into: &directives)
        held = self.held[id]!
      }
    case .sending where held.underWay == 0:
      self.held[id]!.stage = .committing
      self.give(
        .commit(configuration, of: sequence, round: held.begins - 1), as: .commit, of: id,
        into: &directives)
    case .beginning, .sending, .committing:
      break
    }
  }

  // MARK: The pace

  /// Counts it as given, if it is.
  private mutating func isChunkAllowed(at now: Moment) -> Bool {
    let dueAt = max(self.chunkDueAt ?? now.uptime, now.uptime)
    let ahead = self.settings.chunkEvery * self.settings.chunksAtOnce
    guard dueAt <= now.uptime.advanced(by: ahead) else { return false }
    self.chunkDueAt = dueAt.advanced(by: self.settings.chunkEvery)
    return true
  }

  private mutating func pace(_ id: CommandID) {
    guard self.held[id]?.isPaced == false else { return }
    self.held[id]!.isPaced = true
    self.paced.append(id)
  }

  /// Those that have waited, the longest first.
  mutating func resumePaced(at now: Moment, into directives: inout [Directive]) {
    let waiting = self.paced
    self.paced = []
    for id in waiting where self.held[id] != nil {
      self.held[id]!.isPaced = false
      self.goOn(id, at: now, into: &directives)
    }
  }

  private mutating func give(
    _ command: ControllerCommand, as kind: Kind, of id: CommandID,
    into directives: inout [Directive]
  ) {
    self.held[id]!.underWay += 1
    self.steps[command.id] = Step(sequence: id, kind: kind)
    directives.append(.give(command))
  }

  // MARK: What became of a step

  /// It is not under way any more. Returns its sequence, changed by `change`.
  mutating func stepLeft(
    _ id: CommandID, _ change: (inout Held, Kind) -> Void
  ) -> CommandID? {
    guard let step = self.steps.removeValue(forKey: id), var held = self.held[step.sequence] else {
      return nil
    }
    held.underWay -= 1
    change(&held, step.kind)
    self.held[step.sequence] = held
    return step.sequence
  }

  mutating func ended(
    _ result: FinishedCommand, at now: Moment, into directives: inout [Directive]
  ) {
    let sequence = self.stepLeft(result.id) { held, kind in
      if result.status == .done {
        SequenceMachine.done(kind, result, &held)
      } else if held.turn == nil {
        held.turn = SequenceMachine.turn(after: result, of: held)
      }
    }
    guard let sequence else { return }
    self.tell(sequence, at: now, into: &directives)
    self.goOn(sequence, at: now, into: &directives)
  }

  private static func done(_ kind: Kind, _ result: FinishedCommand, _ held: inout Held) {
    switch kind {
    case .part(let through):
      held.done = through
    case .begin:
      guard let offset = SequenceMachine.offset(in: result.body, upTo: held.content.total) else {
        held.turn = .end(
          .refused, reason: DriverReason.badTransfer, body: [], detail: CommandDetail.badTransfer)
        return
      }
      held.done = offset
      held.next = offset
      held.stage = .sending
    case .commit:
      // Not undone by what else was to be done.
      held.turn = .end(.done, reason: 0, body: [], detail: "")
    }
  }

  private static func turn(after result: FinishedCommand, of held: Held) -> Turn {
    let isTransfer: Bool
    if case .configuration = held.content { isTransfer = true } else { isTransfer = false }
    if isTransfer, result.status == .refused, self.reasonsToBegin.contains(result.reason) {
      return .begin
    }
    let place =
      isTransfer
      ? "byte \(held.done) of \(held.content.total)"
      : "command \(held.done) of \(held.content.total), counted from 0"
    return .end(
      result.status, reason: result.reason, body: result.body,
      detail: "it ended at \(place)" + (result.detail.isEmpty ? "" : ": " + result.detail))
  }

  /// Nil: that is no answer to begin.
  private static func offset(in body: [UInt8], upTo total: Int) -> Int? {
    guard body.count >= 4 else { return nil }
    let offset = body.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    return offset <= total ? offset : nil
  }

  /// Its holder is told how far it is, when that is news.
  private mutating func tell(
    _ id: CommandID, at now: Moment, into directives: inout [Directive]
  ) {
    guard let held = self.held[id], held.stage == .sending, held.turn == nil,
      held.told?.done != held.done
    else { return }
    if let told = held.told, now.uptime - told.at < self.settings.tellEvery {
      guard case .list = held.content, held.done - told.done >= self.settings.tellAfter else {
        return
      }
    }
    self.held[id]!.told = (held.done, now.uptime)
    directives.append(.tell(held.standing(at: now)))
  }
}

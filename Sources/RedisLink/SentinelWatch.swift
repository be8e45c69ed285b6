internal import CSystem

/// The shell around `SentinelMachine`: a connection to each sentinel, in the loop of a link.
final class SentinelWatch: ServerFinder {
  private struct Line {
    let line: SideLine
    var talk: SentinelTalk
  }

  private let place: RedisSentinels
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 4 << 10, alignment: 16)
  private let keepAliveSeconds: Int32
  private let firstTag: UInt64
  private var machine: SentinelMachine
  private var lines: [Line] = []
  private var findings = Queue<Finding>()

  /// Takes the tags from `firstTag` on, one for each sentinel; `wire` makes a wire for a tag.
  init(
    _ place: RedisSentinels, options: RedisConnectionOptions, seed: UInt64, firstTag: UInt64,
    wire: (UInt64) -> Wire
  ) {
    self.place = place
    self.firstTag = firstTag
    keepAliveSeconds = Int32(clamping: max(1, options.pingAfter.components.seconds))
    machine = SentinelMachine(place, timing: SentinelMachine.Timing(options), seed: seed)
    for index in place.addresses.indices {
      let line = SideLine(wire: wire(firstTag + UInt64(index)), input: input)
      lines.append(Line(line: line, talk: SentinelTalk(place)))
    }
  }

  deinit {
    input.deallocate()
  }

  var wakeAt: UInt64 { machine.wakeAt }
  var hasInput: Bool { lines.contains { $0.line.wire.hasInput } }

  func start(at now: UInt64) { step(.start, at: now) }
  func find(avoiding address: RedisAddress?, at now: UInt64) {
    step(.find(avoiding: address), at: now)
  }
  func aim(at address: RedisAddress, now: UInt64) { step(.aim(address), at: now) }
  func giveUp(at now: UInt64) { step(.giveUp, at: now) }
  func close(at now: UInt64) { step(.close, at: now) }

  func nextFinding() -> Finding? { findings.popFirst() }

  func wake(at now: UInt64) {
    for index in lines.indices {
      let wire = lines[index].line.wire
      let isDue = machine.wakeAt(index) <= now
      // What waits to be read may be what is missed.
      if wire.isOpen, isDue || wire.hasInput { receive(index, at: now) }
      if isDue, wire.isShaking { step(.failed(index, stalledHandshake), at: now) }
    }
    step(.wake, at: now)
  }

  func handle(_ tag: UInt64, at now: UInt64) {
    let index = Int(tag - firstTag)
    let line = lines[index].line
    if line.wire.isOpen {
      receive(index, at: now)
      attempt(index, at: now) { () throws(RedisFailure) in try line.flush() }
    } else {
      attempt(index, at: now) { () throws(RedisFailure) in
        if try line.wire.advance() { step(.connected(index), at: now) }
      }
    }
  }

  func resolved(_ tag: UInt64, _ resolution: Resolution, at now: UInt64) {
    let index = Int(tag - firstTag)
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].line.wire.resolved(resolution)
    }
  }

  // MARK: The machine's directives

  private func step(_ event: SentinelMachine.Event, at now: UInt64) {
    for directive in machine.step(event, at: now) {
      switch directive {
      case .connect(let index):
        attempt(index, at: now) { () throws(RedisFailure) in
          try lines[index].line.wire.open(place.addresses[index])
        }
      case .greet(let index): greet(index, at: now)
      case .ask(let index): say(lines[index].talk.askAgain(), to: index, at: now)
      case .ping(let index): say(lines[index].talk.ping(), to: index, at: now)
      case .disconnect(let index, let failure):
        lines[index].line.close(isLate: failure == .timeout)
      case .found(let address): findings.append(.found(address))
      case .lost(let failure): findings.append(.lost(failure))
      case .follow(let address): findings.append(.follow(address))
      }
    }
  }

  private func attempt(_ index: Int, at now: UInt64, _ body: () throws(RedisFailure) -> Void) {
    do throws(RedisFailure) {
      try body()
    } catch {
      step(.failed(index, error), at: now)
    }
  }

  private func greet(_ index: Int, at now: UInt64) {
    lines[index].talk = SentinelTalk(place)
    let words = lines[index].talk.greet()
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].line.begin(
        words, bytesMax: 64 << 10, elementsMax: 64, keepAliveSeconds: keepAliveSeconds)
    }
  }

  private func say(_ words: [UInt8], to index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in try lines[index].line.say(words) }
  }

  private func receive(_ index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].line.receive {
        step(.heard(index), at: now)
      } take: { (value) throws(RedisFailure) in
        switch try lines[index].talk.hear(value) {
        case .answered(let answer): step(.answered(index, answer), at: now)
        case .listening: step(.listening(index), at: now)
        case .switched(let address): step(.switched(index, to: address), at: now)
        case nil: break
        }
      }
    }
  }
}

extension SentinelMachine.Timing {
  init(_ options: RedisConnectionOptions) {
    self.init(
      answerTimeout: options.askTimeout,
      backOffFirst: options.backOffFirst.clampedNanoseconds,
      backOffMost: options.backOffMost.clampedNanoseconds,
      pingAfter: options.pingAfter.clampedNanoseconds,
      pingTimeout: options.pingTimeout.clampedNanoseconds)
  }
}

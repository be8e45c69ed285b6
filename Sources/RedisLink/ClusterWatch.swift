/// The shell around `ClusterMachine`: the connections of a search or a look around, in the loop of a
/// link.
final class ClusterWatch: ServerFinder {
  private struct Line {
    let line: SideLine
    var talk: ClusterTalk
    var address: RedisAddress
  }

  private let slot: RedisSlot
  private let user: String?
  private let password: String?
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
  private let keepAliveSeconds: Int32
  private let firstTag: UInt64
  private var machine: ClusterMachine
  private var lines: [Line] = []
  private var findings = Queue<Finding>()

  /// Takes `ClusterMachine.linesMax` tags from `firstTag` on; `wire` makes a wire for a tag.
  /// `looksAround`: for a link that has no commands, whose replies would tell of another master.
  init(
    _ place: RedisSeeds, slot: RedisSlot, url: RedisURL, options: RedisConnectionOptions,
    looksAround: Bool, seed: UInt64, firstTag: UInt64, wire: (UInt64) -> Wire
  ) {
    self.slot = slot
    user = url.user
    password = url.password
    self.firstTag = firstTag
    keepAliveSeconds = Int32(clamping: max(1, options.pingAfter.components.seconds))
    let timing = ClusterMachine.Timing(
      answerTimeout: options.askTimeout,
      lookEvery: looksAround ? options.pingAfter.clampedNanoseconds : nil)
    machine = ClusterMachine(place, slot: slot, timing: timing, seed: seed)
    let first = place.addresses[0]
    for index in 0..<ClusterMachine.linesMax {
      let line = SideLine(wire: wire(firstTag + UInt64(index)), input: input)
      lines.append(Line(line: line, talk: ClusterTalk(slot: slot, at: first), address: first))
    }
  }

  deinit {
    input.deallocate()
  }

  var wakeAt: UInt64 { machine.wakeAt }
  var hasInput: Bool { lines.contains { $0.line.wire.hasInput } }

  /// Connects to nobody before there is a search.
  func start(at now: UInt64) {}
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

  private func step(_ event: ClusterMachine.Event, at now: UInt64) {
    for directive in machine.step(event, at: now) {
      switch directive {
      case .connect(let index, let address):
        lines[index].address = address
        attempt(index, at: now) { () throws(RedisFailure) in
          try lines[index].line.wire.open(address)
        }
      case .greet(let index): greet(index, at: now)
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
    lines[index].talk = ClusterTalk(slot: slot, at: lines[index].address)
    let words = lines[index].talk.greet(user: user, password: password)
    attempt(index, at: now) { () throws(RedisFailure) in
      // Enough for slots that lie one by one, each elsewhere than the next, with replicas.
      try lines[index].line.begin(
        words, bytesMax: 8 << 20, elementsMax: Int(RedisSlot.count),
        keepAliveSeconds: keepAliveSeconds)
    }
  }

  private func receive(_ index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].line.receive {
      } take: { (value) throws(RedisFailure) in
        if let view = try lines[index].talk.hear(value) { step(.answered(index, view), at: now) }
      }
    }
  }
}

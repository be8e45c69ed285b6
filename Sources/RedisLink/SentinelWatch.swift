internal import CSystem

/// The shell around `SentinelMachine`: a connection to each sentinel, in the loop of a link.
final class SentinelWatch: LineFinder {
  let lines: SideLines
  private(set) var machine: SentinelMachine
  private let place: RedisSentinels
  private var talks: [SentinelTalk]

  /// Takes the tags from `firstTag` on, one for each sentinel; `wire` makes a wire for a tag.
  init(
    _ place: RedisSentinels, options: RedisConnectionOptions, seed: UInt64, firstTag: UInt64,
    wire: (UInt64) -> Wire
  ) {
    self.place = place
    machine = SentinelMachine(place, timing: SentinelMachine.Timing(options), seed: seed)
    lines = SideLines(
      count: place.addresses.count, room: 4 << 10, options: options, firstTag: firstTag, wire: wire)
    talks = place.addresses.map { _ in SentinelTalk(place) }
  }

  func start(at now: UInt64) { step(.start, at: now) }

  func step(_ event: SentinelMachine.Event, at now: UInt64) {
    for directive in machine.step(event, at: now) {
      switch directive {
      case .connect(let index): open(index, place.addresses[index], at: now)
      case .greet(let index): greet(index, at: now)
      case .ask(let index): say(talks[index].askAgain(), to: index, at: now)
      case .ping(let index): say(talks[index].ping(), to: index, at: now)
      case .disconnect(let index, let failure): lines[index].close(isLate: failure == .timeout)
      case .found(let address): lines.found(.found(address))
      case .lost(let failure): lines.found(.lost(failure))
      case .follow(let address): lines.found(.follow(address))
      }
    }
  }

  private func greet(_ index: Int, at now: UInt64) {
    talks[index] = SentinelTalk(place)
    let words = talks[index].greet()
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines.begin(index, words, bytesMax: 64 << 10, elementsMax: 64)
    }
  }

  private func say(_ words: [UInt8], to index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in try lines[index].say(words) }
  }

  func receive(_ index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].receive {
        step(.heard(index), at: now)
      } take: { (value) throws(RedisFailure) in
        switch try talks[index].hear(value) {
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

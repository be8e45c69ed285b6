/// The shell around `ClusterMachine`: the connections of a search or a look around, in the loop of a
/// link.
final class ClusterWatch: LineFinder {
  private struct Peer {
    var talk: ClusterTalk
    var address: RedisAddress
  }

  let lines: SideLines
  private(set) var machine: ClusterMachine
  private let slot: RedisSlot
  private let user: String?
  private let password: String?
  private var peers: [Peer]

  /// Takes `ClusterMachine.linesMax` tags from `firstTag` on; `wire` makes a wire for a tag.
  /// `looksAround`: for a link that has no commands, whose replies would tell of another master.
  init(
    _ place: RedisSeeds, slot: RedisSlot, url: RedisURL, options: RedisConnectionOptions,
    looksAround: Bool, seed: UInt64, firstTag: UInt64, wire: (UInt64) -> Wire
  ) {
    self.slot = slot
    user = url.user
    password = url.password
    let timing = ClusterMachine.Timing(
      answerTimeout: options.askTimeout,
      lookEvery: looksAround ? options.pingAfter.clampedNanoseconds : nil)
    machine = ClusterMachine(place, slot: slot, timing: timing, seed: seed)
    lines = SideLines(
      count: ClusterMachine.linesMax, room: 16 << 10, options: options, firstTag: firstTag,
      wire: wire)
    let first = place.addresses[0]
    peers = Array(
      repeating: Peer(talk: ClusterTalk(slot: slot, at: first), address: first),
      count: ClusterMachine.linesMax)
  }

  /// Connects to nobody before there is a search.
  func start(at now: UInt64) {}

  func step(_ event: ClusterMachine.Event, at now: UInt64) {
    for directive in machine.step(event, at: now) {
      switch directive {
      case .connect(let index, let address):
        peers[index].address = address
        open(index, address, at: now)
      case .greet(let index): greet(index, at: now)
      case .disconnect(let index, let failure): lines[index].close(isLate: failure == .timeout)
      case .found(let address): lines.found(.found(address))
      case .lost(let failure): lines.found(.lost(failure))
      case .follow(let address): lines.found(.follow(address))
      }
    }
  }

  private func greet(_ index: Int, at now: UInt64) {
    peers[index].talk = ClusterTalk(slot: slot, at: peers[index].address)
    let words = peers[index].talk.greet(user: user, password: password)
    attempt(index, at: now) { () throws(RedisFailure) in
      // Enough for slots that lie one by one, each elsewhere than the next, with replicas.
      try lines.begin(index, words, bytesMax: 8 << 20, elementsMax: Int(RedisSlot.count))
    }
  }

  func receive(_ index: Int, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].receive {
      } take: { (value) throws(RedisFailure) in
        if let view = try peers[index].talk.hear(value) { step(.answered(index, view), at: now) }
      }
    }
  }
}

/// Decides which sentinels to connect to, when to ask them, and which of their answers the link is
/// to follow.
///
/// All are connected to and listened to all the time, each on its own: asking then costs one round
/// trip, and one that is dead delays nobody. Asked for a master, the first answer counts that names
/// one which was not just found wanting; that the server *is* a master, it has to say itself
/// (ROLE). A sentinel that says so (+switch-master) is followed at once. What a sentinel merely
/// holds for the master, as one that was away may hold an old one, moves a link that is up only
/// when most sentinels hold it.
///
/// Pure: `step` takes what happened and when (CLOCK_BOOTTIME, ns) and returns what to do, in order.
///
/// Invariants: a search ends with exactly one `found` or `lost`, or with `giveUp`; between a
/// `connect` of a sentinel and the next one there is exactly one `disconnect`.
struct SentinelMachine: FinderMachine, Sendable, Equatable {
  struct Timing: Sendable, Equatable {
    /// For connecting, being let in and answering; and for an answer on a connection that is there.
    var answerTimeout: UInt64
    var backOffFirst: UInt64
    var backOffMost: UInt64
    var pingAfter: UInt64
    var pingTimeout: UInt64
  }

  enum Answer: Sendable, Equatable {
    case master(RedisAddress)
    /// It knows no master of that name.
    case unknownName
  }

  enum Event: FinderEvent, Sendable, Equatable {
    /// Connect to all of them.
    case start
    /// The link wants a master; not `avoiding`, if any sentinel names another.
    case find(avoiding: RedisAddress?)
    /// The link wants none any more.
    case giveUp
    /// The link goes there of its own accord: where it was told to `follow`.
    case aim(RedisAddress)
    /// The transport to a sentinel is there.
    case connected(Int)
    case answered(Int, Answer)
    /// It has confirmed that it will tell of switches.
    case listening(Int)
    case switched(Int, to: RedisAddress)
    /// Anything was received.
    case heard(Int)
    case failed(Int, RedisFailure)
    case wake
    case close
  }

  enum Directive: Sendable, Equatable {
    case connect(Int)
    /// Say who we are, ask for the master, and listen for switches.
    case greet(Int)
    /// The same on a connection that listens.
    case ask(Int)
    case ping(Int)
    case disconnect(Int, RedisFailure)
    /// The search's end: connect there.
    case found(RedisAddress)
    /// The search's end: nobody can tell.
    case lost(RedisFailure)
    /// Leave the server and go there.
    case follow(RedisAddress)
  }

  fileprivate enum Phase: Sendable, Equatable {
    case resting(until: UInt64)
    case connecting(until: UInt64)
    case asking(until: UInt64)
    case listening
  }

  fileprivate struct Sentinel: Sendable, Equatable {
    var phase = Phase.resting(until: .max)
    /// Whether this search still waits for it.
    var isAwaited = false
    /// What it said last.
    var answer: Answer?
    /// Why it has not answered this search.
    var failure: RedisFailure?
    var strikes = 0
    var listeningSince: UInt64 = 0
    var quietSince: UInt64 = 0
    var pingSentAt: UInt64?
  }

  private let timing: Timing
  private let addresses: [RedisAddress]
  private let master: String
  private var random: JitterSource
  private var sentinels: [Sentinel]
  private var isSearching = false
  private var avoided: RedisAddress?
  /// Where the link is, or is on its way to.
  private var target: RedisAddress?
  private var isClosed = false

  init(_ place: RedisSentinels, timing: Timing, seed: UInt64) {
    self.timing = timing
    addresses = place.addresses
    master = place.master
    random = JitterSource(seed: seed)
    sentinels = Array(repeating: Sentinel(), count: place.addresses.count)
  }

  var wakeAt: UInt64 {
    sentinels.reduce(.max) { min($0, wakeAt(of: $1)) }
  }

  func wakeAt(_ index: Int) -> UInt64 { wakeAt(of: sentinels[index]) }

  private func wakeAt(of sentinel: Sentinel) -> UInt64 {
    switch sentinel.phase {
    case .resting(let until), .connecting(let until), .asking(let until): until
    case .listening:
      sentinel.pingSentAt?.plus(timing.pingTimeout) ?? sentinel.quietSince.plus(timing.pingAfter)
    }
  }

  mutating func step(_ event: Event, at now: UInt64) -> [Directive] {
    if isClosed { return [] }
    switch event {
    case .start: return sentinels.indices.flatMap { connect($0, at: now) }
    case .find(let avoiding): return find(avoiding: avoiding, at: now)
    case .giveUp:
      isSearching = false
      target = nil
      return []
    case .aim(let address):
      isSearching = false
      target = address
      return []
    case .connected(let index):
      guard case .connecting(let until) = sentinels[index].phase else { return [] }
      sentinels[index].phase = .asking(until: until)
      return [.greet(index)]
    case .answered(let index, let answer): return take(answer, of: index)
    case .listening(let index): return listen(index, at: now)
    case .switched(let index, let address): return switched(index, to: address)
    case .heard(let index):
      sentinels[index].quietSince = now
      sentinels[index].pingSentAt = nil
      return []
    case .failed(let index, let failure): return fail(index, failure, at: now)
    case .wake: return sentinels.indices.flatMap { wake($0, at: now) }
    case .close:
      isClosed = true
      return sentinels.indices.filter { sentinels[$0].isConnected }
        .map { .disconnect($0, .closed) }
    }
  }

  // MARK: Searching

  private mutating func find(avoiding: RedisAddress?, at now: UInt64) -> [Directive] {
    isSearching = true
    avoided = avoiding
    target = nil
    var directives: [Directive] = []
    for index in sentinels.indices {
      sentinels[index].isAwaited = true
      sentinels[index].answer = nil
      sentinels[index].failure = nil
      switch sentinels[index].phase {
      case .resting: directives += connect(index, at: now)
      case .connecting, .asking: break
      case .listening:
        sentinels[index].phase = .asking(until: now.plus(timing.answerTimeout))
        directives.append(.ask(index))
      }
    }
    return directives
  }

  private mutating func take(_ answer: Answer, of index: Int) -> [Directive] {
    guard case .asking = sentinels[index].phase else { return [] }
    sentinels[index].answer = answer
    sentinels[index].isAwaited = false
    return isSearching ? judge() : compare()
  }

  /// Ends the search if what is known suffices.
  private mutating func judge() -> [Directive] {
    guard isSearching else { return [] }
    var known = sentinels.compactMap(\.master)
    let isComplete = !sentinels.contains { $0.isAwaited }
    if !isComplete { known.removeAll { $0 == avoided } }
    if let address = known.first(where: { $0 != avoided }) ?? known.first {
      isSearching = false
      target = address
      return [.found(address)]
    }
    if !isComplete { return [] }
    isSearching = false
    return [.lost(.noMaster(reason()))]
  }

  private func reason() -> String {
    if sentinels.contains(where: { $0.answer == .unknownName }) {
      return "the sentinels watch over no master by the name \"\(master)\": correct the name in the"
        + " URL, or have them monitor it"
    }
    let failed = sentinels.indices.filter { sentinels[$0].failure != nil }
    // One that refused us says more than one that is not there.
    let telling = failed.first { sentinels[$0].failure?.isRefusal == true } ?? failed.first
    let why = telling.map { "\(addresses[$0]): \(sentinels[$0].failure!)" }
    let who =
      sentinels.count == 1
      ? "the sentinel does not answer" : "none of the \(sentinels.count) sentinels answers"
    return
      "\(who) (\(why ?? "not reached")): see that they run, and that addresses and passwords in"
      + " the URL are right"
  }

  /// Whether most sentinels hold another server for the master than the link does.
  private mutating func compare() -> [Directive] {
    guard let target else { return [] }
    var votes: [RedisAddress: Int] = [:]
    for address in sentinels.compactMap(\.master) { votes[address, default: 0] += 1 }
    guard let elected = votes.first(where: { $0.value > sentinels.count / 2 })?.key,
      elected != target
    else { return [] }
    self.target = elected
    return [.follow(elected)]
  }

  private mutating func switched(_ index: Int, to address: RedisAddress) -> [Directive] {
    sentinels[index].answer = .master(address)
    sentinels[index].isAwaited = false
    if isSearching {
      // That it was none is older news.
      if address == avoided { avoided = nil }
      return judge()
    }
    if address == target { return [] }
    target = address
    return [.follow(address)]
  }

  // MARK: Each sentinel

  private mutating func connect(_ index: Int, at now: UInt64) -> [Directive] {
    sentinels[index].phase = .connecting(until: now.plus(timing.answerTimeout))
    sentinels[index].pingSentAt = nil
    return [.connect(index)]
  }

  private mutating func listen(_ index: Int, at now: UInt64) -> [Directive] {
    guard case .asking = sentinels[index].phase else { return [] }
    // What it answered was for the search before.
    if isSearching, sentinels[index].isAwaited {
      sentinels[index].phase = .asking(until: now.plus(timing.answerTimeout))
      return [.ask(index)]
    }
    sentinels[index].phase = .listening
    sentinels[index].listeningSince = now
    sentinels[index].quietSince = now
    sentinels[index].pingSentAt = nil
    return []
  }

  private mutating func fail(
    _ index: Int, _ failure: RedisFailure, at now: UInt64
  ) -> [Directive] {
    guard sentinels[index].isConnected else { return [] }
    // One that comes and goes is not tried without pause.
    if sentinels[index].phase == .listening,
      now - sentinels[index].listeningSince >= timing.backOffMost
    {
      sentinels[index].strikes = 0
    }
    sentinels[index].phase = .resting(until: now.plus(pause(index)))
    sentinels[index].isAwaited = false
    sentinels[index].failure = failure
    return [.disconnect(index, failure)] + judge()
  }

  private mutating func wake(_ index: Int, at now: UInt64) -> [Directive] {
    guard now >= wakeAt(of: sentinels[index]) else { return [] }
    switch sentinels[index].phase {
    case .resting: return connect(index, at: now)
    case .connecting, .asking: return fail(index, .timeout, at: now)
    case .listening:
      if sentinels[index].pingSentAt != nil { return fail(index, .timeout, at: now) }
      sentinels[index].pingSentAt = now
      return [.ping(index)]
    }
  }

  private mutating func pause(_ index: Int) -> UInt64 {
    var whole = timing.backOffFirst
    for _ in 0..<sentinels[index].strikes where whole < timing.backOffMost {
      whole = min(whole.plus(whole), timing.backOffMost)
    }
    sentinels[index].strikes = min(sentinels[index].strikes + 1, 64)
    return whole / 2 + random.next(below: whole / 2 + 1)
  }
}

extension RedisFailure {
  /// Whether it was reached, and would not have us.
  var isRefusal: Bool {
    switch self {
    case .refused, .tls: true
    default: false
    }
  }
}

extension SentinelMachine.Sentinel {
  fileprivate var isConnected: Bool { if case .resting = phase { false } else { true } }

  fileprivate var master: RedisAddress? {
    if case .master(let address) = answer { address } else { nil }
  }
}

/// Decides which nodes of a cluster to ask who serves the link's slot, and which answer to take.
///
/// A search asks a few at a time and goes on with each that fails or tells nothing new: those that
/// were named last, then the seeds, and those that failed before last. The first answer counts that
/// names a master which was not just found wanting; when all name that one, it is taken all the
/// same. That the server *is* a master it has to say itself (ROLE), and that it serves the slot it
/// says with every reply to a command.
///
/// A link without commands hears none: it looks around from time to time, and follows when most of a
/// few others name another master. A node that is cut off from the others, or is none of the cluster
/// any more, is left in this way.
///
/// Pure: `step` takes what happened and when (CLOCK_BOOTTIME, ns) and returns what to do, in order.
///
/// Invariants: a search ends with exactly one `found` or `lost`, or with `giveUp`, `aim` or `close`; a
/// look ends with at most one `follow`, or with these; without either no line is connected; between
/// a `connect` of a line and the next one there is exactly one `disconnect`.
struct ClusterMachine: FinderMachine, Sendable, Equatable {
  struct Timing: Sendable, Equatable {
    /// For connecting, being let in and answering.
    var answerTimeout: UInt64
    /// Between two looks around, of which the second half is random; nil: none.
    var lookEvery: UInt64?
  }

  /// Nodes asked at a time, and in one look.
  static let linesMax = 3
  /// Nodes asked in one search.
  static let askedMax = 32

  enum Event: FinderEvent, Sendable, Equatable {
    /// The link wants the slot's master; not `avoiding`, if anybody names another.
    case find(avoiding: RedisAddress?)
    /// The link wants none any more.
    case giveUp
    /// The link goes there, where a server has sent it.
    case aim(RedisAddress)
    /// A line's transport is there.
    case connected(Int)
    case answered(Int, SlotView)
    case failed(Int, RedisFailure)
    case wake
    case close
  }

  enum Directive: Sendable, Equatable {
    case connect(Int, RedisAddress)
    /// Say who we are, and ask.
    case greet(Int)
    case disconnect(Int, RedisFailure)
    /// The search's end: connect there.
    case found(RedisAddress)
    /// The search's end: nobody can tell.
    case lost(RedisFailure)
    /// Leave the server and go there.
    case follow(RedisAddress)
  }

  private struct Node: Sendable, Equatable {
    let address: RedisAddress
    /// How often in a row it failed.
    var strikes = 0
  }

  private struct Line: Sendable, Equatable {
    let address: RedisAddress
    let until: UInt64
  }

  private struct Search: Sendable, Equatable {
    let avoided: RedisAddress?
    var asked: Set<RedisAddress> = []
    /// Whether somebody named the one to avoid, or that nobody serves the slot.
    var isAvoidedNamed = false
    var isUnserved = false
    /// Of one that refused us, which says more, or of one that is not there.
    var telling: Telling?
  }

  private struct Telling: Sendable, Equatable {
    let address: RedisAddress
    let failure: RedisFailure
  }

  private struct Look: Sendable, Equatable {
    var asked = 0
    var votes: [RedisAddress: Int] = [:]
  }

  private let slot: RedisSlot
  private let timing: Timing
  private var random: JitterSource
  /// Those that were named last, and the seeds.
  private var named: [Node] = []
  private var seeds: [Node]
  private var lines: [Line?]
  private var search: Search?
  private var look: Look?
  /// Where the link is, or is on its way to, and when to look around next.
  private var target: RedisAddress?
  private var lookAt = UInt64.max
  private var isClosed = false

  init(_ place: RedisSeeds, slot: RedisSlot, timing: Timing, seed: UInt64) {
    self.slot = slot
    self.timing = timing
    random = JitterSource(seed: seed)
    seeds = place.addresses.map { Node(address: $0) }
    lines = Array(repeating: nil, count: Self.linesMax)
  }

  var wakeAt: UInt64 { lines.reduce(lookAt) { min($0, $1?.until ?? .max) } }
  var isLooking: Bool { look != nil }

  func wakeAt(_ line: Int) -> UInt64 { lines[line]?.until ?? .max }

  mutating func step(_ event: Event, at now: UInt64) -> [Directive] {
    if isClosed { return [] }
    switch event {
    case .find(let avoiding):
      let left = end(at: nil)
      search = Search(avoided: avoiding)
      return left + proceed(at: now)
    case .giveUp: return end(at: nil)
    case .aim(let address):
      if !knows(address) { named.insert(Node(address: address), at: 0) }
      return end(at: address, since: now)
    case .connected(let line): return lines[line] == nil ? [] : [.greet(line)]
    case .answered(let line, let view): return take(view, of: line, at: now)
    case .failed(let line, let failure): return fail(line, failure, at: now)
    case .wake:
      let failed = lines.indices.flatMap { line in
        wakeAt(line) <= now ? fail(line, .timeout, at: now) : []
      }
      return lookAt <= now ? failed + beginLook(at: now) : failed
    case .close:
      isClosed = true
      return end(at: nil, because: .closed)
    }
  }

  // MARK: Searching

  private mutating func take(_ view: SlotView, of line: Int, at now: UInt64) -> [Directive] {
    guard let asked = lines[line]?.address else { return [] }
    strike(asked) { $0 = 0 }
    learn(view.nodes)
    if look != nil {
      if let master = view.master { look?.votes[master, default: 0] += 1 }
      lines[line] = nil
      return [.disconnect(line, .abandoned)] + judgeLook(at: now)
    }
    if let master = view.master, master != search?.avoided {
      return end(at: master, since: now) + [.found(master)]
    }
    if view.master == nil {
      search?.isUnserved = true
    } else {
      search?.isAvoidedNamed = true
    }
    lines[line] = nil
    return [.disconnect(line, .abandoned)] + proceed(at: now)
  }

  private mutating func fail(
    _ line: Int, _ failure: RedisFailure, at now: UInt64
  ) -> [Directive] {
    guard let asked = lines[line]?.address else { return [] }
    strike(asked) { $0 = min($0 + 1, 64) }
    if search?.telling == nil || failure.isRefusal {
      search?.telling = Telling(address: asked, failure: failure)
    }
    lines[line] = nil
    return [.disconnect(line, failure)] + (look == nil ? proceed(at: now) : judgeLook(at: now))
  }

  /// Asks further nodes, or ends the search if there are none and nobody is waited for.
  private mutating func proceed(at now: UInt64) -> [Directive] {
    guard var search else { return [] }
    var directives: [Directive] = []
    for line in lines.indices where lines[line] == nil && search.asked.count < Self.askedMax {
      guard let address = next(besides: search.asked) else { break }
      search.asked.insert(address)
      directives.append(connect(line, address, at: now))
    }
    self.search = search
    if lines.contains(where: { $0 != nil }) { return directives }
    self.search = nil
    if let avoided = search.avoided, search.isAvoidedNamed {
      return end(at: avoided, since: now) + [.found(avoided)]
    }
    return [.lost(.noMaster(reason(search)))]
  }

  /// The best to ask of those that were not asked.
  private func next(besides asked: Set<RedisAddress>) -> RedisAddress? {
    (named + seeds).filter { !asked.contains($0.address) }.min { $0.strikes < $1.strikes }?.address
  }

  private mutating func connect(
    _ line: Int, _ address: RedisAddress, at now: UInt64
  ) -> Directive {
    lines[line] = Line(address: address, until: now.plus(timing.answerTimeout))
    return .connect(line, address)
  }

  /// Ends search or look. The link is on its way to `target`, if to anywhere.
  private mutating func end(
    at target: RedisAddress?, since now: UInt64 = 0, because failure: RedisFailure = .abandoned
  ) -> [Directive] {
    search = nil
    look = nil
    self.target = target
    lookAt = target == nil ? .max : nextLook(after: now)
    var directives: [Directive] = []
    for line in lines.indices where lines[line] != nil {
      lines[line] = nil
      directives.append(.disconnect(line, failure))
    }
    return directives
  }

  private func reason(_ search: Search) -> String {
    if search.isUnserved {
      return "no node of the cluster serves \(slot): see what redis-cli --cluster check says"
    }
    let why = search.telling.map { "\($0.address): \($0.failure)" } ?? "not reached"
    let who =
      search.asked.count == 1
      ? "the node of the cluster does not answer"
      : "none of the cluster's \(search.asked.count) known nodes answers"
    return
      "\(who) (\(why)): see that they run, and that addresses and password in the URL are right"
  }

  // MARK: Looking around

  private mutating func nextLook(after now: UInt64) -> UInt64 {
    guard let pause = timing.lookEvery else { return .max }
    return now.plus(pause / 2 + random.next(below: pause / 2 + 1))
  }

  private mutating func beginLook(at now: UInt64) -> [Directive] {
    guard let target else { return [] }
    lookAt = .max
    var asked: Set = [target]
    var directives: [Directive] = []
    for line in lines.indices {
      guard let address = next(besides: asked) else { break }
      asked.insert(address)
      directives.append(connect(line, address, at: now))
    }
    look = Look(asked: directives.count)
    return directives + judgeLook(at: now)
  }

  /// Once all have answered or failed: whether most of those that were asked name another master.
  private mutating func judgeLook(at now: UInt64) -> [Directive] {
    guard let look, !lines.contains(where: { $0 != nil }) else { return [] }
    self.look = nil
    lookAt = nextLook(after: now)
    guard let elected = look.votes.first(where: { $0.value * 2 > look.asked })?.key,
      elected != target
    else { return [] }
    return end(at: elected, since: now) + [.follow(elected)]
  }

  // MARK: Nodes

  private func knows(_ address: RedisAddress) -> Bool {
    (named + seeds).contains { $0.address == address }
  }

  /// Remembers those that were named, in place of those named before.
  private mutating func learn(_ addresses: [RedisAddress]) {
    let strikes = Dictionary(
      (named + seeds).map { ($0.address, $0.strikes) }, uniquingKeysWith: max)
    named = addresses.prefix(ClusterTalk.namedMax).map {
      Node(address: $0, strikes: strikes[$0] ?? 0)
    }
  }

  private mutating func strike(_ address: RedisAddress, _ body: (inout Int) -> Void) {
    for index in named.indices where named[index].address == address { body(&named[index].strikes) }
    for index in seeds.indices where seeds[index].address == address { body(&seeds[index].strikes) }
  }
}

/// Which ranges a node holds, gives away and claims.
///
/// Fed with everything the store says; truth is in the store, and each reply is taken in whole before
/// the session's deadline is moved. Not held while others may hold it, whatever is lost: see
/// Docs/OWNERSHIP.md for why.
public struct OwnershipMachine: Sendable, Equatable {
  public enum Phase: Sendable, Equatable {
    case held
    /// Held by the word of a store that is no more, and to be asserted. Not acted for until the present
    /// one has taken it down: others that wait for this node wait for it to meet the store only. From that
    /// instant on others may have claimed it, in any store that came after the one whose word it is.
    case unconfirmed(until: Instant)
    /// Taking nothing new; what is under way ends.
    case sealing(move: UInt64)
    /// Not acting any more; to be handed over.
    case sealed(move: UInt64)
  }

  public struct Holding: Sendable, Equatable {
    public var range: OwnedRange
    public var phase = Phase.held

    var isActive: Bool {
      switch phase {
      case .held, .sealing: true
      case .unconfirmed, .sealed: false
      }
    }

    var isUnconfirmed: Bool { if case .unconfirmed = phase { true } else { false } }
  }

  public enum Directive: Sendable, Equatable {
    /// `acting` has changed. Comes before whatever relies on it: a range is no longer acted for when
    /// the call that gives it away is made.
    case actingChanged
    case seal(Serial, move: UInt64)
    case handOver(Serial, move: UInt64)
    case assert([OwnedRange])
  }

  let me: Owner
  let timing: Timing
  /// Everything the store has, as last seen.
  public private(set) var table: SortedMap<Serial, RangeRecord> = [:]
  public private(set) var identity: StoreIdentity?
  /// Of the store, up to which everything is in the table.
  public private(set) var version: UInt64 = 0
  /// Of the store, that anything seen is from.
  public private(set) var newest: UInt64 = 0
  public private(set) var holdings: SortedMap<Serial, Holding> = [:] {
    didSet { isActingStale = true }
  }
  /// The ranges to act for, by first serial, as long as the deadline has not passed.
  public private(set) var acting: [OwnedRange] = []
  private var isActingStale = false
  /// Nothing is claimed or taken up before.
  public private(set) var quarantineUntil: Instant?
  /// Those who might act by promises without this node's knowing, because they have taken it off their
  /// list, are waited for by a quarantine of a TTL already.
  public private(set) var isSure = false
  /// The highest epochs ever seen, whatever the store forgets.
  public private(set) var floors: RangeMap
  private(set) var isStopping = false

  /// - Parameter floors: what this node's former life knew of epochs.
  public init(me: Owner, timing: Timing, floors: RangeMap = RangeMap()) {
    self.me = me
    self.timing = timing
    self.floors = floors
  }

  /// Brings `acting` up to date; at the end of everything that may have changed what is held.
  private mutating func told(_ directives: [Directive]) -> [Directive] {
    guard isActingStale else { return directives }
    isActingStale = false
    let now = holdings.values.lazy.filter(\.isActive).map(\.range)
    guard !now.elementsEqual(acting) else { return directives }
    acting = Array(now)
    return [.actingChanged] + directives
  }

  // MARK: What the store says

  /// - Parameters:
  ///   - validUntil: the node may act until then. Past or nil, others may have claimed, or may act, by the
  ///   word of the store that is lost: a node that is fenced has nothing to assert.
  ///   - isSure: it cannot have been taken off the member list by a store that is lost.
  public mutating func saw(
    _ view: StoreView, validUntil: Instant?, isSure: Bool, at now: Instant
  ) -> [Directive] {
    var directives: [Directive] = []
    if view.identity != identity {
      meet(view.identity, validUntil: validUntil, isSure: isSure, at: now)
    }
    if view.isWhole {
      table = SortedMap(view.ranges, by: \.first)
    } else {
      for first in view.removed { table[first] = nil }
      for record in view.ranges { table.set(record.first, to: record) }
    }
    version = view.version
    for record in view.ranges { note(record) }
    newest = view.version
    directives += settle(view.ranges)
    dropMissing(at: now)
    directives += handOversAgain()
    let unconfirmed = unconfirmed
    if !unconfirmed.isEmpty { directives.append(.assert(unconfirmed)) }
    return told(directives)
  }

  /// Held by the word of a former store, and to be asserted; by first serial.
  public var unconfirmed: [OwnedRange] {
    holdings.values.filter(\.isUnconfirmed).map(\.range)
  }

  /// A view that other answers have overtaken. It must not be taken in: it would bring back what they
  /// have ended.
  public func isOutdated(_ view: StoreView) -> Bool {
    view.identity == identity && view.version < newest
  }

  /// What a claim, an assertion or a hand-over came to, or what a peer knows that is newer. From before
  /// what is known already, it changes nothing. A peer says up to which version it knows everything; of
  /// some ranges it may know later things, and what is as old as its word must not bring these back.
  public mutating func saw(
    _ records: [RangeRecord], of identity: StoreIdentity, version: UInt64
  ) -> [Directive] {
    guard identity == self.identity, version >= newest else { return [] }
    newest = records.reduce(version) { max($0, $1.changed) }
    for record in records {
      enter(record)
      note(record)
    }
    return told(settle(records))
  }

  /// What the record was merged out of, or cut out of, goes: only a view says so by itself.
  private mutating func enter(_ record: RangeRecord) {
    if table[record.first]?.last != record.last {
      var i = table.place(of: record.first)
      if i > 0, table.values[i - 1].last >= record.first { i -= 1 }
      while i < table.count, table.values[i].first <= record.last { _ = table.remove(at: i) }
    }
    table.set(record.first, to: record)
  }

  private mutating func meet(
    _ identity: StoreIdentity, validUntil: Instant?, isSure: Bool, at now: Instant
  ) {
    // What was sealed may be another's by now: its hand-over may have run.
    var kept: SortedMap<Serial, Holding> = [:]
    for (first, holding) in holdings {
      switch holding.phase {
      case .held, .sealing:
        guard let validUntil, now < validUntil else { continue }
        kept[first] = Holding(range: holding.range, phase: .unconfirmed(until: validUntil))
      case .unconfirmed(let until):
        if now < until { kept[first] = holding }
      case .sealed: break
      }
    }
    holdings = kept
    self.identity = identity
    version = 0
    newest = 0
    table = [:]
    self.isSure = isSure
    quarantineUntil = now + (isSure ? timing.ttl : timing.unsureWait)
  }

  /// Nobody acts by the word of a former store any more, but for those whom a TTL from now outlasts.
  public mutating func becomeSure(at now: Instant) {
    guard !isSure, let until = quarantineUntil else { return }
    isSure = true
    quarantineUntil = min(until, now + timing.ttl)
  }

  private mutating func note(_ record: RangeRecord) {
    floors.raiseFloor(of: record.serials, to: record.epoch)
  }

  /// Nothing that may be others' is taken.
  public func isQuarantined(at now: Instant) -> Bool { quarantineUntil.map { now < $0 } ?? true }

  /// Brings what is held in line with these records.
  private mutating func settle(_ records: [RangeRecord]) -> [Directive] {
    // What is by the word of another store is an old story; what is held against it is asserted.
    let current = records.indices.filter { records[$0].store == identity }
    if !holdings.isEmpty { for i in current { dropOverlapped(by: records[i]) } }
    var directives: [Directive] = []
    for i in current where records[i].owner == me { directives += adopt(records[i]) }
    return directives
  }

  /// What another has, and what was merged into another one of this node's, however it was cut.
  private mutating func dropOverlapped(by record: RangeRecord) {
    // The one that begins before it may reach into it.
    var i = max(holdings.place(of: record.first) - 1, 0)
    while i < holdings.count, holdings.keys[i] <= record.last {
      let held = holdings.values[i].range
      if held.last >= record.first, record.owner != me || held.first != record.first {
        holdings.remove(at: i)
      } else {
        i += 1
      }
    }
  }

  /// What the store does not have was merged away, or cut otherwise: what covers it now says whose it
  /// is. A store that has just been met may not have heard of it yet.
  private mutating func dropMissing(at now: Instant) {
    let isNew = isQuarantined(at: now)
    for (first, holding) in holdings where !table.contains(first) {
      if holding.isUnconfirmed && isNew { continue }
      holdings[first] = nil
    }
  }

  /// For those that were sealed and are still this node's: the call may have been lost.
  private func handOversAgain() -> [Directive] {
    holdings.compactMap { first, holding in
      guard case .sealed(let move) = holding.phase, table[first]?.move?.number == move else {
        return nil
      }
      return .handOver(first, move: move)
    }
  }

  private mutating func adopt(_ record: RangeRecord) -> [Directive] {
    if holdings[record.first] != nil {
      holdings[record.first]?.range = record.piece
    } else if !isStopping {
      holdings[record.first] = Holding(range: record.piece)
    }
    return follow(record)
  }

  /// What the record orders to be done about its move.
  private mutating func follow(_ record: RangeRecord) -> [Directive] {
    guard let holding = holdings[record.first] else { return [] }
    switch (holding.phase, record.move) {
    case (.unconfirmed, nil):
      holdings[record.first]?.phase = .held
      return []
    case (.held, let move?), (.unconfirmed, let move?):
      holdings[record.first]?.phase = .sealing(move: move.number)
      return [.seal(record.first, move: move.number)]
    case (.sealing(let old), let move?) where old != move.number:
      holdings[record.first]?.phase = .sealing(move: move.number)
      return [.seal(record.first, move: move.number)]
    case (.sealed(let old), let move?):
      // Sealed is sealed, for whichever move; a hand-over whose outcome is not known is made again.
      if old != move.number { holdings[record.first]?.phase = .sealed(move: move.number) }
      return [.handOver(record.first, move: move.number)]
    case (.sealing, nil), (.sealed, nil):
      // Taken back. A hand-over that is still on its way names a move that is no more.
      holdings[record.first]?.phase = .held
      return []
    case (.held, nil), (.sealing, _):
      return []
    }
  }

  /// Controllers, or the vendor app for them, have seen these epochs.
  public mutating func seen(_ epochs: [OwnedRange]) {
    for seen in epochs { floors.raiseFloor(of: seen.serials, to: seen.epoch) }
  }

  // MARK: What the node does

  /// What was under way for a range that was sealed has ended.
  public mutating func sealed(_ first: Serial, move: UInt64) -> [Directive] {
    guard holdings[first]?.phase == .sealing(move: move) else { return [] }
    holdings[first]?.phase = .sealed(move: move)
    return told([.handOver(first, move: move)])
  }

  /// From now on nothing is taken up; what is held ends when `stopped` is called.
  public mutating func stop() { isStopping = true }

  /// All work has ended, or another life of the node has begun: nothing is held any more.
  public mutating func stopped() -> [Directive] {
    holdings = [:]
    return told([])
  }
}

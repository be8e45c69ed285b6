package import Election

/// What has changed in a cluster, as one node has seen it: the last `entriesMax` changes since it started.
///
/// A value; not the store's own record. What comes and goes between two looks into the store leaves no entry.
package struct OwnershipHistory: Sendable, Equatable {
  package static let entriesMax = 2000
  /// Moves whose length is remembered.
  private static let movesMax = 32

  package enum What: String, Sendable {
    // Of ranges.
    case created, claimed, moving, moved
    case backed = "taken back"
    case split, merged
    // Of nodes.
    case alive, unhealthy, draining, stopped, dead, listed, removed, leads
    // Of the whole.
    case store, paused, resumed
  }

  package struct Entry: Sendable, Equatable {
    /// From 1, without holes.
    package var number: UInt64
    /// ms UTC.
    package var at: UInt64
    package var what: What
    /// Of a range; nil for what is none's.
    package var range: OwnedRange?
    /// Who had it.
    package var from: NodeID?
    /// Who has it, or who it is about.
    package var node: NodeID?
  }

  package private(set) var entries: [Entry] = []
  private var last: UInt64 = 0
  private var seen: Seen?
  private var movesBegan: [UInt64: UInt64] = [:]
  private var moveLengths: [UInt64] = []

  private struct Seen: Sendable, Equatable {
    var version: UInt64
    var identity: StoreIdentity?
    var table: SortedMap<Serial, RangeRecord>
    var nodes: [NodeID: What]
    var list: [NodeID]
    var leader: LeaderRecord?
    var isPaused: Bool
  }

  package init() {}

  /// Mean time from when a move was first seen until its range had the new owner, ms; nil: none was seen.
  package var moveMs: UInt64? {
    moveLengths.isEmpty ? nil : moveLengths.reduce(0, +) / UInt64(moveLengths.count)
  }

  /// Those with a greater number.
  package func entries(after number: UInt64) -> ArraySlice<Entry> {
    entries[entries.partitioningIndex { $0.number > number }...]
  }

  /// - Parameter at: ms UTC.
  package mutating func look(_ view: OwnershipView, now: Instant, at: UInt64) {
    let before = seen
    var after = Seen(
      version: view.version, identity: view.identity, table: view.table,
      nodes: OwnershipHistory.nodes(view, at: now), list: view.list.nodes,
      leader: view.leader, isPaused: view.isPaused)
    defer { seen = after }
    guard let before else {
      // It begins with who was there.
      for (node, what) in after.nodes.sorted(by: { $0.key < $1.key }) {
        add(what, node: node, at: at)
      }
      if let leader = after.leader { add(.leads, node: leader.leader.node, at: at) }
      return
    }
    if before.identity != after.identity {
      add(.store, at: at)
      movesBegan = [:]
    }
    for (node, what) in after.nodes.sorted(by: { $0.key < $1.key })
    where before.nodes[node] != what {
      add(what, node: node, at: at)
    }
    for node in after.list where !before.list.contains(node) { add(.listed, node: node, at: at) }
    for node in before.list where !after.list.contains(node) { add(.removed, node: node, at: at) }
    if let leader = after.leader, leader.term != before.leader?.term {
      add(.leads, node: leader.leader.node, at: at)
    }
    if before.isPaused != after.isPaused { add(after.isPaused ? .paused : .resumed, at: at) }
    // A store that has just been met shows nothing yet: what was known is told when it is asserted otherwise.
    if after.table.isEmpty, !before.table.isEmpty {
      after.table = before.table
    } else if before.version != after.version || before.identity != after.identity {
      compare(before.table.values, after.table.values, at: at)
    }
  }

  private static func nodes(_ view: OwnershipView, at now: Instant) -> [NodeID: What] {
    var nodes: [NodeID: What] = [:]
    for session in view.peers.sessions {
      if session.released {
        nodes[session.node] = .stopped
      } else if session.node != view.me.node, view.peers.isDead(session.node, at: now) {
        nodes[session.node] = .dead
      } else {
        nodes[session.node] =
          session.status.draining ? .draining : session.status.healthy ? .alive : .unhealthy
      }
    }
    return nodes
  }

  /// Both by first serial.
  private mutating func compare(_ before: [RangeRecord], _ after: [RangeRecord], at: UInt64) {
    var (i, j) = (0, 0)
    while i < before.count || j < after.count {
      if j == after.count || (i < before.count && before[i].first < after[j].first) {
        add(.merged, before[i].piece, node: before[i].owner?.node, at: at)
        i += 1
      } else if i == before.count || after[j].first < before[i].first {
        add(before.isEmpty ? .created : .split, after[j].piece, node: after[j].owner?.node, at: at)
        j += 1
      } else {
        if before[i] != after[j] { compare(before[i], after[j], at: at) }
        i += 1
        j += 1
      }
    }
  }

  private mutating func compare(_ before: RangeRecord, _ after: RangeRecord, at: UInt64) {
    if before.owner?.node != after.owner?.node, let owner = after.owner?.node {
      let isMove = before.move?.to == owner
      if isMove, let began = movesBegan.removeValue(forKey: before.move?.number ?? 0) {
        moveLengths.append(at - min(began, at))
        if moveLengths.count > OwnershipHistory.movesMax { moveLengths.removeFirst() }
      }
      add(isMove ? .moved : .claimed, after.piece, from: before.owner?.node, node: owner, at: at)
    } else if before.move != nil, after.move == nil {
      movesBegan[before.move?.number ?? 0] = nil
      add(.backed, after.piece, from: before.move?.to, node: after.owner?.node, at: at)
    } else if before.owner != after.owner, let owner = after.owner?.node {
      // Its own, in another life.
      add(.claimed, after.piece, from: owner, node: owner, at: at)
    }
    if let move = after.move, before.move != move {
      movesBegan[move.number] = at
      add(.moving, after.piece, from: after.owner?.node, node: move.to, at: at)
    }
  }

  private mutating func add(
    _ what: What, _ range: OwnedRange? = nil, from: NodeID? = nil, node: NodeID? = nil, at: UInt64
  ) {
    last += 1
    // Half at a time: dropping the first one by one would move all of them each time.
    if entries.count >= OwnershipHistory.entriesMax {
      entries.removeFirst(OwnershipHistory.entriesMax / 2)
    }
    entries.append(Entry(number: last, at: at, what: what, range: range, from: from, node: node))
  }
}

extension Array {
  /// The first index from which on all elements satisfy what none before it does.
  fileprivate func partitioningIndex(where isBehind: (Element) -> Bool) -> Int {
    var (low, high) = (0, self.count)
    while low < high {
      let middle = (low + high) / 2
      if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

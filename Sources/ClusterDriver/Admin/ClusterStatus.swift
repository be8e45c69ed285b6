import DriverProtocol
import Election
import SwiftProtobuf

extension Clusterdriver_V1_ClusterStatus {
  init(_ view: OwnershipView, withRanges: Bool, at now: Instant) {
    self.init()
    self.nodeID = view.me.node.name
    self.store = view.identity?.text ?? ""
    self.leader = view.leader.map(\.leader.node.name) ?? ""
    self.term = view.leader?.term.rawValue ?? 0
    self.list = view.list.number
    self.actingByPromises = view.actsByPromises
    if let until = view.validUntil, now < until {
      self.leaseMs = UInt64((until - now).wholeNanoseconds / 1_000_000)
    }
    var owned: [NodeID: (ranges: UInt64, weight: UInt64)] = [:]
    for record in view.table.values {
      guard let owner = record.owner?.node else { continue }
      owned[owner, default: (0, 0)].ranges += 1
      owned[owner, default: (0, 0)].weight += record.load.weight
    }
    let names = Set(view.peers.sessions.map(\.node)).union(view.list.nodes).union(owned.keys)
    self.members = names.sorted().map { node in
      var member = Clusterdriver_V1_ClusterMember(node, of: view, at: now)
      member.ranges = owned[node]?.ranges ?? 0
      member.weight = owned[node]?.weight ?? 0
      return member
    }
    self.paused = view.isPaused
    self.removed = view.list.removed.map(\.name)
    self.unserved = UInt64(view.table.values.count { !view.isServed($0, at: now) })
    guard withRanges else { return }
    self.ranges = view.table.values.sorted { $0.first < $1.first }.map {
      Clusterdriver_V1_ClusterRange($0)
    }
  }
}

extension Clusterdriver_V1_ClusterPlan {
  init(_ view: OwnershipView, moves: [Planner.Move], moveMs: UInt64?) {
    self.init()
    self.nodeID = view.me.node.name
    self.moves = moves.map { move in
      .with {
        $0.first = move.range.rawValue
        $0.last = view.table[move.range]?.last.rawValue ?? move.range.rawValue
        $0.from = move.from.name
        $0.to = move.to.name
        $0.weight = move.weight
        $0.reason = move.reason == .drain ? "drain" : "balance"
      }
    }
    self.underWay = UInt32(view.table.values.count { $0.move != nil })
    self.moveMs = moveMs ?? 0
    let length = Duration.milliseconds(Int64(clamping: self.moveMs))
    self.timeLeftMs = view.movingTime(of: moves, length: length).microseconds / 1000
    self.paused = view.isPaused
  }
}

extension Clusterdriver_V1_ClusterHistory {
  init(_ me: Owner, _ entries: ArraySlice<OwnershipHistory.Entry>) {
    self.init()
    self.nodeID = me.node.name
    self.incarnation = me.incarnation.rawValue
    self.changes = entries.map { entry in
      .with {
        $0.number = entry.number
        $0.atMs = entry.at
        $0.what = entry.what.rawValue
        $0.first = entry.range?.first.rawValue ?? 0
        $0.last = entry.range?.last.rawValue ?? 0
        $0.epoch = entry.range?.epoch.rawValue ?? 0
        $0.from = entry.from?.name ?? ""
        $0.node = entry.node?.name ?? ""
      }
    }
  }
}

extension Clusterdriver_V1_ClusterMember {
  fileprivate init(_ node: NodeID, of view: OwnershipView, at now: Instant) {
    self.init()
    self.nodeID = node.name
    self.listed = view.list.added[node] != nil
    guard let session = view.peers.session(of: node) else {
      self.state = "missing"
      return
    }
    self.incarnation = session.value.incarnation.rawValue
    self.controllersAt = session.status.controllersAt
    self.peersAt = session.status.peersAt
    self.version = session.status.version
    if session.released {
      self.state = "stopped"
    } else if node != view.me.node, view.peers.isDead(node, at: now) {
      self.state = "dead"
    } else {
      self.state =
        session.status.draining ? "draining" : session.status.healthy ? "alive" : "unhealthy"
    }
  }
}

extension Clusterdriver_V1_ClusterRange {
  fileprivate init(_ record: RangeRecord) {
    self.init()
    self.first = record.first.rawValue
    self.last = record.last.rawValue
    self.owner = record.owner?.node.name ?? ""
    self.epoch = record.epoch.rawValue
    self.weight = record.load.weight
    self.successors = record.successors.map(\.name)
    self.movingTo = record.move?.to.name ?? ""
  }
}

extension OwnershipView {
  /// Whether the range's owner is there, in the life in which it became the owner.
  fileprivate func isServed(_ record: RangeRecord, at now: Instant) -> Bool {
    guard let owner = record.owner else { return false }
    if owner == self.me { return true }
    guard let session = self.peers.session(of: owner.node), !session.released else { return false }
    return session.value.incarnation == owner.incarnation
      && !self.peers.isDead(owner.node, at: now)
  }
}

/// What a node of a cluster tells of the slots, as far as it matters to a link.
struct SlotView: Sendable, Equatable {
  /// Who serves the link's slot; nil: nobody.
  var master: RedisAddress?
  /// Whom else to ask, at most `ClusterTalk.namedMax`: the slot's replicas, its master, then others.
  var nodes: [RedisAddress]
}

/// What is said to a node of a cluster to find who serves a slot, and what its replies mean. CLUSTER
/// SLOTS, which every version knows.
///
/// Pure. One for each connection.
struct ClusterTalk {
  /// As many others as are remembered.
  static let namedMax = 16

  private let slot: RedisSlot
  private let asked: RedisAddress
  private var isAuthDue = false

  init(slot: RedisSlot, at asked: RedisAddress) {
    self.slot = slot
    self.asked = asked
  }

  mutating func greet(user: String?, password: String?) -> [UInt8] {
    let question = RedisCommand("CLUSTER", "SLOTS").wire
    guard let password else { return question }
    isAuthDue = true
    return RedisCommand.auth(user: user, password: password).wire + question
  }

  /// What a reply means; nil: nothing that matters.
  mutating func hear(_ value: RedisValue) throws(RedisFailure) -> SlotView? {
    if case .error(let error) = value { throw .refused(error) }
    if isAuthDue, case .status = value {
      isAuthDue = false
      return nil
    }
    guard !isAuthDue, let ranges = value.array else {
      throw .protocolViolation("\(value.summary) where a cluster's slots were due")
    }
    return try view(of: ranges)
  }

  /// Each range is its first and last slot, its master, and its replicas.
  private func view(of ranges: [RedisValue]) throws(RedisFailure) -> SlotView {
    var ours: [RedisValue] = []
    for range in ranges {
      guard let parts = range.array, parts.count >= 3, case .integer(let first) = parts[0],
        case .integer(let last) = parts[1]
      else { throw .protocolViolation("\(range.summary) where a range of slots was due") }
      if (first...max(first, last)).contains(Int64(slot.number)) { ours = Array(parts[2...]) }
    }
    var view = SlotView(nodes: [])
    if let first = ours.first {
      guard let master = address(first) else {
        throw .protocolViolation(
          "a node named a master without usable host and port (see cluster-announce-hostname and"
            + " cluster-preferred-endpoint-type)")
      }
      view.master = master
    }
    var seen: Set<RedisAddress> = []
    func note(_ nodes: some Sequence<RedisValue>) {
      for node in nodes where view.nodes.count < Self.namedMax {
        if let address = address(node), seen.insert(address).inserted { view.nodes.append(address) }
      }
    }
    note(ours.dropFirst())
    note(ours.prefix(1))
    for range in ranges where view.nodes.count < Self.namedMax {
      note((range.array ?? []).dropFirst(2))
    }
    return view
  }

  /// Host and port of a node. A node that does not know how others reach it says null: it is where
  /// it was asked.
  private func address(_ node: RedisValue) -> RedisAddress? {
    guard let parts = node.array, parts.count >= 2 else { return nil }
    let host = parts[0].string ?? ""
    // Of a node that has no name where names are preferred.
    if host == "?" { return nil }
    return RedisAddress(named: host.isEmpty ? asked.host : host, parts[1].int64)
  }
}

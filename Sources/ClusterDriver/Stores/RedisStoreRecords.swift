import Election

/// The records as lines of words. The scripts read and write the same lines.
extension StoreWords {
  /// `first last epoch owner incarnation store changed weight median moveTo moveNumber successors`
  static func range(_ line: Substring) throws(StoreFailure) -> RangeRecord {
    var words = StoreWords(line)
    let first = Serial(try words.number())
    let last = Serial(try words.number())
    guard first <= last else { throw words.bad("the last serial is below the first") }
    var record = RangeRecord(first: first, last: last)
    record.epoch = Epoch(try words.number())
    if try words.takeNone() {
      guard try words.takeNone() else { throw words.bad("an incarnation without a node") }
    } else {
      record.owner = try words.owner()
    }
    record.store = try words.identity()
    record.changed = try words.number()
    record.load = try words.load()
    if try words.takeNone() {
      guard try words.takeNone() else { throw words.bad("the number of no move") }
    } else {
      record.move = PendingMove(to: try words.node(), number: try words.number())
    }
    if try !words.takeNone() {
      for name in try words.word().split(separator: ",", omittingEmptySubsequences: false) {
        guard let name = StoreText.name(name) else { throw words.bad("a successor without a name") }
        record.successors.append(NodeID(name))
      }
    }
    try words.end()
    return record
  }

  /// `node incarnation counter released draining healthy version capacity controllersAt peersAt list
  /// knows sureOf`
  static func session(_ line: Substring) throws(StoreFailure) -> SessionRecord {
    var words = StoreWords(line)
    let node = try words.node()
    let value = SessionValue(Incarnation(try words.number()), try words.number())
    let isReleased = try words.flag()
    let status = MemberStatus(
      draining: try words.flag(), healthy: try words.flag(), version: try words.number(),
      capacity: try words.number(), controllersAt: try words.name(), peersAt: try words.name())
    let record = SessionRecord(
      node: node, value: value, released: isReleased, status: status, list: try words.number(),
      knows: try words.identity(), sureOf: try words.identity())
    try words.end()
    return record
  }

  /// `node incarnation term orders`
  static func leader(_ line: String) throws(StoreFailure) -> LeaderRecord? {
    if line == StoreText.none { return nil }
    var words = StoreWords(line)
    let record = LeaderRecord(
      leader: try words.owner(), term: Term(try words.number()), orders: try words.number())
    try words.end()
    return record
  }

  /// `number node added node added …`; 0 for those that were taken off.
  static func list(_ line: String) throws(StoreFailure) -> MemberList {
    var words = StoreWords(line)
    var list = MemberList(number: try words.number())
    while !words.isEmpty {
      let node = try words.node()
      let number = try words.number()
      if number == 0 { list.removed.append(node) } else { list.added[node] = number }
    }
    list.removed.sort()
    return list
  }

  private mutating func identity() throws(StoreFailure) -> StoreIdentity? {
    if try self.takeNone() { return nil }
    return StoreIdentity(try self.name())
  }

  private mutating func load() throws(StoreFailure) -> RangeLoad {
    let weight = try self.number()
    if try self.takeNone() { return RangeLoad(weight: weight) }
    return RangeLoad(weight: weight, median: Serial(try self.number()))
  }
}

/// The same lines, as calls bring them.
extension StoreText {
  static func line(_ owner: Owner) -> String {
    "\(self.token(owner.node.name)) \(owner.incarnation.rawValue)"
  }

  static func line(_ range: OwnedRange) -> String {
    "\(range.first.rawValue) \(range.last.rawValue) \(range.epoch.rawValue)"
  }

  static func line(_ status: MemberStatus) -> String {
    "\(status.draining ? 1 : 0) \(status.healthy ? 1 : 0) \(status.version) \(status.capacity)"
      + " \(self.token(status.controllersAt)) \(self.token(status.peersAt))"
  }

  static func line(_ list: MemberList) -> String {
    let nodes = list.added.map { ($0.key, $0.value) } + list.removed.map { ($0, 0) }
    return nodes.sorted { $0.0 < $1.0 }.reduce("\(list.number)") {
      "\($0) \(self.token($1.0.name)) \($1.1)"
    }
  }

  static func line(_ load: RangeLoad) -> String {
    "\(load.weight) \(load.median.map { "\($0.rawValue)" } ?? self.none)"
  }

  /// `node incarnation counter`; of a session that is missing `node ~ ~`, of none at all `~ ~ ~`.
  static func line(_ watched: StoreCall.Watched?) -> String {
    guard let watched else { return "~ ~ ~" }
    let node = self.token(watched.node.name)
    guard let value = watched.value else { return "\(node) ~ ~" }
    return "\(node) \(value.incarnation.rawValue) \(value.counter)"
  }

  static func line(_ successors: [NodeID]) -> String {
    successors.isEmpty
      ? self.none : successors.map { self.token($0.name) }.joined(separator: ",")
  }

  static func line(_ action: LeaderAction) -> String {
    switch action {
    case .createRanges(let ranges):
      ranges.reduce(into: "create") { $0 += " " + self.line($1) }
    case .startMove(let range, let from, let to):
      "startMove \(range.rawValue) \(self.line(from)) \(self.token(to.name))"
    case .cancelMove(let range, let number):
      "cancelMove \(range.rawValue) \(number)"
    case .setSuccessors(let range, let nodes):
      "setSuccessors \(range.rawValue) \(self.line(nodes))"
    case .split(let range, let at):
      "split \(range.rawValue) \(at.rawValue)"
    case .merge(let range):
      "merge \(range.rawValue)"
    case .addMember(let node):
      "addMember \(self.token(node.name))"
    case .removeMember(let watched, let list):
      "removeMember \(self.line(watched)) \(list)"
    }
  }
}

import Election
import RedisLink

extension StoreReply {
  /// Reads what a script has returned. Throws `.damaged` for anything that is no answer to that call.
  init(_ value: RedisValue, to call: StoreCall) throws(StoreFailure) {
    var parts = try ScriptReply(value)
    let kind = try parts.text()
    let identity = StoreIdentity(try parts.text())
    switch (kind, call) {
    case ("view", .heartbeat):
      self = .view(try parts.view(identity))
    case ("replaced", .heartbeat):
      self = .replaced(identity, by: Incarnation(try parts.number()))
    case ("ranges", .claim), ("ranges", .assert), ("ranges", .handOver):
      self = .ranges(identity, version: try parts.number(), try parts.lines(StoreWords.range))
    case ("leader", .campaign), ("leader", .lead):
      self = .leader(identity, try StoreWords.leader(parts.text()))
    case ("done", .release), ("done", .operate):
      self = .done(identity)
    case ("otherStore", _) where !call.isForAnyStore:
      self = .otherStore(identity)
    default:
      throw .damaged("a script answered \"\(kind.prefix(40))\" to another question")
    }
    try parts.end()
  }
}

/// The strings of an array, taken one by one.
private struct ScriptReply {
  private var rest: ArraySlice<RedisValue>

  init(_ value: RedisValue) throws(StoreFailure) {
    guard let parts = value.array else { throw .damaged("a script returned no list") }
    self.rest = parts[...]
  }

  mutating func text() throws(StoreFailure) -> String {
    guard let part = self.rest.popFirst() else { throw .damaged("a script returned too little") }
    guard case .bytes(let bytes) = part, let text = String(validating: bytes, as: UTF8.self) else {
      throw .damaged("a script returned something else than text")
    }
    return text
  }

  mutating func number() throws(StoreFailure) -> UInt64 {
    var words = StoreWords(try self.text())
    return try words.number()
  }

  mutating func lines<Value>(
    _ read: (Substring) throws(StoreFailure) -> Value
  ) throws(StoreFailure) -> [Value] {
    let text = try self.text()
    var values: [Value] = []
    var rest = text[...]
    while let newline = rest.utf8.firstIndex(of: UInt8(ascii: "\n")) {
      values.append(try read(rest[..<newline]))
      rest = rest[rest.utf8.index(after: newline)...]
    }
    if !rest.isEmpty { values.append(try read(rest)) }
    return values
  }

  mutating func view(_ identity: StoreIdentity) throws(StoreFailure) -> StoreView {
    let version = try self.number()
    let isWhole = try self.number() == 1
    let isPaused = try self.number() == 1
    let leader = try StoreWords.leader(self.text())
    let list = try StoreWords.list(self.text())
    let sessions = try self.lines(StoreWords.session).sorted { $0.node < $1.node }
    let ranges = try self.lines(StoreWords.range).sorted { $0.first < $1.first }
    for (one, next) in zip(ranges, ranges.dropFirst()) where next.first <= one.last {
      throw .damaged("the ranges \(one.first) … \(one.last) and \(next.first) overlap")
    }
    let removed = try self.lines { (line) throws(StoreFailure) in
      var words = StoreWords(line)
      return Serial(try words.number())
    }
    return StoreView(
      identity: identity, version: version, sessions: sessions, leader: leader, list: list,
      ranges: ranges, removed: removed, isWhole: isWhole, isPaused: isPaused)
  }

  func end() throws(StoreFailure) {
    if !self.rest.isEmpty { throw .damaged("a script returned too much") }
  }
}

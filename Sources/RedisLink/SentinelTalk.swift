/// What is said to a sentinel, and what its replies mean.
///
/// Asking and listening share a connection. A listening one takes no other command (RESP2), so it
/// is let go and taken up again around the question, in one piece: the sentinel carries that out
/// without doing anything else in between, and no switch falls into the gap.
///
/// Pure. One for each connection.
struct SentinelTalk {
  enum News: Equatable {
    case answered(SentinelMachine.Answer)
    case listening
    case switched(to: RedisAddress)
  }

  private enum Due {
    case auth
    case master
    case subscribed
    case unsubscribed
  }

  private static let channel = "+switch-master"
  private let place: RedisSentinels
  private var due = Queue<Due>()
  private var pingsSent = 0

  init(_ place: RedisSentinels) {
    self.place = place
  }

  mutating func greet() -> [UInt8] {
    guard let password = place.password else { return ask([]) }
    due.append(.auth)
    return RedisCommand.auth(user: place.user, password: password).wire + ask([])
  }

  mutating func askAgain() -> [UInt8] {
    due.append(.unsubscribed)
    return ask(RedisCommand("UNSUBSCRIBE", .string(Self.channel)).wire)
  }

  private mutating func ask(_ before: [UInt8]) -> [UInt8] {
    due.append(.master)
    due.append(.subscribed)
    return before
      + RedisCommand("SENTINEL", "get-master-addr-by-name", .string(place.master)).wire
      + RedisCommand("SUBSCRIBE", .string(Self.channel)).wire
  }

  mutating func ping() -> [UInt8] {
    pingsSent += 1
    return pingCommand.wire
  }

  /// What a reply means; nil: nothing that matters.
  mutating func hear(_ value: RedisValue) throws(RedisFailure) -> News? {
    if case .error(let error) = value { throw .refused(error) }
    let words = value.array?.map(\.string) ?? []
    if words.count == 3, words[0] == "message" { return try switched(words[2] ?? "") }
    if pingsSent > 0, words.first == "pong" || value == .status("PONG") {
      pingsSent -= 1
      return nil
    }
    switch (due.popFirst(), value) {
    case (.auth, .status): return nil
    case (.master, .null): return .answered(.unknownName)
    case (.master, .array) where words.count == 2:
      return .answered(.master(try address(words[0], words[1])))
    case (.subscribed, .array) where words.first == "subscribe": return .listening
    case (.unsubscribed, .array) where words.first == "unsubscribe": return nil
    default: throw .protocolViolation("\(value.summary) from a sentinel")
    }
  }

  /// `name old-host old-port new-host new-port`, of ours or another master.
  private func switched(_ text: String) throws(RedisFailure) -> News? {
    let words = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
    guard words.first == place.master else { return nil }
    guard words.count == 5 else { throw .protocolViolation("a switch of \(words.count) words") }
    return .switched(to: try address(words[3], words[4]))
  }

  private func address(_ host: String?, _ port: String?) throws(RedisFailure) -> RedisAddress {
    guard let address = RedisAddress(named: host, port.flatMap { Int64($0) })
    else { throw .protocolViolation("a sentinel named a master without usable host and port") }
    return address
  }
}

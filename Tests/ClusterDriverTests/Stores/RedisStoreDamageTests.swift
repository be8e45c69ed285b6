import Election
import RedisLink
import Testing

@testable import ClusterDriver

@Suite("What others write into the store's keys is told, never taken for truth")
struct RedisStoreDamageTests {
  private let me = Owner(NodeID("a"), Incarnation(1))
  private let members = MemberList(number: 1, added: [NodeID("a"): 1])

  private var heartbeat: StoreCall {
    .heartbeat(StoreCall.Heartbeat(owner: me, counter: 1, list: members))
  }

  /// The failure of a call after somebody has run `command`, where `K0` … `K4` are the keys.
  private func failure(
    after command: [String], _ call: StoreCall? = nil
  ) async throws -> StoreFailure? {
    let (store, link, keys) = try StoreServer.shared.get().store()
    defer { link.close() }
    let identity = try await store.run(heartbeat, for: nil).identity
    let held = [piece(1, 100, 7), piece(101, 200, 7)]
    _ = try await store.run(.assert(me, held), for: identity)
    _ = try await store.run(.campaign(me, hint: .none, watched: nil), for: identity)
    let words = command.dropFirst().map { word -> RedisArgument in
      if word.count == 2, word.first == "K", let key = Int(word.dropFirst()) {
        return .string(keys[key])
      }
      return .string(word)
    }
    if words.contains(.string(keys[0])) == false, command.first == "SET" {
      _ = try await link.send(RedisCommand("DEL", words[0]))
    }
    _ = try await link.send(RedisCommand(command[0], words))
    do {
      _ = try await store.run(call ?? heartbeat, for: identity)
      return nil
    } catch {
      return error
    }
  }

  @Test("a key of another type is named", arguments: 0..<5)
  func wrongType(_ key: Int) async throws {
    let failure = try await failure(after: ["SET", "K\(key)", "mine"])
    guard case .damaged(let text) = failure else {
      Issue.record("not told: \(String(describing: failure))")
      return
    }
    let name = ["state", "ranges", "serials", "changes", "gone"][key]
    #expect(text.contains("}:\(name) is a string where a"))
  }

  @Test(
    "a record that nobody of us has written is told with its key",
    arguments: [
      ["HSET", "K1", "1", "nonsense"],
      ["HSET", "K1", "1", ""],
      ["HSET", "K1", "1", "1 100 7 a 1 ~ 1 1 ~ ~ ~"],
      ["HSET", "K1", "1", "100 1 7 a 1 ~ 1 1 ~ ~ ~ ~"],
      ["HSET", "K1", "1", "1 150 7 a 1 ~ 1 1 ~ ~ ~ ~"],
      ["HSET", "K1", "1", "1 99999999999999999999 7 a 1 ~ 1 1 ~ ~ ~ ~"],
      ["HSET", "K1", "1", "1 100 7 a ~ ~ 1 1 ~ ~ ~ ~"],
      ["HSET", "K1", "1", "1 100 7 %zz 1 ~ 1 1 ~ ~ ~ ~"],
      ["HSET", "K1", "1", "1 100 7 a 1 ~ 1 1 ~ ~ ~ x,,y"],
      ["HSET", "K1", "1", "1 100 7 a 1 ~ 1 1 ~ ~ ~ ~ \u{0}"],
      ["HSET", "K1", "7", "1 100 7 a 1 ~ 1 1 ~ ~ ~ ~"],
      ["HDEL", "K1", "1"],
      ["ZADD", "K2", "0", "00000000000000000007"],
      ["ZREM", "K3", "1"],
      ["ZADD", "K4", "1", "x"],
      ["HSET", "K0", "version", "x"],
      ["HSET", "K0", "version", "9007199254740992"],
      ["HSET", "K0", "version", "-1"],
      ["HSET", "K0", "ranges", ""],
      ["HSET", "K0", "since", "1e3"],
      ["HSET", "K0", "list", "many"],
      ["HSET", "K0", "list", "3 a"],
      ["HSET", "K0", "leader", "nobody"],
      ["HDEL", "K0", "leader"],
      ["HSET", "K0", "s:a", "x"],
      ["HSET", "K0", "s:b", "1 2"],
    ])
  func badRecord(_ command: [String]) async throws {
    let failure = try await failure(after: command)
    guard case .damaged = failure else {
      Issue.record("not told: \(String(describing: failure))")
      return
    }
  }

  @Test(
    "a call that meets a bad record is not carried out in part",
    arguments: [["HSET", "K1", "101", "nonsense"], ["HSET", "K1", "101", "101 9 1 a 1 ~ 1"]])
  func whole(_ command: [String]) async throws {
    let (store, link, keys) = try StoreServer.shared.get().store()
    defer { link.close() }
    let identity = try await store.run(heartbeat, for: nil).identity
    _ = try await store.run(.assert(me, [piece(1, 100, 7), piece(101, 200, 7)]), for: identity)
    _ = try await store.run(.campaign(me, hint: .none, watched: nil), for: identity)
    let good = try await link.send(RedisCommand("HGET", .string(keys[1]), "1"))
    let words = [RedisArgument.string(keys[1])] + command.dropFirst(2).map { .string($0) }
    _ = try await link.send(RedisCommand(command[0], words))
    let state = try await link.send(RedisCommand("HGETALL", .string(keys[0])))
    let both = [piece(1, 100, 9), piece(101, 200, 9)]
    let calls: [StoreCall] = [
      .claim(StoreCall.Claim(claimer: me, list: 1, watched: nil, ranges: both)),
      .assert(me, both),
      .lead(
        me, Term(1), order: 1,
        [.setSuccessors(range: Serial(1), [me.node]), .createRanges([piece(1, 500)])]),
      .lead(
        me, Term(1), order: 1, [.split(range: Serial(1), at: Serial(9)), .merge(range: Serial(9))]),
    ]
    for call in calls {
      await #expect(throws: StoreFailure.self) { try await store.run(call, for: identity) }
      #expect(try await link.send(RedisCommand("HGET", .string(keys[1]), "1")) == good)
      #expect(try await link.send(RedisCommand("HGETALL", .string(keys[0]))) == state)
      #expect(try await link.send(RedisCommand("ZCARD", .string(keys[2]))) == .integer(2))
    }
  }

  @Test("replies that no script of ours gives are refused")
  func replies() {
    let beat = heartbeat
    let bad: [RedisValue] = [
      .null, .status("OK"), .array([]), .array([.integer(1)]), .array([.bytes(Array("view".utf8))]),
      .array(["view", "i", "1", "1", "~", "0"].map { .bytes(Array($0.utf8)) }),
      .array(["done", "i"].map { .bytes(Array($0.utf8)) }),
      .array(["otherStore", "i"].map { .bytes(Array($0.utf8)) }),
      .array([.bytes([0xff]), .bytes([0x41])]),
    ]
    for value in bad {
      #expect(throws: StoreFailure.self) { try StoreReply(value, to: beat) }
    }
  }

  @Test("a store nobody listens for fails at once, and says so")
  func unreachable() async throws {
    let server = try StoreServer()
    server.stop()
    let link = try RedisLink(
      RedisURL(host: "127.0.0.1", port: server.port),
      options: RedisStore.linkOptions(cluster: "x", timeout: .seconds(20)))
    defer { link.close() }
    let store = RedisStore(link: link, cluster: "x", timeout: .seconds(20))
    do {
      _ = try await store.run(heartbeat, for: nil)
      Issue.record("answered by nobody")
    } catch {
      guard case .unreachable = error else {
        Issue.record("\(error)")
        return
      }
    }
  }

  @Test("any name comes back as it was")
  func names() {
    for name in ["a", "", "%", "~", "a b", "a,b", "ü\u{1F512}", "[::1]:5001", "\n\u{0}", "%41"] {
      let token = StoreText.token(name)
      #expect(StoreText.name(Substring(token)) == name)
      #expect(!token.isEmpty && token != StoreText.none)
      #expect(!token.utf8.contains { $0 <= 32 || $0 == UInt8(ascii: ",") })
    }
    for text in ["%4", "%zz", "a b", "~", "%ff"] { #expect(StoreText.name(Substring(text)) == nil) }
  }
}

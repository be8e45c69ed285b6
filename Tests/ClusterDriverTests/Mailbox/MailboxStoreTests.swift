import DriverProtocol
import Election
import Glibc
import RedisLink
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// A mailbox in a real Redis, under keys of its own.
final class MailboxScene: Sendable {
  static let post = RedisScript(
    {
      let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
      guard let file = fopen("/\(root)/Docs/clients/mailbox_post.lua", "r") else { return "" }
      defer { fclose(file) }
      var text: [UInt8] = []
      while case let byte = getc(file), byte != EOF { text.append(UInt8(byte)) }
      return String(decoding: text, as: UTF8.self)
    }())

  static let me = Owner(NodeID("gate-1:5001"), Incarnation(7))
  static let range = OwnedRange(first: Serial(1), last: Serial(.max - 1), epoch: Epoch(3))
  private static let scenes = Atomic<Int>(0)

  let link: RedisLink
  let store: MailboxStore
  let cluster: String
  /// Index, letters, marks, ranges, ended.
  let keys: [String]

  init(_ server: StoreServer) throws {
    self.cluster = "mail \(MailboxScene.scenes.add(1, ordering: .relaxed).newValue)"
    self.link = try server.link(cluster: self.cluster)
    self.store = MailboxStore(link: self.link, cluster: self.cluster, owner: MailboxScene.me)
    self.keys = MailboxStore.keys(cluster: self.cluster)
  }

  /// Whose the range is, by the ownership store's record.
  func own(by owner: Owner = MailboxScene.me, _ range: OwnedRange = MailboxScene.range) async throws
  {
    let record =
      "\(range.first) \(range.last) \(range.epoch.rawValue) \(owner.node.name)"
      + " \(owner.incarnation.rawValue) x 1 0 ~ ~ ~ ~"
    _ = try await self.link.send(
      RedisCommand("HSET", .string(self.keys[3]), .string("\(range.first)"), .string(record)))
  }

  /// What is said, or the error's text.
  func post(_ serial: String, _ id: String, _ body: [UInt8]) async -> String {
    let keys = [0, 1, 2, 4].map { RedisArgument.string(self.keys[$0]) }
    do {
      return try await self.link.run(
        MailboxScene.post, keys: keys, arguments: [.string(serial), .string(id), .bytes(body)]
      ).string ?? "nothing"
    } catch RedisError.server(let answer) {
      return answer.message
    } catch {
      return "\(error)"
    }
  }

  func run(_ call: MailboxCall) async -> MailboxReply {
    await withCheckedContinuation { done in
      self.store.run(call) { reply, _ in done.resume(returning: reply) }
    }
  }

  func letters() async throws -> [Letter] {
    let texts = try await self.link.send(
      RedisCommand("ZRANGE", .string(self.keys[0]), 0, -1)
    ).array
    return (texts ?? []).compactMap { Letter(text: $0.bytes ?? []) }
  }

  func count(_ key: Int, _ command: String) async throws -> Int64? {
    try await self.link.send(RedisCommand(command, .string(self.keys[key]))).int64
  }

  static func id(_ number: UInt64) -> CommandID { CommandID(high: 9, low: number) }
}

@Suite("The mailbox in Redis")
struct MailboxStoreTests {
  private let body = Array(#"{"queryStatus":{}}"#.utf8)

  @Test("what cannot be a letter is refused with the reason, and nothing is written")
  func refusals() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    let id = MailboxScene.id(1).hexadecimal
    for serial in ["0", "", "01", "-1", "x", "18446744073709551615", "99999999999999999999", "1e3"]
    {
      #expect(await scene.post(serial, id, self.body).contains("CDMAIL the serial must be"))
    }
    let zeros = String(repeating: "0", count: 32)
    for wrong in ["", "abc", id.uppercased() + "A", zeros, String(id.dropLast()) + "g"] {
      #expect(await scene.post("5", wrong, self.body).contains("CDMAIL the id must be"))
    }
    #expect(await scene.post("5", id, []).contains("CDMAIL the command has 0 bytes"))
    let long = [UInt8](repeating: 65, count: 8193)
    #expect(await scene.post("5", id, long).contains("8193 bytes; 1 to 8192 are allowed"))
    #expect(try await scene.letters().isEmpty)
    #expect(await scene.post("18446744073709551614", id, self.body) == "posted")
    #expect(try await scene.letters().map(\.serial) == [.max - 1])
  }

  @Test(
    "letters are in the order of serials, and within one of posting; a second of one id is none")
  func order() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    for (number, serial) in ["9007199254740993", "9007199254740992", "7", "9007199254740993", "7"]
      .enumerated()
    {
      let id = MailboxScene.id(UInt64(number + 1)).hexadecimal
      #expect(await scene.post(serial, id, self.body) == "posted")
      #expect(await scene.post(serial, id, self.body) == "waiting")
    }
    let letters = try await scene.letters()
    #expect(letters.map(\.serial) == [7, 7, 1 << 53, 1 << 53 + 1, 1 << 53 + 1])
    #expect(letters.map(\.id.low) == [3, 5, 2, 1, 4])
    #expect(letters[0].number < letters[1].number)
  }

  @Test("a box and the mailbox have limits, and say which was reached")
  func limits() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    for number in 1...256 as ClosedRange<UInt64> {
      #expect(await scene.post("5", MailboxScene.id(number).hexadecimal, self.body) == "posted")
    }
    let next = MailboxScene.id(300).hexadecimal
    #expect(await scene.post("5", next, self.body).contains("controller 5 has 256 commands"))
    #expect(await scene.post("50", next, self.body) == "posted")
    // The rest as no script would have written it, which is quicker.
    let filling = (0..<(65536 - 257)).map { RedisArgument.string("9 \($0)") }
    for from in stride(from: 0, to: filling.count, by: 8192) {
      let members = filling[from..<min(from + 8192, filling.count)].flatMap { [.integer(0), $0] }
      _ = try await scene.link.send(
        RedisCommand("ZADD", [RedisArgument.string(scene.keys[0])] + members))
    }
    let one = MailboxScene.id(400).hexadecimal
    #expect(await scene.post("6", one, self.body).contains("the mailbox is full: 65536 commands"))
  }

  @Test("only the owner of a range marks, decides and removes; others change nothing")
  func fence() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    _ = await scene.post("5", MailboxScene.id(1).hexadecimal, self.body)
    let letter = try #require(try await scene.letters().first)
    let opening = MailboxOpening(serial: 5, after: 0, count: 10, marks: true)
    let text = Array(letter.text.utf8)
    let range = MailboxScene.range
    let calls: [MailboxCall] = [
      .open([opening], by: range), .decide([letter], results: [[1]], by: range),
      .note([letter], done: [1], by: range), .remove([text], by: range),
    ]
    let others: [(Owner, OwnedRange)] = [
      (Owner(NodeID("gate-2"), MailboxScene.me.incarnation), range),
      (Owner(MailboxScene.me.node, Incarnation(70)), range),
      (MailboxScene.me, OwnedRange(first: range.first, last: range.last, epoch: Epoch(30))),
      (MailboxScene.me, OwnedRange(first: range.first, last: Serial(4), epoch: range.epoch)),
    ]
    for call in calls { #expect(await scene.run(call) == .notOwner) }
    for (owner, record) in others {
      try await scene.own(by: owner, record)
      for call in calls { #expect(await scene.run(call) == .notOwner) }
    }
    #expect(try await scene.count(2, "HLEN") == 0)
    #expect(try await scene.letters() == [letter])
    try await scene.own()
    let opened = OpenedLetter(text: text, body: self.body, mark: .none)
    #expect(await scene.run(calls[0]) == .opened([opened], read: 1))
    #expect(await scene.run(calls[1]) == .decided([.taken]))
    #expect(await scene.run(calls[2]) == .noted)
    #expect(await scene.run(calls[3]) == .removed)
    #expect(try await scene.letters().isEmpty)
    #expect(await scene.post("5", letter.id.hexadecimal, self.body) == "ended")
  }

  @Test("of two results the first stays, and the second's giver is told it")
  func firstResult() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    try await scene.own()
    _ = await scene.post("5", MailboxScene.id(1).hexadecimal, self.body)
    let letter = try #require(try await scene.letters().first)
    let never = Letter(serial: 5, number: 1, id: MailboxScene.id(2))
    let range = MailboxScene.range
    #expect(
      await scene.run(.decide([letter, never], results: [[0, 1], [2]], by: range))
        == .decided([.taken, .gone]))
    #expect(
      await scene.run(.decide([letter], results: [[9]], by: range)) == .decided([.was([0, 1])]))
    #expect(await scene.run(.remove([Array(letter.text.utf8)], by: range)) == .removed)
    #expect(await scene.run(.decide([letter], results: [[9]], by: range)) == .decided([.ended]))
    for key in [1, 2] { #expect(try await scene.count(key, "HLEN") == 0) }
  }

  @Test("what is done of a list is noted for the next owner, while it has no result")
  func notes() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    try await scene.own()
    _ = await scene.post("5", MailboxScene.id(1).hexadecimal, self.body)
    let letter = try #require(try await scene.letters().first)
    let range = MailboxScene.range
    let open = MailboxCall.open(
      [MailboxOpening(serial: 5, after: 0, count: 10, marks: true)], by: range)
    func mark() async -> OpenedLetter.Mark? {
      guard case .opened(let letters, _) = await scene.run(open) else { return nil }
      return letters.first?.mark
    }
    // Before it was given there is nothing to note.
    #expect(await scene.run(.note([letter], done: [3], by: range)) == .noted)
    #expect(await mark() == OpenedLetter.Mark.none)
    #expect(await mark() == .given(done: 0))
    #expect(await scene.run(.note([letter], done: [17], by: range)) == .noted)
    #expect(await mark() == .given(done: 17))
    #expect(await scene.run(.decide([letter], results: [[1]], by: range)) == .decided([.taken]))
    #expect(await scene.run(.note([letter], done: [18], by: range)) == .noted)
    #expect(await mark() == .result([1]))
  }

  @Test("pages are bounded in letters and bytes; what is no letter is shown, and can be removed")
  func pages() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    try await scene.own()
    let large = [UInt8](repeating: 32, count: 8000) + self.body
    for number in 1...20 as ClosedRange<UInt64> {
      _ = await scene.post(number <= 10 ? "5" : "6", MailboxScene.id(number).hexadecimal, large)
    }
    let look = [5, 6].map { MailboxOpening(serial: $0, after: 0, count: 9, marks: false) }
    guard case .opened(let letters, let read) = await scene.run(.open(look, by: nil)) else {
      Issue.record("not opened")
      return
    }
    // 64 KiB are used up by the first box.
    #expect(read == 1 && letters.count == 9)
    #expect(letters.allSatisfy { $0.body == large && $0.mark == .none })
    let junk = Array("00000000000000000005 x".utf8)
    _ = try await scene.link.send(
      RedisCommand("ZADD", .string(scene.keys[0]), 0, .bytes(junk)))
    guard case .scanned(let texts) = await scene.run(.scan(MailboxScan(first: 5, last: 5))) else {
      Issue.record("not scanned")
      return
    }
    #expect(texts.count == 11 && texts.last == junk)
    #expect(await scene.run(.remove([junk], by: MailboxScene.range)) == .removed)
    #expect(try await scene.count(0, "ZCARD") == 20)
    #expect(try await scene.count(4, "ZCARD") == 0)
  }

  @Test("a mailbox whose index has gone is empty, and takes what it had again")
  func withoutIndex() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    let id = MailboxScene.id(1).hexadecimal
    #expect(await scene.post("5", id, self.body) == "posted")
    _ = try await scene.link.send(RedisCommand("UNLINK", .string(scene.keys[0])))
    #expect(await scene.post("5", id, self.body) == "posted")
    #expect(try await scene.letters().count == 1)
    #expect(try await scene.count(1, "HLEN") == 1)
  }

  @Test("a Redis Cluster does all of it in one slot")
  func cluster() async throws {
    let scene = try MailboxScene(StoreServer.sharedCluster.get())
    try await scene.own()
    #expect(await scene.post("5", MailboxScene.id(1).hexadecimal, self.body) == "posted")
    let letter = try #require(try await scene.letters().first)
    let opening = MailboxOpening(serial: 5, after: 0, count: 10, marks: true)
    let range = MailboxScene.range
    guard case .opened(let letters, _) = await scene.run(.open([opening], by: range)) else {
      Issue.record("not opened")
      return
    }
    #expect(letters.count == 1)
    #expect(await scene.run(.decide([letter], results: [[1]], by: range)) == .decided([.taken]))
    #expect(await scene.run(.remove([Array(letter.text.utf8)], by: range)) == .removed)
    #expect(try await scene.letters().isEmpty)
  }

  @Test("a key of another type is an error, and the letters wait")
  func wrongType() async throws {
    let scene = try MailboxScene(StoreServer.shared.get())
    _ = try await scene.link.send(RedisCommand("SET", .string(scene.keys[0]), "x"))
    #expect(await scene.run(.scan(MailboxScan(first: 1, last: 9))) == .failed)
    #expect(await scene.post("5", MailboxScene.id(1).hexadecimal, self.body).contains("WRONGTYPE"))
  }
}

import Testing

@testable import RedisLink

@Suite struct Replies {
  private func reader(
    bytesMax: Int = 1 << 20, elementsMax: Int = 1000, payloadBytesMax: Int = .max
  ) throws -> ReplyReader {
    try ReplyReader(
      bytesMax: bytesMax, elementsMax: elementsMax, payloadBytesMax: payloadBytesMax)
  }

  private func feed(_ text: String, to reader: ReplyReader) throws {
    try Array(text.utf8).withUnsafeBytes { bytes in try reader.feed(bytes) }
  }

  private func all(_ reader: ReplyReader) throws -> [RedisValue] {
    var values: [RedisValue] = []
    while let value = try reader.next() { values.append(value) }
    return values
  }

  private static let wire =
    "+OK\r\n:-12\r\n$5\r\nhello\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n-WRONGTYPE no\r\n"
    + "*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n$-1\r\n*1\r\n-ERR in\r\n:7\r\n"

  private static let values: [RedisValue] = [
    .status("OK"), .integer(-12), .bytes(Array("hello".utf8)), .bytes([]), .null, .null, .array([]),
    .error(RedisServerError(message: "WRONGTYPE no")),
    .array([.integer(1), .array([.bytes([97]), .array([])]), .null]),
    .array([.error(RedisServerError(message: "ERR in"))]), .integer(7),
  ]

  @Test("the same replies come out wherever the stream is cut")
  func cuts() throws {
    let bytes = Array(Self.wire.utf8)
    for cut in 0...bytes.count {
      let reader = try reader()
      try bytes[..<cut].withUnsafeBytes { try reader.feed($0) }
      var values = try all(reader)
      try bytes[cut...].withUnsafeBytes { try reader.feed($0) }
      values += try all(reader)
      #expect(values == Self.values)
    }
    let reader = try reader()
    var values: [RedisValue] = []
    for byte in bytes {
      try [byte].withUnsafeBytes { try reader.feed($0) }
      values += try all(reader)
    }
    #expect(values == Self.values)
  }

  @Test(
    "what is not the protocol is refused, not guessed at",
    arguments: [
      "hello\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "$x\r\n", "*-2\r\n", "\0\0\0\0\r\n",
    ])
  func junk(text: String) throws {
    let reader = try reader()
    try feed(text, to: reader)
    #expect(throws: RedisFailure.self) { try all(reader) }
  }

  @Test("arrays may nest, but not without end")
  func nesting() throws {
    let deep = try reader()
    try feed(String(repeating: "*1\r\n", count: 7) + ":1\r\n", to: deep)
    #expect(try deep.next() != nil)
    let reader = try reader()
    try feed(String(repeating: "*1\r\n", count: 100), to: reader)
    #expect(throws: RedisFailure.self) { try all(reader) }
  }

  @Test("a reply beyond the limit of bytes is refused while it comes in, not when it is there")
  func tooManyBytes() throws {
    let reader = try reader(bytesMax: 100_000)
    try feed("$200000\r\n", to: reader)
    #expect(try reader.next() == nil)
    let piece = String(repeating: "x", count: 10_000)
    var fed = 0
    #expect(throws: RedisFailure.replyTooLarge) {
      while fed < 200_000 {
        try feed(piece, to: reader)
        fed += 10_000
        _ = try reader.next()
      }
    }
    #expect(fed <= 110_000)
  }

  @Test("the elements of an array count together")
  func tooManyBytesInPieces() throws {
    let reader = try reader(bytesMax: 100_000)
    try feed("*1000\r\n", to: reader)
    let element = "$1000\r\n" + String(repeating: "x", count: 1000) + "\r\n"
    var count = 0
    #expect(throws: RedisFailure.replyTooLarge) {
      while count < 200 {
        try feed(element, to: reader)
        count += 1
        _ = try reader.next()
      }
    }
    #expect(count <= 101)
  }

  @Test("an array announced as too long is refused before any room is made for it")
  func tooManyElements() throws {
    for text in ["*1001\r\n", "*2147483647\r\n", "*1\r\n*1001\r\n"] {
      let reader = try reader()
      try feed(text, to: reader)
      #expect(throws: RedisFailure.replyTooLarge) { try all(reader) }
    }
    let reader = try reader()
    try feed("*1000\r\n", to: reader)
    #expect(try reader.next() == nil)
  }

  @Test("a payload beyond its limit is left out and its length told, for that reply only")
  func oversize() throws {
    let reader = try reader(payloadBytesMax: 3)
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nchan\r\n"
    try feed(message + "$4\r\nlong\r\n" + message + "$3\r\nfit\r\n", to: reader)
    let head: [RedisValue] = [.bytes(Array("message".utf8)), .bytes(Array("chan".utf8))]
    #expect(try reader.next() == .array(head + [.bytes([])]))
    #expect(reader.oversizeBytes == 4)
    #expect(try reader.next() == .array(head + [.bytes(Array("fit".utf8))]))
    #expect(reader.oversizeBytes == 0)
  }

  @Test("a command goes over the wire as lengths and bytes, whatever it holds")
  func commands() {
    #expect(
      RedisCommand("SET", "k\r\n", .bytes([0, 255]), -5).wire
        == Array("*4\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$2\r\n".utf8) + [0, 255]
        + Array("\r\n$2\r\n-5\r\n".utf8))
    #expect(RedisCommand("PING", "").wire == Array("*2\r\n$4\r\nPING\r\n$0\r\n\r\n".utf8))
    #expect(RedisCommand("").wire == Array("*1\r\n$0\r\n\r\n".utf8))
  }

  @Test("the greeting must be let in, but does without a name and a script")
  func greeting() {
    let url = RedisURL(host: "h", user: "u", password: "p", database: 2)
    let script = RedisScript("return 1")
    let ok = RedisValue.status("OK")
    let no = RedisValue.error(RedisServerError(message: "ERR no"))
    var greeting = Greeting(url: url, clientName: "me", scripts: [script])
    #expect(String(decoding: greeting.wire, as: UTF8.self).contains("AUTH\r\n$1\r\nu\r\n$1\r\np"))
    #expect(greeting.judge(ok) == .more)
    #expect(greeting.judge(ok) == .more)
    #expect(greeting.judge(no) == .more)
    #expect(greeting.judge(.status("PONG")) == .more)
    #expect(greeting.judge(.bytes(Array(repeating: 97, count: 40))) == .done)
    #expect(script.sha1 == String(repeating: "a", count: 40))
    for position in [0, 1, 3] {
      var greeting = Greeting(url: url, clientName: "me", scripts: [])
      for _ in 0..<position { _ = greeting.judge(ok) }
      #expect(greeting.judge(no) == .refused(.refused(RedisServerError(message: "ERR no"))))
    }
  }

  @Test(
    "a subscriber learns whence it comes, has its former connection ended, and does without either")
  func formerConnection() {
    let url = RedisURL(host: "h")
    let no = RedisValue.error(RedisServerError(message: "NOPERM no"))
    let info = Array("id=7 addr=10.0.0.1:41952 laddr=10.0.0.2:6379 fd=8".utf8)
    var first = Greeting(url: url, clientName: "", scripts: [], listens: true)
    #expect(!String(decoding: first.wire, as: UTF8.self).contains("KILL"))
    #expect(first.judge(.status("PONG")) == .more)
    #expect(first.judge(.bytes(info)) == .done)
    #expect(first.address == "10.0.0.1:41952")
    var next = Greeting(
      url: url, clientName: "", scripts: [], listens: true, former: first.address)
    #expect(String(decoding: next.wire, as: UTF8.self).contains("ADDR\r\n$14\r\n10.0.0.1:41952"))
    #expect(next.judge(.status("PONG")) == .more)
    #expect(next.judge(no) == .more)
    #expect(next.judge(no) == .done)
    #expect(next.address == nil)
  }
}

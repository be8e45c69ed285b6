import GRPCCore
import Testing

@testable import GRPCNGHTTP2

/// Random numbers that are the same every time.
private struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    self.state &+= 0x9e37_79b9_7f4a_7c15
    var z = self.state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite("Back-off")
struct BackoffTests {
  @Test("delays grow by the multiplier to the maximum, each within its jitter, the first too")
  func sequence() {
    var random = Seeded(state: 1)
    for _ in 0..<100 {
      var backoff = Backoff(NGHTTP2Backoff())
      var expected = 1.0
      for _ in 0..<15 {
        let delay = Double(backoff.next(using: &random)) / 1e9
        #expect(delay >= expected * 0.8 - 1e-6 && delay <= expected * 1.2 + 1e-6)
        expected = min(expected * 1.6, 120)
      }
      backoff.reset()
      let again = backoff.next(using: &random)
      #expect(again <= 1_200_000_000)
    }
  }

  @Test("jitter spreads clients that begin together")
  func spread() {
    var random = Seeded(state: 2)
    let first = (0..<1000).map { _ in
      var backoff = Backoff(NGHTTP2Backoff())
      return backoff.next(using: &random)
    }
    #expect(first.min()! < 850_000_000 && first.max()! > 1_150_000_000)
  }
}

/// `#expect` evaluates calls on constants only.
private final class Health {
  private var value: ConnectionHealth
  init(_ value: ConnectionHealth) { self.value = value }
  func check(_ facts: ConnectionHealth.Facts, now: UInt64) -> ConnectionHealth.Verdict {
    self.value.check(facts, now: now)
  }
  func receivedPing(at now: UInt64, streamFramesSent: UInt64) -> Bool {
    self.value.receivedPing(at: now, streamFramesSent: streamFramesSent)
  }
  func received(at now: UInt64) { self.value.received(at: now) }
  func receivedPong() { self.value.receivedPong() }
  func becameIdle(at now: UInt64) { self.value.becameIdle(at: now) }
}

@Suite("Health of a connection")
struct HealthTests {
  private let second: UInt64 = 1_000_000_000
  private func facts(
    ready: Bool = true, streams: Int = 1, backlog: Int = 0, sent: UInt64 = 0, headers: UInt64 = 0,
    unanswered: UInt64 = 0
  ) -> ConnectionHealth.Facts {
    .init(
      isReady: ready, openStreams: streams, backlog: backlog, sent: sent, headersSince: headers,
      unanswered: unanswered)
  }
  private func health(
    keepalive: NGHTTP2Keepalive? = nil, loss: Duration? = nil, maxIdle: Duration? = nil,
    minPing: Duration? = nil
  ) -> Health {
    Health(
      ConnectionHealth(
        handshakeTimeout: .seconds(10), stallTimeout: .seconds(30), keepalive: keepalive,
        lossTimeout: loss, maxIdle: maxIdle, minPingInterval: minPing, maxPingStrikes: 2, now: 0))
  }

  @Test("a peer whose host acknowledges nothing is given up, one that only takes nothing is not")
  func loss() {
    let health = self.health(loss: .seconds(2))
    #expect(
      health.check(facts(backlog: 10, unanswered: 2 * second - 1), now: second)
        == .fine(next: second + second / 4))
    #expect(health.check(facts(backlog: 10, unanswered: 2 * second), now: second) == .unanswered)
    #expect(self.health().check(facts(unanswered: 9 * second), now: second) == .fine(next: .max))
  }

  @Test("a handshake may take its time, and no longer")
  func handshake() {
    let health = self.health()
    let waiting = self.facts(ready: false, streams: 0)
    #expect(health.check(waiting, now: 9 * second) == .fine(next: 10 * second))
    #expect(
      health.check(waiting, now: 10 * second)
        == .dead("no HTTP/2 preface and SETTINGS came in time"))
  }

  @Test("a peer that takes bytes, however slowly, is not stalled; one that takes none is")
  func stall() {
    let health = self.health()
    var sent: UInt64 = 0
    for t in 0..<100 {
      sent += 1
      let verdict = health.check(facts(backlog: 10, sent: sent), now: UInt64(t) * 20 * second)
      if case .dead = verdict { Issue.record("dead although it makes progress") }
    }
    let last = 99 * 20 * second
    #expect(
      health.check(facts(backlog: 10, sent: sent), now: last + 29 * second)
        == .fine(next: last + 30 * second))
    #expect(
      health.check(facts(backlog: 10, sent: sent), now: last + 30 * second)
        == .dead("the peer takes no more bytes"))
  }

  @Test("a quiet peer is pinged, and given up when it does not answer")
  func keepalive() {
    let health = self.health(keepalive: .init(interval: .seconds(20), timeout: .seconds(5)))
    #expect(health.check(facts(), now: 19 * second) == .fine(next: 20 * second))
    #expect(health.check(facts(), now: 20 * second) == .ping(next: 25 * second))
    health.receivedPong()
    health.received(at: 21 * second)
    #expect(health.check(facts(), now: 22 * second) == .fine(next: 41 * second))
    #expect(health.check(facts(), now: 41 * second) == .ping(next: 46 * second))
    #expect(health.check(facts(), now: 46 * second) == .dead("a PING was not answered"))
  }

  @Test("without RPCs there are no pings, unless asked for")
  func quietWithoutCalls() {
    let health = self.health(keepalive: .init(interval: .seconds(20)))
    #expect(health.check(facts(streams: 0), now: 100 * second) == .fine(next: .max))
    let eager = self.health(keepalive: .init(interval: .seconds(20), withoutCalls: true))
    #expect(eager.check(facts(streams: 0), now: 100 * second) == .ping(next: 120 * second))
  }

  @Test("a connection without RPCs is ended after its idle time, counted from the last one")
  func idle() {
    let health = self.health(maxIdle: .seconds(60))
    #expect(health.check(facts(streams: 0), now: 59 * second) == .fine(next: 60 * second))
    #expect(health.check(facts(streams: 1), now: 60 * second) == .fine(next: .max))
    health.becameIdle(at: 100 * second)
    #expect(health.check(facts(streams: 0), now: 160 * second) == .idle)
  }

  @Test("PINGs that follow data are no offence; more than two without any are")
  func strikes() {
    let health = self.health(minPing: .seconds(5))
    for i in 0..<100 {
      #expect(health.receivedPing(at: UInt64(i), streamFramesSent: UInt64(i)))
    }
    #expect(health.receivedPing(at: 101, streamFramesSent: 99))
    #expect(health.receivedPing(at: 102, streamFramesSent: 99))
    #expect(!health.receivedPing(at: 103, streamFramesSent: 99))
  }
}

@Suite("Encodings")
struct EncodingTests {
  @Test("base64 survives every length, with and without padding")
  func base64() {
    for n in 0..<70 {
      let bytes = (0..<n).map { UInt8(truncatingIfNeeded: $0 &* 77 &+ 13) }
      let text = Base64.encode(bytes)
      #expect(Base64.decode(text) == bytes)
      let padded = text + [UInt8](repeating: UInt8(ascii: "="), count: (4 - text.count % 4) % 4)
      #expect(Base64.decode(padded) == bytes)
    }
    #expect(
      String(decoding: Base64.encode(Array("any carnal pleas".utf8)), as: UTF8.self)
        == "YW55IGNhcm5hbCBwbGVhcw")
  }

  @Test(
    "what is not base64 is not decoded", arguments: ["a", "ab$c", "ab=c", "abcde", "ab===", "="])
  func badBase64(text: String) {
    #expect(Base64.decode(text.utf8) == nil)
  }

  @Test(
    "status messages survive percent-encoding",
    arguments: ["", "plain", "100 %", "ä ü\n\t\u{7f}", "\u{1F600}", "%41"])
  func percent(text: String) {
    let encoded = PercentEncoding.encode(text)
    #expect(encoded.allSatisfy { (0x20...0x7e).contains($0) })
    #expect(PercentEncoding.decode(encoded) == text)
  }

  @Test("broken escapes stay as they are")
  func brokenPercent() {
    #expect(PercentEncoding.decode(Array("a%".utf8)) == "a%")
    #expect(PercentEncoding.decode(Array("%4".utf8)) == "%4")
    #expect(PercentEncoding.decode(Array("%zz%41".utf8)) == "%zzA")
  }

  @Test("binary metadata joined by commas is taken apart; what is not base64 stays text")
  func joinedBinary() {
    var block = HeaderBlock()
    block.add("a-bin", "AAE, AgM=,_")
    let headers = block.bytes.withUnsafeBytes { ReceivedHeaders($0) }
    #expect(Array(headers.metadata["a-bin"]) == [.binary([0, 1]), .binary([2, 3]), .string("_")])
  }

  @Test("what belongs to the transport cannot be set as metadata")
  func reserved() throws {
    var block = HeaderBlock()
    try block.add([
      ":path": "/x", "TE": "x", "Grpc-Status": "0", "Connection": "close", "Mine": "y",
    ])
    let headers = block.bytes.withUnsafeBytes { ReceivedHeaders($0) }
    #expect(headers.metadata.map { $0.key } == ["mine"])
    #expect(headers.path == nil && headers.te == nil && headers.grpcStatus == nil)
  }
}

@Suite("Addresses")
struct AddressTests {
  @Test(
    "addresses are read as they are written",
    arguments: [
      ("localhost:80", NGHTTP2Address.tcp(host: "localhost", port: 80)),
      ("[::1]:5001", .tcp(host: "::1", port: 5001)), (":0", .tcp(host: "", port: 0)),
      ("unix:/run/x.sock", .unix("/run/x.sock")),
    ])
  func readable(text: String, address: NGHTTP2Address) {
    #expect(NGHTTP2Address(text) == address)
    #expect(address.description == text)
  }

  @Test(
    "what is no address is refused",
    arguments: ["", "host", "host:", "host:99999", "::1:80", "unix:"])
  func unreadable(text: String) {
    #expect(NGHTTP2Address(text) == nil)
  }
}

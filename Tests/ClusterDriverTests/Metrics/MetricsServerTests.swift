import CSystem
import Glibc
import Synchronization
import Testing

@testable import ClusterDriver

@Suite("Metrics server", .timeLimit(.minutes(1)))
struct MetricsServerTests {
  final class FakeNode: MetricsSource {
    let readinessNow = Mutex(Readiness.ready)
    let healthNow = Mutex(Health.alive)

    func metrics() -> MetricsSnapshot { MetricsPageTests.snapshot() }
    func readiness() -> Readiness { self.readinessNow.withLock { $0 } }
    func health() -> Health { self.healthNow.withLock { $0 } }
  }

  let node = FakeNode()

  func server(_ limits: MetricsServer.Limits = MetricsServer.Limits()) throws -> MetricsServer {
    try MetricsServer(
      address: HostPort(host: "127.0.0.1", port: 0), limits: limits, source: self.node)
  }

  func ask(_ server: MetricsServer, _ request: String) -> String {
    let peer = RawPeer(port: server.address.port)
    peer.send(request)
    return peer.readAll()
  }

  func get(_ server: MetricsServer, _ path: String) -> String {
    self.ask(server, "GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n")
  }

  @Test("/metrics is served in Prometheus' format, whatever the query, and the connection closed")
  func metrics() throws {
    let server = try server()
    let answer = self.get(server, "/metrics?x=1")
    #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(answer.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"))
    #expect(answer.contains("Connection: close\r\n"))
    let body = try #require(answer.firstRange(of: "\r\n\r\n"))
    #expect(PrometheusChecker(String(answer[body.upperBound...])).problems == [])
  }

  @Test("/healthz and /readyz say 200, or 503 with the reason")
  func healthAndReadiness() throws {
    let server = try server()
    #expect(self.get(server, "/healthz").hasSuffix("\r\n\r\nalive\n"))
    #expect(self.get(server, "/readyz").hasSuffix("\r\n\r\nready\n"))
    self.node.readinessNow.withLock { $0 = .notReady("starting") }
    self.node.healthNow.withLock { $0 = .stuck("an I/O thread hangs") }
    let unready = self.get(server, "/readyz")
    #expect(unready.hasPrefix("HTTP/1.1 503 ") && unready.hasSuffix("\r\n\r\nstarting\n"))
    let stuck = self.get(server, "/healthz")
    #expect(stuck.hasPrefix("HTTP/1.1 503 ") && stuck.hasSuffix("\r\n\r\nan I/O thread hangs\n"))
  }

  @Test("HEAD is GET without the body")
  func head() throws {
    let server = try server()
    let answer = self.ask(server, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(answer.contains("Content-Length: 6\r\n") && answer.hasSuffix("\r\n\r\n"))
  }

  @Test(
    "other methods and other paths are refused",
    arguments: [
      ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 "),
      ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 "),
      ("GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "),
      ("GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "),
    ])
  func refusals(request: String, start: String) throws {
    let server = try server()
    let answer = self.ask(server, request)
    #expect(answer.hasPrefix(start), "\(answer)")
    if start.contains("405") { #expect(answer.contains("Allow: GET, HEAD\r\n")) }
  }

  @Test("garbage gets no page and harms nobody else")
  func garbage() throws {
    // Some of it reads like the beginning of a request: that is closed at the deadline.
    var limits = MetricsServer.Limits()
    limits.deadlineMs = 400
    let server = try server(limits)
    for junk in ["\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "\r\n\r\n\r\n", "x y z q\r\n\r\n"] {
      let peer = RawPeer(port: server.address.port)
      peer.send(junk)
      shutdown(peer.fd, Int32(SHUT_WR))
      #expect(!peer.readAll().contains(" 200 "))
    }
    #expect(self.get(server, "/healthz").contains(" 200 "))
  }

  @Test("a request over the limit is refused, and its sender closed")
  func oversize() throws {
    var limits = MetricsServer.Limits()
    limits.requestBytesMax = 4_096
    let server = try server(limits)
    let line = self.ask(
      server, "GET /\(String(repeating: "x", count: 8_000)) HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(line.isEmpty || line.hasPrefix("HTTP/1.1 4"), "\(line)")
    let peer = RawPeer(port: server.address.port)
    peer.send("GET /metrics HTTP/1.1\r\n")
    var sent = 0
    while sent < 100_000, peer.send("X-\(sent): \(String(repeating: "y", count: 50))\r\n") {
      sent += 1
    }
    let answer = peer.readAll()
    #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 4"), "\(answer)")
    #expect(sent < 100_000)
    #expect(self.get(server, "/healthz").contains(" 200 "))
  }

  @Test("who drips a request byte by byte is cut off at the deadline, however often a byte comes")
  func slowLoris() throws {
    var limits = MetricsServer.Limits()
    limits.deadlineMs = 400
    let server = try server(limits)
    let start = csys_clock_boottime()
    let peer = RawPeer(port: server.address.port)
    peer.send("GET /metrics HTTP/1.1\r\nX: ")
    while !peer.isClosed(withinMs: 20) {
      peer.send("y")
      try #require(csys_clock_boottime() - start < 20_000_000_000, "still open")
    }
    #expect(csys_clock_boottime() - start >= 400_000_000)
  }

  @Test("silent peers hold all connections for no longer than the deadline")
  func connectionLimit() throws {
    var limits = MetricsServer.Limits()
    limits.connectionsMax = 2
    limits.deadlineMs = 400
    let server = try server(limits)
    let start = csys_clock_boottime()
    let silent = (0..<4).map { _ in RawPeer(port: server.address.port) }
    #expect(self.get(server, "/healthz").contains(" 200 "))
    // It had to wait for two of them twice.
    #expect(csys_clock_boottime() - start >= 400_000_000)
    #expect(silent.allSatisfy { $0.isClosed(withinMs: 10_000) })
  }

  @Test("freeing the server closes what is open and gives the port back")
  func free() throws {
    var server: MetricsServer? = try server()
    let port = try #require(server).address.port
    let peer = RawPeer(port: port)
    // Accepted: a later connection was answered.
    #expect(self.get(try #require(server), "/healthz").contains(" 200 "))
    server = nil
    #expect(peer.isClosed(withinMs: 10_000))
    let again = try MetricsServer(
      address: HostPort(host: "127.0.0.1", port: port), source: self.node)
    #expect(again.address.port == port)
  }

  @Test("an address that is taken, or not this machine's, is told with what to do")
  func addressTaken() throws {
    let first = try server()
    let taken = #expect(throws: MetricsServer.Failure.self) {
      try MetricsServer(address: first.address, source: self.node)
    }
    #expect(
      taken?.description == "metrics address \(first.address) is taken by another process; choose"
        + " another port with --metrics, or --metrics off")
    let foreign = #expect(throws: MetricsServer.Failure.self) {
      try MetricsServer(address: HostPort(host: "192.0.2.1", port: 0), source: self.node)
    }
    #expect(foreign?.description.contains("is not an address of this machine") == true)
  }

  @Test("pages are answered to many at once")
  func many() async throws {
    let server = try server()
    let port = server.address.port
    let answered = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<100 {
        group.addTask {
          let peer = RawPeer(port: port)
          peer.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
          return peer.readAll().contains(" 200 ")
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(answered == 100)
    withExtendedLifetime(server) {}
  }
}

import CSystem
import Testing

@testable import RedisLink

private let incr = RedisCommand("INCR", "{ours}:n")
private let slot = RedisSlot(ofKey: "{ours}")

private func options() -> RedisLinkOptions {
  var options = quickOptions()
  options.connection.slotKey = "{ours}"
  return options
}

private func link(
  to nodes: [RedisAddress], _ states: Recorder<RedisLinkState>,
  options: RedisLinkOptions = options()
) throws -> RedisLink {
  try RedisLink(RedisURL(.cluster(RedisSeeds(nodes))), options: options) { states.add($0) }
}

private func moved(to node: FakeNode) -> String { "-MOVED \(slot.number) \(node.address)\r\n" }

extension RealRedis.Cluster {
  @Test("nodes that send a command to each other without end are followed a few times, then left")
  func carousel() async throws {
    let one = try FakeNode()
    let two = try FakeNode()
    one.replies(last: moved(to: two))
    two.replies(last: moved(to: one))
    let link = try link(to: [one.address], Recorder())
    defer { link.close() }
    await #expect(throws: RedisError.notSent(.moved)) { try await link.send(incr) }
    #expect(one.commands.values.count + two.commands.values.count == Pipeline.movesMax + 1)
  }

  @Test("where a command is sent it goes at once, also of a link that does not wait")
  func followed() async throws {
    let one = try FakeNode()
    let two = try FakeNode()
    one.replies(moved(to: two))
    let states = Recorder<RedisLinkState>()
    var failing = options()
    failing.whenDown = .fail
    let link = try link(to: [one.address], states, options: failing)
    defer { link.close() }
    try await states.wait("up") { $0.last?.isUp == true }
    #expect(try await link.send(incr).isOK)
    #expect(one.commands.values.count == 1 && two.commands.values.count == 1)
    guard case .down(.moved, _, 0) = states.values[1] else {
      Issue.record("\(states.values)")
      return
    }

    // Sent to nobody: a failure like any other, told at once.
    two.replies("-MOVED \(slot.number) 127.0.0.1:\(try freePort())\r\n")
    await #expect(throws: RedisError.self) { try await link.send(incr) }
    #expect(two.commands.values.count == 2)
    // And searched for again.
    one.names(two.address)
    try await states.wait("up again") { $0.last?.isUp == true && $0.count > 3 }
    #expect(try await link.send(incr).isOK)
  }

  @Test("a server is left only when it has answered what was sent, and is sent nothing more")
  func drained() async throws {
    let one = try FakeNode()
    let two = try FakeNode()
    one.replies(last: "")
    two.replies(":1\r\n", ":3\r\n", ":4\r\n")
    let link = try link(to: [one.address], Recorder())
    defer { link.close() }
    let results = (0..<4).map { _ in Recorder<Result<RedisValue, RedisError>>() }
    for index in 0..<3 { try link.submit(incr) { results[index].add($0) } }
    try await one.commands.wait("three commands") { $0.count == 3 }
    let connection = try #require(one.connections.values.first)
    connection.send(moved(to: two))
    /// The link has seen what came before once its thread has been through two more turns.
    func seen() async throws {
      let turns = link.turns + 2
      let until = csys_clock_boottime() + 10_000_000_000
      while link.turns < turns, csys_clock_boottime() < until {
        try await Task.sleep(for: .milliseconds(2))
      }
    }
    try await seen()
    try link.submit(incr) { results[3].add($0) }
    try await seen()
    connection.send(":2\r\n" + moved(to: two))
    for (index, value) in [1, 2, 3, 4].enumerated() {
      try await results[index].wait("the end of \(value)") { !$0.isEmpty }
      #expect(results[index].values == [.success(.integer(Int64(value)))])
    }
    #expect(one.commands.values.count == 3 && two.commands.values.count == 3)
  }

  @Test("a script nobody announced follows the slot like a command")
  func unannounced() async throws {
    let one = try FakeNode()
    let two = try FakeNode()
    one.scripts(moved(to: two))
    two.scripts(":7\r\n")
    let states = Recorder<RedisLinkState>()
    let link = try link(to: [one.address], states)
    defer { link.close() }
    let script = RedisScript("return 7")
    #expect(try await link.run(script, keys: ["{ours}:n"]) == .integer(7))
    #expect(script.sha1 == FakeNode.sha1)
  }

  @Test("who may not serve the slot now is left, said why, and others' answers are taken")
  func clusterDown() async throws {
    let one = try FakeNode()
    let two = try FakeNode()
    one.replies(last: "-CLUSTERDOWN The cluster is down\r\n")
    let states = Recorder<RedisLinkState>()
    let link = try link(to: [one.address], states)
    defer { link.close() }
    try await states.wait("up") { $0.last?.isUp == true }
    let results = Recorder<Result<RedisValue, RedisError>>()
    try link.submit(incr) { results.add($0) }
    try await states.wait("refusals") { $0.count > 4 }
    #expect("\(states.values[1])".contains("redis-cli --cluster check"), "\(states.values[1])")
    #expect(results.values.isEmpty)
    one.names(two.address)
    try await results.wait("the one that waited") { !$0.isEmpty }
    #expect(results.values == [.success(.status("OK"))])
    #expect(two.commands.values.count == 1)
  }

  @Test("a command whose slot is on its way waits for it, and ends in its time with that reason")
  func onItsWay() async throws {
    let one = try FakeNode()
    let ask = "-ASK \(slot.number) 127.0.0.1:1\r\n"
    one.replies(ask, "-TRYAGAIN Multiple keys\r\n")
    let states = Recorder<RedisLinkState>()
    let patient = try link(to: [one.address], states)
    defer { patient.close() }
    #expect(try await patient.send(incr).isOK)
    #expect(one.commands.values.count == 3)
    one.replies(last: ask)
    let refused = RedisFailure.refused(
      RedisServerError(message: "ASK \(slot.number) 127.0.0.1:1"))
    var resting = options()
    resting.connection.backOffFirst = .seconds(5)
    resting.connection.backOffMost = .seconds(5)
    let rested = try link(to: [one.address], Recorder(), options: resting)
    defer { rested.close() }
    await #expect(throws: RedisError.notSent(refused)) {
      try await rested.send(incr, timeout: .milliseconds(300))
    }
    var failing = options()
    failing.whenDown = .fail
    let states2 = Recorder<RedisLinkState>()
    let impatient = try link(to: [one.address], states2, options: failing)
    defer { impatient.close() }
    try await states2.wait("up") { $0.last?.isUp == true }
    await #expect(throws: RedisError.notSent(refused)) { try await impatient.send(incr) }
    #expect("\(refused)".contains("redis-cli --cluster fix"))
  }

  @Test("nodes that answer garbage, nothing, or too late cost no more than their time")
  func broken() async throws {
    let garbage = try FakeServer { connection in
      while connection.receive() != nil { connection.send("HTTP/1.1 400 Bad Request\r\n\r\n") }
    }
    let silent = try (0..<3).map { _ in try FakeServer { $0.hold() } }
    let good = try FakeNode()
    let bad = ([garbage] + silent).map { RedisAddress(host: "127.0.0.1", port: $0.port) }
    var slow = options()
    slow.connection.connectTimeout = .seconds(1)
    slow.connection.sentinelTimeout = .milliseconds(200)
    let states = Recorder<RedisLinkState>()
    let before = csys_clock_boottime()
    let link = try link(to: bad + [good.address], states, options: slow)
    defer { link.close() }
    #expect(try await link.send(incr).isOK)
    #expect(csys_clock_boottime() - before < 900_000_000)
    #expect(states.values.count == 1)
  }
}

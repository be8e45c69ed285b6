import CSystem
import Synchronization
import Testing

@testable import RedisLink

private let ping = RedisCommand("PING")
private let incr = RedisCommand("INCR", "{ours}:n")
private let slot = RedisSlot(ofKey: "{ours}:n")
private let home = ClusterRig.owner(of: slot)
private let others = [0, 1, 2].filter { $0 != home }

/// The options of `quickOptions`, with time for a search.
private func options() -> RedisLinkOptions {
  var options = quickOptions()
  options.connection.connectTimeout = .seconds(1)
  options.connection.sentinelTimeout = .milliseconds(300)
  options.connection.slotKey = "{ours}"
  return options
}

/// A node that is alone and has no slots.
private func loneNode(_ folder: String) throws -> TestRedis {
  let port = try freePort()
  return try TestRedis("--cluster-enabled", "yes", "--cluster-port", "\(port)", "--dir", folder)
}

/// Commands that follow one another on a link, some at a time, until told to end.
private final class Load: Sendable {
  struct Count {
    var succeeded: Int64 = 0
    var notSent = 0
    var others: [RedisError] = []
  }

  private let counted = Mutex(Count())
  private let isEnding = Atomic<Bool>(false)
  private let ended = Recorder<Int>()
  private let milestones = Recorder<Int64>()
  private let width: Int
  private let command:
    @Sendable (@escaping @Sendable (Result<RedisValue, RedisError>) -> Void) throws
      -> Void

  init(
    width: Int,
    _ command:
      @escaping @Sendable (@escaping @Sendable (Result<RedisValue, RedisError>) -> Void)
      throws -> Void
  ) throws {
    self.width = width
    self.command = command
    for _ in 0..<width { try command(next) }
  }

  private func next(_ result: Result<RedisValue, RedisError>) {
    let succeeded = counted.withLock { count in
      switch result {
      case .success: count.succeeded += 1
      case .failure(.notSent): count.notSent += 1
      case .failure(let error): count.others.append(error)
      }
      return count.succeeded
    }
    if case .success = result, succeeded % 10 == 0 { milestones.add(succeeded) }
    if isEnding.load(ordering: .relaxed) { return ended.add(1) }
    do {
      try command(next)
    } catch {
      Issue.record("\(error)")
      ended.add(1)
    }
  }

  var succeeded: Int64 { counted.withLock { $0.succeeded } }

  /// Waits until `more` have succeeded than before.
  func wait(for more: Int64, after before: Int64) async throws {
    try await milestones.wait("\(more) more commands") {
      $0.last.map { $0 >= before + more } == true
    }
  }

  func end() async throws -> Count {
    isEnding.store(true, ordering: .relaxed)
    try await ended.wait("the load's end") { [width] in $0.count == width }
    return counted.withLock { $0 }
  }
}

extension RealRedis {
  @Suite struct Cluster {
    @Test("the slot is computed as the servers do, whatever bytes a key holds")
    func slots() async throws {
      let folder = try temporaryFolder()
      let node = try loneNode(folder)
      let link = try RedisLink(node.url)
      defer {
        link.close()
        node.stop()
        removeFolder(folder)
      }
      var random = JitterSource(seed: 11)
      let alphabet = Array("{}ab".utf8) + [0, 10, 255]
      let keys = (0..<2000).map { _ in
        (0..<random.next(below: 12)).map { _ in
          alphabet[Int(random.next(below: UInt64(alphabet.count)))]
        }
      }
      let results = try await link.send(
        keys.map { RedisCommand("CLUSTER", "KEYSLOT", .bytes($0)) })
      for (key, result) in zip(keys, results) {
        #expect(result == .success(.integer(Int64(RedisSlot(ofKey: key).number))), "\(key)")
      }
    }

    @Test(
      "a slot that moves under load is followed: nothing is lost, and nothing carried out twice")
    func moving() async throws {
      let rig = try await ClusterRig()
      defer { rig.stop() }
      // The first that is named is dead, the second serves other slots.
      let dead = RedisAddress(host: "127.0.0.1", port: try freePort())
      let states = Recorder<RedisLinkState>()
      let patient = try RedisLink(rig.url([dead], seeds: [others[0]]), options: options()) {
        states.add($0)
      }
      var failing = options()
      failing.whenDown = .fail
      let script = RedisScript("return redis.call('INCR', KEYS[1])")
      failing.scripts = [script]
      let impatient = try RedisLink(rig.url(seeds: [others[1]]), options: failing)
      defer {
        patient.close()
        impatient.close()
      }
      #expect(try await patient.send(RedisCommand("SET", "{ours}:n", 0)).isOK)
      let port = try await patient.send(RedisCommand("CONFIG", "GET", "port"))
      #expect(port.array?.last?.int64 == Int64(rig.nodes[home].port))
      #expect(states.values.count == 1)
      #expect(try await patient.send(ping) == .status("PONG"))

      // A subscriber has no keys, and hears what is published anywhere.
      let messages = Recorder<RedisMessage>()
      let subscriber = try RedisSubscriber(rig.url(), onMessages: { messages.add($0) })
      defer { subscriber.close() }
      try subscriber.subscribe([Array("news".utf8)])
      try await rig.wait("subscribed", at: 0, RedisCommand("PUBSUB", "NUMSUB", "news")) {
        $0.array?.last == .integer(1)
      }
      _ = try await rig.links[2].send(RedisCommand("PUBLISH", "news", "x"))
      try await messages.wait("the message") { $0.count == 1 }

      let waiting = try Load(width: 50) { tell in try patient.submit(incr, then: tell) }
      // Fewer at a time: those that fail at once are followed at once.
      let scripted = try Load(width: 5) { tell in
        try impatient.run(script, keys: ["{ours}:m"], then: tell)
      }
      var place = home
      for target in others + [home] + others {
        try await rig.beginMove(slot, from: place, to: target)
        try await rig.moveKeys(slot, from: place, to: target)
        let told = states.values.count
        try await states.wait("the old master says ASK") {
          $0[told...].contains { "\($0)".contains("ASK") }
        }
        try await rig.endMove(slot, to: target)
        place = target
        let (before, beforeScripted) = (waiting.succeeded, scripted.succeeded)
        try await waiting.wait(for: 500, after: before)
        try await scripted.wait(for: 50, after: beforeScripted)
      }
      let counted = try await waiting.end()
      let countedScripted = try await scripted.end()
      #expect(counted.notSent == 0)
      #expect(counted.others.isEmpty && countedScripted.others.isEmpty, "\(countedScripted.others)")
      #expect(
        try await patient.send(RedisCommand("GET", "{ours}:n")).int64 == counted.succeeded)
      #expect(
        try await patient.send(RedisCommand("GET", "{ours}:m")).int64 == countedScripted.succeeded)
      print(
        "5 moves: \(counted.succeeded) of a link that waits; of one that does not"
          + " \(countedScripted.succeeded), turned away \(countedScripted.notSent)")
      try await refusals(patient, at: place)
    }

    /// What a node of a cluster refuses for good is told as it is, and costs no connection.
    private func refusals(_ link: RedisLink, at place: Int) async throws {
      let theirs = try #require(
        (0..<100).map { "{\($0)}" }.first { ClusterRig.owner(of: RedisSlot(ofKey: $0)) != place })
      let foreign = RedisCommand("GET", .string(theirs))
      for (command, word) in [
        (foreign, "hash tag"), (RedisCommand("SELECT", 1), "SELECT"),
        (RedisCommand("MGET", "{ours}", .string(theirs)), "CROSSSLOT"),
      ] {
        do {
          _ = try await link.send(command)
          Issue.record("taken: \(word)")
        } catch {
          guard case .server = error else {
            Issue.record("\(error)")
            continue
          }
          #expect("\(error)".contains(word), "\(error)")
        }
      }
      guard case .up = link.state else {
        Issue.record("\(link.state)")
        return
      }
    }
  }
}

extension RealRedis.Cluster {
  @Test("a master that dies is replaced by its replica, a failover that is ordered is followed")
  func failover() async throws {
    let rig = try await ClusterRig(replicas: 1, of: slot)
    defer { rig.stop() }
    let states = Recorder<RedisLinkState>()
    let link = try RedisLink(rig.url(seeds: [others[0]]), options: options()) { states.add($0) }
    let messages = Recorder<RedisMessage>()
    let statuses = Recorder<RedisSubscriberStatus>()
    var subscriberOptions = RedisSubscriberOptions()
    subscriberOptions.connection = options().connection
    let subscriber = try RedisSubscriber(
      rig.url(seeds: [others[1]]), options: subscriberOptions, onMessages: { messages.add($0) },
      onStatus: { statuses.add($0) })
    defer {
      link.close()
      subscriber.close()
    }
    try subscriber.subscribe([Array("news".utf8)])
    #expect(try await link.send(incr) == .integer(1))
    try await statuses.wait("subscribed") { $0.last?.subscribed == 1 }
    _ = try await rig.links[others[0]].send(RedisCommand("PUBLISH", "news", "1"))
    try await messages.wait("a message from another node") { $0.count == 1 }

    let killed = csys_clock_boottime()
    rig.nodes[home].stop()
    try await states.wait("lost") { $0.last?.isUp == false }
    #expect(try await link.send(incr, timeout: .seconds(10)).int64 != nil)
    let served = csys_clock_boottime()
    print("served again \((served - killed) / 1_000_000) ms after kill -9, node timeout 1000 ms")
    let port = try await link.send(RedisCommand("CONFIG", "GET", "port"))
    #expect(port.array?.last?.int64 == Int64(rig.nodes[3].port))
    try await statuses.wait("subscribed again") {
      $0.last?.generation == 2 && $0.last?.subscribed == 1
    }
    _ = try await rig.links[others[0]].send(RedisCommand("PUBLISH", "news", "2"))
    try await messages.wait("a message after the failover") { $0.count == 2 }

    // The old one comes back as a replica, and is made master again, under load.
    try rig.nodes[home].start()
    try await rig.waitForReplica(home)
    #expect(try await link.send(RedisCommand("SET", "{ours}:n", 0)).isOK)
    let told = states.values.count
    let load = try Load(width: 50) { tell in try link.submit(incr, then: tell) }
    try await rig.tell(home, "FAILOVER")
    try await rig.wait("promotion", at: home, RedisCommand("ROLE")) {
      $0.array?.first?.string == "master"
    }
    try await load.wait(for: 500, after: load.succeeded)
    let counted = try await load.end()
    #expect(counted.notSent == 0 && counted.others.isEmpty, "\(counted.others)")
    #expect(try await link.send(RedisCommand("GET", "{ours}:n")).int64 == counted.succeeded)
    let back = try await link.send(RedisCommand("CONFIG", "GET", "port"))
    #expect(back.array?.last?.int64 == Int64(rig.nodes[home].port))
    // The subscriber is told by nobody: it looks around.
    try await rig.wait("the subscriber is back", at: home, RedisCommand("PUBSUB", "NUMSUB", "news"))
    {
      $0.array?.last == .integer(1)
    }
    // The link went where it was sent, at once.
    let since = states.values[told...]
    guard since.count == 2, case .down(.moved, _, 0) = since.first, since.last?.isUp == true else {
      Issue.record("\(since)")
      return
    }
  }

  @Test(
    "who lacks rights is told, who has no more than the documented ones gets in; TLS throughout")
  func access() async throws {
    let certificates = try TestCertificates()
    let rig = try await ClusterRig(certificates: certificates)
    defer { rig.stop() }
    let rights = ["on", ">pa:ss", "~{ours}*", "-@all", "+ping", "+role", "+cluster|slots", "+incr"]
    for link in rig.links {
      #expect(
        try await link.send(
          RedisCommand("ACL", [.string("SETUSER"), .string("ann")] + rights.map { .string($0) })
        ).isOK)
    }
    let ann = rig.url(seeds: others, user: "ann", password: "pa:ss")
    let states = Recorder<RedisLinkState>()
    let link = try RedisLink(ann, options: options()) { states.add($0) }
    defer { link.close() }
    #expect(try await link.send(incr) == .integer(1))
    try await rig.beginMove(slot, from: home, to: others[0])
    try await rig.moveKeys(slot, from: home, to: others[0])
    try await rig.endMove(slot, to: others[0])
    #expect(try await link.send(incr) == .integer(2))
    guard states.values.count == 3, case .down(.moved, _, 0) = states.values[1] else {
      Issue.record("\(states.values)")
      return
    }

    let refused = Recorder<RedisLinkState>()
    let wrong = try RedisLink(
      rig.url(seeds: others, user: "ann", password: "other"), options: options()
    ) { refused.add($0) }
    defer { wrong.close() }
    try await refused.wait("an attempt's end") { !$0.isEmpty }
    #expect("\(refused.values[0])".contains("WRONGPASS"), "\(refused.values[0])")
  }

  @Test("a server that is no node of a cluster, or one without slots, is said to be so")
  func noCluster() async throws {
    let plain = try TestRedis()
    let folder = try temporaryFolder()
    let empty = try loneNode(folder)
    defer {
      plain.stop()
      empty.stop()
      removeFolder(folder)
    }
    for (redis, word) in [(plain, "write redis:// for"), (empty, "serves \(slot)")] {
      let states = Recorder<RedisLinkState>()
      let link = try RedisLink(
        RedisURL(.cluster(RedisSeeds([redis.address]))), options: options()
      ) { states.add($0) }
      defer { link.close() }
      try await states.wait("an attempt's end") { !$0.isEmpty }
      #expect("\(states.values[0])".contains(word), "\(states.values[0])")
    }
    #expect(throws: RedisOptionsError.self) {
      try RedisLink(RedisURL(.cluster(RedisSeeds([plain.address]))))
    }
    #expect(throws: RedisOptionsError.self) {
      try RedisLink(
        RedisURL(.cluster(RedisSeeds([plain.address])), database: 1), options: options())
    }
  }
}

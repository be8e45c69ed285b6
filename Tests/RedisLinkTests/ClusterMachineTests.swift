import Testing

@testable import RedisLink

private func address(_ host: String, _ port: UInt16 = 1) -> RedisAddress {
  RedisAddress(host: host, port: port)
}

@Suite struct ClusterDecisions {
  private static let ms: UInt64 = 1_000_000
  private let ms = ClusterDecisions.ms
  private let a = address("a")
  private let b = address("b")

  private func machine(_ count: Int, lookEvery: UInt64? = nil, seed: UInt64 = 1) -> ClusterMachine {
    ClusterMachine(
      RedisSeeds((0..<count).map { address("s\($0)") }), slot: RedisSlot(ofKey: "k"),
      timing: ClusterMachine.Timing(answerTimeout: 300 * ms, lookEvery: lookEvery), seed: seed)
  }

  /// A machine of a link at `a` that looks around, and is about to.
  private func looking(_ count: Int) -> ClusterMachine {
    var machine = machine(count, lookEvery: 1000 * ms)
    _ = machine.step(.find(avoiding: nil), at: 0)
    #expect(machine.step(.answered(0, view(a)), at: 0).last == .found(a))
    return machine
  }

  private func view(_ master: RedisAddress?, _ others: RedisAddress...) -> SlotView {
    SlotView(master: master, nodes: others)
  }

  @Test("three seeds are asked at once, the first usable answer ends the search and all lines")
  func first() {
    var machine = machine(5)
    #expect(
      machine.step(.find(avoiding: nil), at: 0) == [
        .connect(0, address("s0")), .connect(1, address("s1")), .connect(2, address("s2")),
      ])
    #expect(machine.step(.connected(1), at: ms) == [.greet(1)])
    #expect(
      machine.step(.failed(0, .closedByPeer), at: ms) == [
        .disconnect(0, .closedByPeer), .connect(0, address("s3")),
      ])
    #expect(
      machine.step(.answered(1, view(a)), at: ms) == [
        .disconnect(0, .abandoned), .disconnect(1, .abandoned), .disconnect(2, .abandoned),
        .found(a),
      ])
    #expect(machine.wakeAt == .max)
    #expect(machine.step(.answered(2, view(b)), at: ms) == [])
  }

  @Test("what was just found wanting is taken only when everybody has named it, however late")
  func avoided() {
    var machine = machine(2)
    _ = machine.step(.find(avoiding: a), at: 0)
    #expect(machine.step(.answered(0, view(a)), at: ms) == [.disconnect(0, .abandoned)])
    var other = machine
    #expect(
      other.step(.answered(1, view(b)), at: ms) == [.disconnect(1, .abandoned), .found(b)])
    #expect(machine.wakeAt == 300 * ms)
    #expect(machine.step(.wake, at: 300 * ms) == [.disconnect(1, .timeout), .found(a)])
  }

  @Test("nodes that were named are asked in the same search and, ahead of the seeds, in the next")
  func named() {
    var machine = machine(1)
    _ = machine.step(.find(avoiding: a), at: 0)
    #expect(
      machine.step(.answered(0, view(a, b, a)), at: ms) == [
        .disconnect(0, .abandoned), .connect(0, b), .connect(1, a),
      ])
    #expect(
      machine.step(.answered(0, view(b, b)), at: ms).last == .found(b))
    #expect(
      machine.step(.find(avoiding: nil), at: 2 * ms) == [
        .connect(0, b), .connect(1, address("s0")),
      ])
  }

  @Test("who failed is asked last, until it answers again")
  func strikes() {
    var machine = machine(4)
    _ = machine.step(.find(avoiding: nil), at: 0)
    _ = machine.step(.failed(0, .timeout), at: 0)
    _ = machine.step(.answered(1, view(a)), at: 0)
    #expect(
      machine.step(.find(avoiding: nil), at: 0) == [
        .connect(0, address("s1")), .connect(1, address("s2")), .connect(2, address("s3")),
      ])
    _ = machine.step(.failed(0, .timeout), at: 0)
    _ = machine.step(.answered(0, view(nil)), at: 0)
    _ = machine.step(.giveUp, at: 0)
    #expect(machine.step(.find(avoiding: nil), at: 0).first == .connect(0, address("s0")))
  }

  @Test("where a node has sent the link is asked next, and ends a search")
  func aim() {
    var machine = machine(1)
    _ = machine.step(.find(avoiding: nil), at: 0)
    #expect(machine.step(.aim(b), at: 0) == [.disconnect(0, .abandoned)])
    #expect(
      machine.step(.find(avoiding: nil), at: 0) == [
        .connect(0, b), .connect(1, address("s0")),
      ])
  }

  @Test("when none can tell, the search ends with why: nobody serves the slot, or none answers")
  func lost() {
    func reason(_ directives: [ClusterMachine.Directive]) -> String {
      if case .lost(.noMaster(let why)) = directives.last { why } else { "\(directives)" }
    }
    let refused = RedisFailure.refused(RedisServerError(message: "WRONGPASS invalid"))
    var machine = machine(3)
    _ = machine.step(.find(avoiding: nil), at: 0)
    _ = machine.step(.failed(0, .closedByPeer), at: 0)
    _ = machine.step(.failed(1, refused), at: 0)
    let none = reason(machine.step(.failed(2, .closedByPeer), at: 0))
    #expect(
      none.contains("none of the cluster's 3 known nodes") && none.contains("s1:1: the server")
        && none.contains("correct user and password"), "\(none)")
    _ = machine.step(.find(avoiding: nil), at: 0)
    _ = machine.step(.failed(0, .closedByPeer), at: 0)
    _ = machine.step(.answered(1, view(nil)), at: 0)
    let unserved = reason(machine.step(.failed(2, .closedByPeer), at: 0))
    #expect(unserved.contains("serves \(RedisSlot(ofKey: "k"))"), "\(unserved)")
  }

  @Test("a node that names ever new ones is not followed without end")
  func limit() {
    var machine = machine(1)
    var connected: [Int: RedisAddress] = [:]
    var asked = 0
    func apply(_ directives: [ClusterMachine.Directive]) {
      for directive in directives {
        switch directive {
        case .connect(let line, let address):
          connected[line] = address
          asked += 1
        case .disconnect(let line, _): connected[line] = nil
        default: break
        }
      }
    }
    apply(machine.step(.find(avoiding: a), at: 0))
    while let line = connected.keys.first, asked < 1000 {
      let nodes = (0..<40).map { address("n\(asked)-\($0)") }
      apply(machine.step(.answered(line, SlotView(master: a, nodes: nodes)), at: 0))
    }
    #expect(asked == ClusterMachine.askedMax)
  }

  @Test("a look around follows what most of those asked name, and no less")
  func look() {
    for (answers, follows) in [
      ([b, b, nil], true), ([b, b, a], true), ([b, a, a], false), ([b, nil, nil], false),
      ([a, a, a], false), ([nil, nil, nil], false), ([b, nil], false), ([b, b], true), ([b], true),
      ([a], false),
    ] as [([RedisAddress?], Bool)] {
      var machine = looking(answers.count)
      let at = machine.wakeAt
      #expect(machine.step(.wake, at: at).count == answers.count)
      #expect(machine.isLooking)
      var last: [ClusterMachine.Directive] = []
      for (line, answer) in answers.enumerated() {
        last =
          answer.map { machine.step(.answered(line, view($0)), at: at) }
          ?? machine.step(.failed(line, .closedByPeer), at: at)
      }
      let failure: RedisFailure = answers.last! == nil ? .closedByPeer : .abandoned
      #expect(
        last == [.disconnect(answers.count - 1, failure)] + (follows ? [.follow(b)] : []),
        "\(answers)")
      #expect(!machine.isLooking && machine.wakeAt > at)
    }
  }

  @Test("looks come between half the time and all of it, of different links at different times")
  func rhythm() {
    let pauses = (1...50 as ClosedRange<UInt64>).map { seed in
      var machine = machine(1, lookEvery: 1000 * ms, seed: seed)
      #expect(machine.wakeAt == .max)
      _ = machine.step(.aim(a), at: 0)
      return machine.wakeAt
    }
    #expect(Set(pauses).count == 50)
    #expect(pauses.allSatisfy { (500 * ms...1000 * ms).contains($0) })
    var lost = looking(1)
    _ = lost.step(.giveUp, at: 0)
    #expect(lost.wakeAt == .max)
  }

  @Test("a look asks others than the server itself, each once, and ends with a search or a move")
  func lookEnds() {
    var machine = machine(1, lookEvery: 1000 * ms)
    _ = machine.step(.find(avoiding: nil), at: 0)
    _ = machine.step(.answered(0, view(a, a, b)), at: 0)
    let at = machine.wakeAt
    #expect(
      machine.step(.wake, at: at) == [.connect(0, b), .connect(1, address("s0"))])
    #expect(
      machine.step(.aim(b), at: at) == [
        .disconnect(0, .abandoned), .disconnect(1, .abandoned),
      ])
    // Nobody else is known: there is nobody to ask.
    var alone = self.machine(1, lookEvery: 1000 * ms)
    _ = alone.step(.aim(address("s0")), at: 0)
    #expect(alone.step(.wake, at: alone.wakeAt) == [])
    #expect(!alone.isLooking)
  }

  @Test("every sequence of events: a search ends once, connects and disconnects take turns")
  func exhaustive() {
    let events: [ClusterMachine.Event] = [
      .find(avoiding: nil), .find(avoiding: a), .giveUp, .aim(b), .connected(0),
      .answered(0, view(a, a, b)), .answered(1, view(nil)), .answered(2, view(b, b)),
      .failed(0, .closedByPeer), .failed(1, .timeout), .wake, .close,
    ]
    var sequences = 0
    func walk(
      _ machine: ClusterMachine, now: UInt64, depth: Int, connected: Set<Int>, searching: Bool,
      closed: Bool
    ) {
      sequences += 1
      if depth == 0 { return }
      for event in events {
        var machine = machine
        let next = event == .wake && machine.wakeAt < .max ? machine.wakeAt : now + 1
        var connected = connected
        var searching = searching
        switch event {
        case .find: searching = !closed
        case .giveUp, .aim, .close: searching = false
        default: break
        }
        for directive in machine.step(event, at: next) {
          switch directive {
          case .connect(let line, _):
            if !connected.insert(line).inserted { Issue.record("connect twice: \(event)") }
          case .disconnect(let line, _):
            if connected.remove(line) == nil { Issue.record("disconnect of nothing: \(event)") }
          case .greet(let line):
            if !connected.contains(line) { Issue.record("greeting nobody") }
          case .found, .lost:
            if !searching { Issue.record("\(directive) without a search: \(event)") }
            searching = false
          case .follow:
            if searching { Issue.record("follow within a search: \(event)") }
          }
        }
        if searching && machine.isLooking { Issue.record("\(event): both at once") }
        if (searching || machine.isLooking) != !connected.isEmpty {
          Issue.record("\(event): \(searching) \(connected)")
        }
        walk(
          machine, now: next, depth: depth - 1, connected: connected, searching: searching,
          closed: closed || event == .close)
      }
    }
    walk(
      machine(2, lookEvery: 10), now: 0, depth: 5, connected: [], searching: false, closed: false)
    #expect(sequences > 200_000)
  }
}

@Suite struct ClusterSpeech {
  private let asked = address("asked", 7)

  private func slots(_ text: String) throws -> RedisValue {
    let reader = try ReplyReader(bytesMax: 1 << 20, elementsMax: 16_384)
    try Array(text.utf8).withUnsafeBytes { try reader.feed($0) }
    return try #require(try reader.next())
  }

  private func node(_ host: String?, _ port: Int64) -> RedisValue {
    .array([
      host.map { .bytes(Array($0.utf8)) } ?? .null, .integer(port), .bytes([120]), .array([]),
    ])
  }

  private func range(_ first: Int64, _ last: Int64, _ nodes: RedisValue...) -> RedisValue {
    .array([.integer(first), .integer(last)] + nodes)
  }

  @Test("the master of the slot is told, and its replicas ahead of all others, each once")
  func view() throws {
    var talk = ClusterTalk(slot: RedisSlot(ofKey: "123456789"), at: asked)
    #expect(
      String(decoding: talk.greet(user: nil, password: nil), as: UTF8.self).hasSuffix("SLOTS\r\n"))
    let view = try talk.hear(
      .array([
        range(0, 5460, node("a", 1), node("b", 2)), range(5461, 12_738, node("c", 3)),
        range(12_739, 12_739, node("d", 4), node("b", 2), node("?", 5)),
        range(12_740, 16_383, node("a", 1)),
      ]))
    #expect(view?.master == address("d", 4))
    #expect(view?.nodes == [address("b", 2), address("d", 4), address("a", 1), address("c", 3)])
    // As versions before 4 write it.
    let old = try slots("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\nh\r\n:5\r\n")
    #expect(try talk.hear(old)?.master == address("h", 5))
  }

  @Test("a node that does not know its own host is where it was asked; one without slots says so")
  func unnamed() throws {
    for host in [nil, ""] {
      var talk = ClusterTalk(slot: RedisSlot(ofKey: "k"), at: asked)
      let greeting = talk.greet(user: "u", password: "p")
      #expect(String(decoding: greeting, as: UTF8.self).contains("AUTH"))
      #expect(try talk.hear(.status("OK")) == nil)
      let view = try talk.hear(.array([range(0, 16_383, node(host, 9))]))
      #expect(view == SlotView(master: address("asked", 9), nodes: [address("asked", 9)]))
      #expect(try talk.hear(.array([])) == SlotView(nodes: []))
      #expect(try talk.hear(.array([range(1, 2, node("x", 1))]))?.master == nil)
    }
  }

  @Test("of the others no more are kept than there is room for")
  func many() throws {
    var talk = ClusterTalk(slot: RedisSlot(ofKey: ""), at: asked)
    let all = (0..<1000).map { range(Int64($0), Int64($0), node("h\($0)", 1)) }
    let view = try talk.hear(.array(all))
    #expect(view?.nodes == (0..<ClusterTalk.namedMax).map { address("h\($0)") })
  }

  @Test("what is no answer, or names no usable address, ends the connection")
  func refused() {
    for bad in [
      range(0, 16_383, node("h", 0)), range(0, 16_383, node("h", 65_536)),
      range(0, 16_383, node("a b", 1)), range(0, 16_383, node("?", 1)), range(0, 16_383),
      .integer(1), .array([.bytes([1]), .integer(2), node("h", 1)]),
    ] as [RedisValue] {
      var talk = ClusterTalk(slot: RedisSlot(ofKey: "k"), at: asked)
      _ = talk.greet(user: nil, password: nil)
      #expect(throws: RedisFailure.self, "\(bad)") { try talk.hear(.array([bad])) }
    }
    for bad in [.status("OK"), .null, .error(RedisServerError(message: "ERR"))] as [RedisValue] {
      var talk = ClusterTalk(slot: RedisSlot(ofKey: "k"), at: asked)
      _ = talk.greet(user: nil, password: nil)
      #expect(throws: RedisFailure.self, "\(bad)") { try talk.hear(bad) }
    }
  }

  @Test("a redirection is one only for the link's own slot, and leads to a host and port")
  func redirections() {
    let slot = RedisSlot(ofKey: "123456789")
    func read(_ message: String) -> Redirection? {
      Redirection(RedisServerError(message: message), slot: slot, at: asked)
    }
    #expect(read("MOVED 12739 10.0.0.1:6381") == .moved(to: address("10.0.0.1", 6381)))
    #expect(read("MOVED 12739 ::1:6381") == .moved(to: address("::1", 6381)))
    #expect(read("MOVED 12739 :6381") == .moved(to: address("asked", 6381)))
    for kept in [
      "MOVED 12738 h:1", "ASK 1 h:1", "MOVED 12739", "MOVED", "ERR MOVED 12739 h:1",
      "READONLY You can't write against a read only replica.",
    ] {
      #expect(read(kept) == nil, "\(kept)")
    }
    for search in [
      "MOVED 12739 ?:6381", "MOVED 12739 h:0", "MOVED 12739 h", "ASK 12739 h:1",
      "TRYAGAIN Multiple keys", "CLUSTERDOWN Hash slot not served",
    ] {
      #expect(read(search) == .refused(RedisServerError(message: search)), "\(search)")
    }
  }

  @Test("a slot is that of the tag in braces, or of the whole key")
  func slots() {
    #expect(RedisSlot(ofKey: "").number == 0)
    #expect(RedisSlot(ofKey: "123456789").number == 0x31c3)
    for (key, hashed) in [
      ("{123456789}", "123456789"), ("a{123456789}b{c}", "123456789"), ("{}123456789", nil),
      ("{123456789", nil), ("}{123456789}", "123456789"), ("{{123456789}", "{123456789"),
    ] as [(String, String?)] {
      let isHashed = RedisSlot(ofKey: key) == RedisSlot(ofKey: "123456789")
      #expect(isHashed == (hashed == "123456789"), "\(key)")
    }
  }
}

import Testing

@testable import RedisLink

@Suite struct Subscriptions {
  private func names(_ numbers: some Sequence<Int>) -> [[UInt8]] {
    numbers.map { Array("\($0)".utf8) }
  }

  /// What a server would hold after the commands, and confirms them.
  private struct Server {
    var channels: Set<[UInt8]> = []
    var commands: [(SubscriptionChange.Kind, [[UInt8]])] = []

    /// Takes all commands that may be sent now.
    mutating func take(_ flow: inout SubscriptionFlow) throws {
      while let command = flow.nextCommand() {
        let reader = try ReplyReader(bytesMax: 1 << 20, elementsMax: 10_000)
        try command.wire.withUnsafeBytes { try reader.feed($0) }
        let words = try #require(try reader.next()?.array).compactMap(\.bytes)
        commands.append(
          (words[0] == Array("SUBSCRIBE".utf8) ? .subscribe : .unsubscribe, Array(words[1...])))
      }
    }

    /// Confirms the oldest command.
    mutating func confirm(_ flow: inout SubscriptionFlow) throws {
      let (kind, names) = commands.removeFirst()
      for name in names {
        if kind == .subscribe { channels.insert(name) } else { channels.remove(name) }
        try flow.confirm(kind, name)
      }
    }
  }

  @Test(
    "20,000 channels go in chunks, some ahead of their confirmation, and are complete at the last")
  func chunks() throws {
    var desired = DesiredChannels()
    _ = try desired.subscribe(names(0..<20_000), max: 20_000)
    var flow = SubscriptionFlow(chunkChannels: 500, chunksInFlight: 8)
    var server = Server()
    flow.restart(with: desired)
    try server.take(&flow)
    #expect(server.commands.count == 8)
    #expect(server.commands.allSatisfy { $0.1.count == 500 })
    var commands = 0
    while !server.commands.isEmpty {
      #expect(!flow.isComplete && flow.confirmedRevision == 0)
      try server.confirm(&flow)
      try server.take(&flow)
      commands += 1
    }
    #expect(commands == 40)
    #expect(flow.isComplete && flow.subscribed == 20_000 && flow.confirmedRevision == 1)
    #expect(server.channels == desired.channels)
  }

  @Test("whatever is wanted and unwanted, and lost in between, the server ends with what is wanted")
  func random() throws {
    var random = JitterSource(seed: 11)
    for _ in 0..<300 {
      var desired = DesiredChannels()
      var flow = SubscriptionFlow(chunkChannels: 3, chunksInFlight: 2)
      var server = Server()
      for _ in 0..<60 {
        let some = names((0..<4).map { _ in Int(random.next(below: 12)) })
        switch random.next(below: 10) {
        case 0..<3: flow.add(try desired.subscribe(some, max: 100))
        case 3..<6: flow.add(desired.unsubscribe(some))
        case 6..<9:
          try server.take(&flow)
          if !server.commands.isEmpty { try server.confirm(&flow) }
        default:
          flow.lose()
          server = Server()
          if random.next(below: 2) == 0 { flow.restart(with: desired) }
        }
        #expect(flow.confirmedRevision <= desired.revision)
        #expect(flow.subscribed == server.channels.count)
      }
      server = Server()
      flow.restart(with: desired)
      // Changes that were posted before the restart are not made twice.
      flow.add([
        SubscriptionChange(kind: .subscribe, channel: [0], revision: desired.revision)
      ])
      flow.add(try desired.subscribe(names([99]), max: 100))
      repeat {
        try server.take(&flow)
        if !server.commands.isEmpty { try server.confirm(&flow) }
      } while !flow.isComplete
      #expect(server.channels == desired.channels)
      #expect(flow.confirmedRevision == desired.revision)
    }
  }

  @Test("a call that changes nothing gets the number of the last change; too many change nothing")
  func revisions() throws {
    var desired = DesiredChannels()
    _ = try desired.subscribe(names([1, 2]), max: 3)
    #expect(desired.revision == 1)
    #expect(try desired.subscribe(names([2, 1]), max: 3).isEmpty)
    #expect(desired.unsubscribe(names([7])).isEmpty)
    #expect(desired.revision == 1)
    #expect(throws: RedisFailure.full) { try desired.subscribe(names([3, 4]), max: 3) }
    #expect(desired.channels == Set(names([1, 2])) && desired.revision == 1)
  }

  @Test("a confirmation of what was not asked is a violation")
  func wrongConfirmation() throws {
    var desired = DesiredChannels()
    _ = try desired.subscribe(names([1]), max: 3)
    var flow = SubscriptionFlow(chunkChannels: 3, chunksInFlight: 2)
    flow.restart(with: desired)
    #expect(flow.nextCommand() != nil)
    var other = flow
    #expect(throws: RedisFailure.self) { try other.confirm(.subscribe, Array("2".utf8)) }
    other = flow
    #expect(throws: RedisFailure.self) { try other.confirm(.unsubscribe, Array("1".utf8)) }
    try flow.confirm(.subscribe, Array("1".utf8))
    #expect(throws: RedisFailure.self) { try flow.confirm(.subscribe, Array("1".utf8)) }
  }

  @Test("with nothing wanted a new connection is complete at once")
  func nothing() {
    var flow = SubscriptionFlow(chunkChannels: 3, chunksInFlight: 2)
    #expect(!flow.isComplete)
    flow.restart(with: DesiredChannels())
    #expect(flow.isComplete && flow.nextCommand() == nil)
  }
}

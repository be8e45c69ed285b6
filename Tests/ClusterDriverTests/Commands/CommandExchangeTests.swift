import DriverProtocol
import Election
import Logging
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// A controller layer with one controller, which does what it is told at once, or never answers.
private final class ObedientLayer: CommandLayer {
  let pipeline = Mutex<CommandPipeline?>(nil)
  let posted = Mutex<[CommandID]>([])
  private let answers: Bool
  private let isHere: Bool

  init(isHere: Bool, answers: Bool = true) {
    self.isHere = isHere
    self.answers = answers
  }

  func post(_ command: ControllerCommand, body: [UInt8]) -> CommandMachine.PostFailure? {
    guard self.isHere else { return .notConnected }
    self.posted.withLock { $0.append(command.id) }
    let pipeline = self.pipeline.withLock { $0 }
    // The pipeline's lock is held here.
    Task { [answers] in
      pipeline?.apply([.sent(command.id, connection: 7)])
      guard answers else { return }
      pipeline?.apply([
        .result(command.id, status: .done, reason: 0, index: 0, body: [1, 2])
      ])
    }
    return nil
  }

  func wake() {}
}

/// A node as far as commands are concerned, with real gRPC to its peer.
private final class Exchange: Sendable {
  let layer: ObedientLayer
  let outbox = Outbox(bytesMax: 1 << 20)
  let pipeline: CommandPipeline
  let links: PeerLinks
  let server: PeerServer
  let address: String

  static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  init(_ name: String, _ layer: ObedientLayer) throws {
    self.layer = layer
    self.pipeline = CommandPipeline(
      layer: layer, outbox: self.outbox, log: Self.quiet, me: NodeID(name))
    layer.pipeline.withLock { [pipeline] in $0 = pipeline }
    self.links = PeerLinks(me: NodeID(name), log: Self.quiet)
    self.server = try PeerServer(
      address: HostPort(host: "127.0.0.1", port: 0), me: NodeID(name), commands: self.pipeline,
      log: Self.quiet)
    self.address = "127.0.0.1:\(try self.server.port())"
    self.pipeline.join(self.links)
  }

  func close() {
    self.layer.pipeline.withLock { $0 = nil }
    self.links.close()
    self.server.close()
  }

  /// "b" owns everything, and both know it.
  static func two(answers: Bool = true) async throws -> (a: Exchange, b: Exchange) {
    // To bind a port blocks until others of Swift's threads have moved.
    let made = await onThreadOfItsOwn("exchange") { Result { try Self.both(answers: answers) } }
    return try #require(made).get()
  }

  private static func both(answers: Bool) throws -> (a: Exchange, b: Exchange) {
    let a = try Exchange("a", ObedientLayer(isHere: false))
    let b = try Exchange("b", ObedientLayer(isHere: true, answers: answers))
    b.pipeline.act(
      for: [OwnedRange(first: .lowest, last: .highest, epoch: Epoch(1))],
      until: .now + .seconds(1000))
    b.pipeline.apply([.connected(serial: 42, connection: 7)])
    let places = Self.places([a.session("a"), b.session("b")])
    a.links.reach(places)
    b.links.reach(places)
    let record = RangeRecord(
      first: .lowest, last: .highest, owner: Owner(NodeID("b"), Incarnation(1)), epoch: Epoch(1),
      store: StoreIdentity("s"))
    a.pipeline.see([.lowest: record], in: StoreIdentity("s"))
    return (a, b)
  }

  func session(_ name: String, isHealthy: Bool = true) -> SessionRecord {
    SessionRecord(
      node: NodeID(name), value: SessionValue(Incarnation(1), 1),
      status: MemberStatus(healthy: isHealthy, peersAt: self.address))
  }

  static func places(_ sessions: [SessionRecord]) -> PeerPlaces {
    var places = PeerPlaces()
    _ = places.see(sessions)
    return places
  }

  static func command() -> Clusterdriver_V1_Command {
    CommandEncodingTests.command {
      $0.notAfterMs = 0
      $0.queryStatus = .init()
    }
  }
}

@Suite("Commands between two nodes, over real gRPC")
struct CommandExchangeTests {
  @Test(
    "a command on the stream of a node that is not the owner ends at the owner, and only there",
    .timeLimit(.minutes(1)))
  func stream() async throws {
    let (a, b) = try await Exchange.two()
    defer {
      a.close()
      b.close()
    }
    a.pipeline.take(Exchange.command())
    while b.outbox.counters.results == 0 || !a.pipeline.isIdle {
      try await Task.sleep(for: .milliseconds(1))
    }
    #expect(b.layer.posted.withLock { $0.count } == 1)
    #expect(a.outbox.counters.results == 0 && b.outbox.counters.results == 1)
    #expect(a.pipeline.metrics.snapshot().passed[.taken] == 1)
    let received = b.pipeline.metrics.snapshot()
    #expect(received.received[.taken] == 1 && received.ended[.peer]?[.done] == 1)
  }

  @Test("an operator has the owner's result from any node", .timeLimit(.minutes(1)))
  func operators() async throws {
    let (a, b) = try await Exchange.two()
    defer {
      a.close()
      b.close()
    }
    let result = try await a.pipeline.send(Exchange.command())
    #expect(result.status == .done && result.body == [1, 2])
    #expect(a.outbox.counters.results == 0)
    // Given again, there or here, it is not carried out again.
    #expect(try await a.pipeline.send(Exchange.command()).status == .done)
    #expect(try await b.pipeline.send(Exchange.command()).status == .done)
    #expect(b.layer.posted.withLock { $0.count } == 1)
  }

  @Test("a result that is asked for in vain is said to be missing, and who stops waiting is let go")
  func missing() async throws {
    let (a, b) = try await Exchange.two(answers: false)
    defer {
      a.close()
      b.close()
    }
    let id = try #require(CommandID(CommandEncodingTests.id))
    #expect(try await b.pipeline.result(of: id) == nil)
    b.pipeline.take(Exchange.command())
    let waiting = Task { [pipeline = b.pipeline] in try await pipeline.result(of: id) }
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
  }
}

@Suite("Results that the vendor app has not acknowledged, over real gRPC")
struct ResultCopiesTests {
  private static func result(_ number: Int, bytes: Int = 0) -> Clusterdriver_V1_CommandResult {
    Clusterdriver_V1_CommandResult(
      FinishedCommand(
        id: CommandID(high: 1, low: UInt64(number)), serial: 42, door: .redis, status: .done,
        body: [UInt8](repeating: 7, count: bytes), atMs: 1, elapsedUs: 2))
  }

  @Test(
    "after a while a peer has them as well, and does not give them on",
    .timeLimit(.minutes(1)))
  func copies() async throws {
    let (a, b) = try await Exchange.two()
    defer {
      a.close()
      b.close()
    }
    let began = ContinuousClock.now
    #expect(try await a.pipeline.send(Exchange.command()).status == .done)
    let ended = ContinuousClock.now
    // Time is what it is said to be.
    b.pipeline.copyResults(at: began + CommandPipeline.onlyHereLimit)
    #expect(!b.pipeline.state.withLock { $0.copying.isUnderWay })
    var later = ended + CommandPipeline.onlyHereLimit
    while b.pipeline.metrics.snapshot().resultsCopied == 0 {
      b.pipeline.copyResults(at: later)
      later += .seconds(1)
      try await Task.sleep(for: .milliseconds(1))
    }
    // At least once: what was not answered in time is given again.
    let result = try #require(b.pipeline.unacknowledgedResults.first)
    let kept = a.pipeline.unacknowledgedResults
    #expect(!kept.isEmpty && kept.allSatisfy { $0 == result })
    #expect(a.pipeline.metrics.snapshot().resultsKept == UInt64(kept.count))
    for pipeline in [a.pipeline, b.pipeline] {
      #expect(pipeline.outbox.onlyHere(since: later, bytesMax: .max).isEmpty)
    }
  }

  @Test("first to one that reaches the vendor app, by what it says", .timeLimit(.minutes(1)))
  func preference() async throws {
    let (a, b) = try await Exchange.two()
    let made = await onThreadOfItsOwn("exchange") {
      Result { try Exchange("c", ObedientLayer(isHere: false)) }
    }
    let c = try #require(made).get()
    defer { for each in [a, b, c] { each.close() } }
    let all = [a.session("a"), b.session("b"), c.session("c", isHealthy: false)]
    c.links.reach(Exchange.places(all))
    b.links.reach(
      Exchange.places([a.session("a", isHealthy: false), b.session("b"), c.session("c")]))
    for (number, links) in [b.links, c.links].enumerated() {
      var isKept = false
      while !isKept {
        isKept = await withCheckedContinuation { continuation in
          links.keep([Self.result(number)]) { continuation.resume(returning: $0) }
        }
      }
    }
    #expect(c.pipeline.unacknowledgedResults.contains(Self.result(0)))
    #expect(a.pipeline.unacknowledgedResults.contains(Self.result(1)))
  }

  @Test(
    "those of a node that ends are told by a peer that answers",
    .timeLimit(.minutes(1)))
  func handOver() async throws {
    let (a, b) = try await Exchange.two()
    defer {
      a.close()
      b.close()
    }
    // More than go into one message.
    let results = (1...700).map { number in
      Self.result(number, bytes: number % 9 == 0 ? 1000 : 0)
    }
    for result in results { #expect(a.pipeline.keep([result])) }
    #expect(a.pipeline.unacknowledgedResults == results)
    let kept = await onThreadOfItsOwn("hand-over") {
      a.links.handOver(a.pipeline.unacknowledgedResults, within: .seconds(30))
    }
    #expect(kept == results.count)
    // At least once: what was not answered in time is said again.
    var told: Set<[UInt8]> = []
    let first = b.pipeline.unacknowledgedResults.filter { told.insert(Array($0.id)).inserted }
    #expect(first == results)
    #expect(b.outbox.counters.messages > 1 && b.outbox.counters.results >= results.count)
  }

  @Test("without a peer that answers nothing is said to be kept, within the time that is given")
  func nobody() async throws {
    let links = PeerLinks(me: NodeID("a"), log: Exchange.quiet)
    defer { links.close() }
    let result = Clusterdriver_V1_CommandResult()
    #expect(
      await onThreadOfItsOwn("hand-over") { links.handOver([result], within: .seconds(1)) } == 0)
  }
}

@Suite("Commands between nodes, as they travel")
struct CommandWireTests {
  static let command = ControllerCommand(
    id: CommandID(high: 1, low: 2), serial: .max - 1, lane: 2, notAfterMs: .max, code: .max,
    body: [1, 2, 3], carriesNodeTime: true)

  @Test("a batch arrives as it was sent")
  func batches() throws {
    let commands = [
      PassedCommand(command: Self.command, wasSent: true, isShared: false, tellAgain: true),
      PassedCommand(command: Self.command, wasSent: false, isShared: true, tellAgain: false),
    ]
    let bytes: [UInt8] = try CommandWire.message(
      PassBatch(to: NodeID("b"), number: 3, commands: commands)
    ).serializedBytes()
    let read = try Clusterdriver_V1_PeerCommands(serializedBytes: bytes)
    #expect(read.asked == "b")
    #expect(CommandWire.commands(read) == commands)
  }

  @Test("answers arrive as they were given")
  func answers() throws {
    let answers: [PassAnswer] = [
      .taken, .busy, .notMine(nil), .notMine(NodeID("c")),
      .ended(
        FinishedCommand(
          id: CommandID(high: 1, low: 2), serial: 3, door: .peer, status: .refused, reason: 4,
          index: 5, body: [6], detail: "seven", atMs: 8, elapsedUs: 9)),
    ]
    let bytes: [UInt8] = try CommandWire.message(answers).serializedBytes()
    #expect(
      CommandWire.answers(try Clusterdriver_V1_PeerCommandsAnswer(serializedBytes: bytes))
        == answers)
  }

  @Test("what no controller could be given is not taken from a peer either")
  func wrong() {
    func message(
      _ change: (inout Clusterdriver_V1_PeerCommand) -> Void
    ) -> Clusterdriver_V1_PeerCommands {
      var message = CommandWire.message(
        PassBatch(to: NodeID("b"), number: 1, commands: [PassedCommand(command: Self.command)]))
      change(&message.commands[0])
      return message
    }
    #expect(CommandWire.commands(message { _ in }) != nil)
    let changes: [(inout Clusterdriver_V1_PeerCommand) -> Void] = [
      { $0.id = .init(bytes: [1]) }, { $0.serial = 0 }, { $0.serial = .max },
      { $0.lane = .unspecified }, { $0.code = 0 }, { $0.code = 65_536 },
      { $0.body = .init(bytes: .init(repeating: 0, count: 4001)) },
    ]
    for change in changes { #expect(CommandWire.commands(message(change)) == nil) }
    var many = message { _ in }
    many.commands = Array(repeating: many.commands[0], count: PassBatch.commandsMax + 1)
    #expect(CommandWire.commands(many) == nil)
    #expect(CommandWire.answers(.with { $0.answers = [.init()] }) == nil)
  }
}

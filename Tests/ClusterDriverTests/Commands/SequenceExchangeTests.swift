import DriverProtocol
import Logging
import SwiftProtobuf
import Synchronization
import Testing

@testable import ClusterDriver

/// A controller layer with one controller, 42, which takes configurations and does whatever else it is told.
private final class TransferLayer: CommandLayer {
  struct Seen: Sendable {
    var codes: [UInt16] = []
    var received: [UInt8] = []
  }

  let pipeline = Mutex<CommandPipeline?>(nil)
  let seen = Mutex(Seen())
  private let isHere: Bool

  init(isHere: Bool = true) { self.isHere = isHere }

  func post(_ command: ControllerCommand, body: [UInt8]) -> CommandMachine.PostFailure? {
    guard self.isHere else { return .notConnected }
    let offset = self.seen.withLock { seen in
      seen.codes.append(command.code)
      if command.code == 17 { seen.received += body[20...] }
      return seen.received.count
    }
    var said = BigEndianBytes()
    if [16, 17].contains(command.code) { said.append(UInt32(offset)) }
    let result = CommandMachine.Event.result(
      command.id, status: .done, reason: 0, index: 0, body: said.bytes)
    let pipeline = self.pipeline.withLock { $0 }
    // The pipeline's lock is held here.
    Task { pipeline?.apply([.sent(command.id, connection: 7), result]) }
    return nil
  }

  func wake() {}
}

/// The pipeline of a node on its own, and what it has for the vendor app.
private final class Scene: Sendable {
  let layer: TransferLayer
  let outbox = Outbox(bytesMax: 1 << 20)
  let pipeline: CommandPipeline
  private let messages = Mutex<[Clusterdriver_V1_DriverMessage]>([])

  init(isHere: Bool = true) {
    self.layer = TransferLayer(isHere: isHere)
    let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    self.pipeline = CommandPipeline(layer: self.layer, outbox: self.outbox, log: quiet)
    self.layer.pipeline.withLock { [pipeline] in $0 = pipeline }
    if isHere { self.pipeline.apply([.connected(serial: 42, connection: 7)]) }
    _ = self.outbox.begin(stream: 1)
  }

  deinit { self.layer.pipeline.withLock { $0 = nil } }

  /// What was sent until there is something of this kind; all of it is acknowledged if so wanted.
  func sent(
    acknowledges: Bool = true,
    until isThere: ([Clusterdriver_V1_DriverMessage]) -> Bool
  ) async throws -> [Clusterdriver_V1_DriverMessage] {
    while !isThere(self.messages.withLock { $0 }) {
      let batch = try #require(await self.outbox.nextBatch(stream: 1))
      for bytes in batch {
        let message = try Clusterdriver_V1_DriverMessage(serializedBytes: bytes)
        self.messages.withLock { $0.append(message) }
        guard acknowledges else { continue }
        _ = try self.outbox.acknowledge(through: message.number, refusals: [])
        self.pipeline.acknowledged()
      }
    }
    return self.messages.withLock { $0 }
  }

  static func results(
    _ messages: [Clusterdriver_V1_DriverMessage]
  ) -> [Clusterdriver_V1_CommandResult] { messages.flatMap(\.results.results) }

  static func told(
    _ messages: [Clusterdriver_V1_DriverMessage]
  ) -> [Clusterdriver_V1_SequenceProgress] { messages.flatMap(\.progress.sequences) }

  static func list(of count: Int) -> Clusterdriver_V1_Command {
    CommandEncodingTests.command {
      $0.notAfterMs = 0
      $0.list.commands = [Clusterdriver_V1_Command](
        repeating: .with { $0.queryStatus = .init() }, count: count)
    }
  }
}

@Suite("Sequences in the pipeline", .timeLimit(.minutes(1)))
struct SequenceExchangeTests {
  @Test("a configuration on the stream reaches its controller whole, and has one result")
  func configuration() async throws {
    let scene = Scene()
    let content = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
    scene.pipeline.take(
      CommandEncodingTests.command {
        $0.notAfterMs = 0
        $0.configuration.content = .init(bytes: content)
      })
    let messages = try await scene.sent { !Scene.results($0).isEmpty }
    #expect(Scene.results(messages).map(\.status) == [.done])
    #expect(Scene.results(messages)[0].id == .init(bytes: CommandEncodingTests.id))
    let told = Scene.told(messages)
    #expect(told.map(\.done) == [0] && told.map(\.total) == [10_000])
    #expect(told.allSatisfy { $0.serial == 42 && !$0.returned })
    let seen = scene.layer.seen.withLock { $0 }
    #expect(seen.codes == [16, 17, 17, 17, 18])
    #expect(seen.received == content)
    #expect(scene.pipeline.isIdle)
    #expect(scene.pipeline.taken == 1 && scene.pipeline.finished == 1)
    let counted = scene.pipeline.metrics.snapshot()
    #expect(counted.taken[.sequence] == 5 && counted.taken[.attach] == 1)
    #expect(counted.latency.count == 0)
  }

  @Test("a list waits for the vendor app to have its progress on disk, and ends when it has")
  func list() async throws {
    let scene = Scene()
    scene.pipeline.take(Scene.list(of: 20))
    let before = try await scene.sent(acknowledges: false) { Scene.told($0).map(\.done) == [1, 9] }
    while scene.layer.seen.withLock({ $0.codes.count }) < 16 {
      try await Task.sleep(for: .milliseconds(1))
    }
    #expect(Scene.results(before).isEmpty)
    #expect(scene.pipeline.sequences.held == 1)
    _ = try scene.outbox.acknowledge(through: before.last!.number, refusals: [])
    scene.pipeline.acknowledged()
    let after = try await scene.sent { !Scene.results($0).isEmpty }
    #expect(Scene.results(after).map(\.status) == [.done])
    #expect(scene.layer.seen.withLock { $0.codes } == [UInt16](repeating: 6, count: 20))
  }

  @Test("for a controller that is not here it is returned, without a result")
  func away() async throws {
    let scene = Scene(isHere: false)
    scene.pipeline.take(Scene.list(of: 2))
    let messages = try await scene.sent { !Scene.told($0).isEmpty }
    #expect(Scene.told(messages).map(\.returned) == [true])
    #expect(Scene.results(messages).isEmpty)
    #expect(scene.pipeline.isIdle)
    #expect(scene.pipeline.sequences.givenBack == 1)
  }

  @Test("one out of the mailbox is noted there, ends there, and is put back there")
  func letters() async throws {
    let heard = Mutex<[LetterEnd]>([])
    let scene = Scene()
    scene.pipeline.tellMailbox { ends in heard.withLock { $0 += ends } }
    let command = try CommandEncoding.encode(Scene.list(of: 20)).get()
    scene.pipeline.take(letters: [command])
    while heard.withLock({ $0.count }) < 2 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(
      heard.withLock { $0 } == [.came(command.id, done: 1), .came(command.id, done: 9)])
    // What the vendor app has is not what the mailbox has.
    _ = try await scene.sent { Scene.told($0).count == 2 }
    #expect(scene.pipeline.sequences.held == 1)
    scene.pipeline.keep([(command.id, 9)])
    while !scene.pipeline.isIdle { try await Task.sleep(for: .milliseconds(1)) }
    guard case .ended(let result)? = heard.withLock({ $0.last }) else {
      Issue.record("no end")
      return
    }
    #expect(result.status == .done && result.door == .mailbox)
    #expect(scene.outbox.counters.results == 0)
    scene.pipeline.stop()
    var other = command
    other.id = CommandID(high: 1, low: 1)
    scene.pipeline.take(letters: [other])
    #expect(heard.withLock { $0.last } == .putBack(other.id))
  }

  @Test("by Redis' channels and by an operator it is refused")
  func doors() async throws {
    let scene = Scene()
    scene.pipeline.take(payload: Scene.list(of: 2).wireBytes(), channel: 42)
    let messages = try await scene.sent { !Scene.results($0).isEmpty }
    #expect(Scene.results(messages).map(\.reason) == [DriverReason.badCommand])
    var other = Scene.list(of: 2)
    other.id = .init(repeating: 9, count: 16)
    let result = try await scene.pipeline.send(other)
    #expect(result.status == .refused && result.detail.contains("mailbox"))
  }
}

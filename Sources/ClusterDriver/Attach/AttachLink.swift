import CSCP
import DriverProtocol
import GRPCCore
import GRPCProtobuf
import Logging
import SwiftProtobuf
import Synchronization

/// Keeps the Attach stream to the vendor app open: writes what the outbox has, in order, and carries
/// out what comes back.
///
/// The decisions are `AttachMachine`'s (when to connect) and `OutboxState`'s (what to send, what an
/// acknowledgement covers). This is what lies around them: one task that writes, one that reads.
final class AttachLink<Transport: ClientTransport>: Sendable {
  struct Identity: Sendable {
    var nodeID: String
    var incarnation: UInt64
    var version: String
  }

  /// What the link tells its surroundings. Called on tasks; must not block.
  struct Handlers: Sendable {
    var acknowledge: @Sendable ([AckCursor]) -> Void
    /// The vendor app refused events for a too low owner epoch.
    var refused: @Sendable ([OutboxState.Refusal]) -> Void
    var command: @Sendable (Clusterdriver_V1_Command) -> Void
  }

  private let client: GRPCClient<Transport>
  private let identity: Identity
  private let outbox: Outbox
  private let handlers: Handlers
  private let log: Logger
  private let machine: Mutex<AttachMachine>
  private let lost = Atomic<Bool>(false)
  /// Streams opened, and attempts that failed.
  let opened = Counter()
  let failed = Counter()

  init(
    transport: Transport, identity: Identity, outbox: Outbox, handlers: Handlers, log: Logger,
    settings: AttachMachine.Settings = AttachMachine.Settings()
  ) {
    self.client = GRPCClient(transport: transport)
    self.identity = identity
    self.outbox = outbox
    self.handlers = handlers
    self.log = log
    self.machine = Mutex(AttachMachine(settings: settings, seed: identity.incarnation))
  }

  /// Since when there is a stream; nil: there is none.
  var up: Moment? { self.machine.withLock { $0.up } }

  /// Since when there is none, and why; nil: there is one, or none was tried yet.
  var down: (since: Moment, why: String)? { self.machine.withLock { $0.down } }

  /// By TCP nothing arrived at the vendor app any more, and there has been no stream since.
  var isLost: Bool { self.lost.load(ordering: .relaxed) }

  /// Runs until `stop` was called and the stream is closed, or until the task is cancelled.
  func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { [client, log] in
        do {
          try await client.runConnections()
        } catch {
          log.error("the transport to the vendor app ended: \(error)")
        }
      }
      self.step(.start)
      await self.attachAgainAndAgain()
      self.client.beginGracefulShutdown()
      group.cancelAll()
    }
  }

  /// The transport could not connect; it tries again by itself. Any thread.
  func unreachable(_ why: String) {
    self.failed.add()
    self.step(.unreachable(why))
  }

  /// Nothing that is sent arrives: the stream is about to break. Any thread.
  func unanswered() { self.lost.store(true, ordering: .relaxed) }

  /// Ends the stream once what is in the outbox was written. `run` returns when the vendor app has
  /// closed its side, so give it a limited time and then cancel it.
  func stop() {
    self.step(.stop)
    self.outbox.finish()
  }

  private func attachAgainAndAgain() async {
    while !Task.isCancelled {
      switch self.machine.withLock({ $0.state }) {
      case .opening(let attempt):
        let ending = await self.attach(attempt)
        self.outbox.end(stream: attempt)
        guard !Task.isCancelled else { return }
        self.failed.add()
        self.step(.ended(attempt: attempt, ending))
      case .waiting(let until):
        try? await Task.sleep(until: until, clock: .continuous)
        self.step(.wake)
      case .idle, .open, .stopped:
        return
      }
    }
  }

  private func step(_ event: AttachMachine.Event) {
    let directives = self.machine.withLock { $0.step(event, at: .now()) }
    for directive in directives {
      switch directive {
      case .reportUp:
        self.log.notice("attached to the vendor app")
      case .reportDown(.broken(let why)):
        self.log.warning("not attached to the vendor app, trying again: \(why)")
      case .reportDown(.violation(let why)):
        self.log.error("ended the stream to the vendor app, which broke the protocol: \(why)")
      case .open, .wake, .finish:
        break  // the loop reads them from the state
      }
    }
  }

  // MARK: One stream

  private func attach(_ attempt: UInt64) async -> AttachMachine.Ending {
    var options = CallOptions.defaults
    options.waitForReady = true
    do {
      try await self.client.bidirectionalStreaming(
        request: StreamingClientRequest(producer: { writer in
          try await self.write(attempt, to: writer)
        }),
        descriptor: Clusterdriver_V1_DriverGateway.Method.Attach.descriptor,
        serializer: RawMessageSerializer(),
        deserializer: ProtobufDeserializer<Clusterdriver_V1_VendorMessage>(),
        options: options
      ) { response in
        let contents = try response.accepted.get()
        self.opened.add()
        self.lost.store(false, ordering: .relaxed)
        self.step(.opened(attempt: attempt))
        for try await part in contents.bodyParts {
          if case .message(let message) = part { try self.received(message, on: attempt) }
        }
      }
      return .broken("the vendor app ended the stream")
    } catch let violation as Violation {
      return .violation(violation.description)
    } catch let error as RPCError {
      return .broken("\(error.code): \(error.message)")
    } catch {
      return .broken("\(error)")
    }
  }

  private func write(_ attempt: UInt64, to writer: RPCWriter<[UInt8]>) async throws {
    var message = Clusterdriver_V1_DriverMessage()
    message.hello.nodeID = self.identity.nodeID
    message.hello.incarnation = self.identity.incarnation
    message.hello.version = self.identity.version
    message.hello.nextNumber = self.outbox.begin(stream: attempt)
    try await writer.write(message.serializedBytes())
    while let batch = await self.outbox.nextBatch(stream: attempt) {
      try await writer.write(contentsOf: batch)
    }
  }

  private struct Violation: Error, CustomStringConvertible {
    var description: String
  }

  private func received(
    _ message: Clusterdriver_V1_VendorMessage, on attempt: UInt64
  ) throws {
    switch message.content {
    case .ack(let ack):
      try self.received(ack, on: attempt)
    case .command(let command):
      self.handlers.command(command)
    case .flow(let flow):
      guard flow.pauseMs <= 60_000 else {
        throw Violation(description: "a pause of \(flow.pauseMs) ms; at most 60000 is allowed")
      }
      self.outbox.hint(bytesMax: flow.bytesInFlightMax, pause: .milliseconds(Int(flow.pauseMs)))
    case nil:
      break  // of a later version of the protocol
    }
  }

  private func received(_ ack: Clusterdriver_V1_Ack, on attempt: UInt64) throws {
    let refusals = ack.stale.map {
      OutboxState.Refusal(serial: $0.serial, epochSeen: $0.ownerEpochSeen, number: $0.number)
    }
    let acknowledgement: OutboxState.Acknowledgement
    do {
      acknowledgement = try self.outbox.acknowledge(through: ack.through, refusals: refusals)
    } catch {
      switch error {
      case .aheadOfSent(let through, let sent):
        throw Violation(
          description: "it acknowledged message \(through), and \(sent) is the last one sent")
      }
    }
    self.step(.acknowledged(attempt: attempt))
    self.handlers.acknowledge(acknowledgement.cursors)
    if !refusals.isEmpty { self.handlers.refused(refusals) }
  }
}

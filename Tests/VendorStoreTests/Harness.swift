import DriverProtocol
import Foundation
import GRPCCore
import GRPCInProcessTransport
import Synchronization
import Testing

@testable import VendorStore

typealias Gateway = Clusterdriver_V1_DriverGateway.Client<InProcessTransport.Client>
typealias Query = Clusterdriver_V1_VendorQuery.Client<InProcessTransport.Client>

/// A vendor app served in this process, and clients of it.
struct Served: Sendable {
  let app: VendorApp
  let client: GRPCClient<InProcessTransport.Client>
  var gateway: Gateway { Gateway(wrapping: client) }
  var query: Query { Query(wrapping: client) }

  func stats() async throws -> Clusterdriver_V1_Stats {
    try await query.getStats(Clusterdriver_V1_GetStatsRequest())
  }

  func node(
    _ id: String = "a:5001", incarnation: UInt64 = 1, next: UInt64 = 1
  ) -> NodeDouble {
    let node = NodeDouble(gateway)
    var hello = Clusterdriver_V1_Hello()
    hello.nodeID = id
    hello.incarnation = incarnation
    hello.version = "1.0.0"
    hello.nextNumber = next
    node.send { $0.hello = hello }
    return node
  }
}

func withApp<R: Sendable>(
  _ store: any EventStore, options: VendorApp.Options = VendorApp.Options(),
  _ body: @Sendable (Served) async throws -> R
) async throws -> R {
  let app = try await VendorApp(store: store, options: options, logger: quiet)
  let transport = InProcessTransport()
  let server = GRPCServer(transport: transport.server, services: app.services)
  return try await withThrowingTaskGroup(of: Void.self) { group in
    let client = GRPCClient(transport: transport.client)
    group.addTask { try await server.serve() }
    group.addTask { try await client.runConnections() }
    let result: Result<R, any Error>
    do {
      result = .success(try await body(Served(app: app, client: client)))
    } catch {
      result = .failure(error)
    }
    await app.stop()
    client.beginGracefulShutdown()
    server.beginGracefulShutdown()
    group.cancelAll()
    while (try? await group.next()) != nil {}
    return try result.get()
  }
}

/// A node, as far as the stream goes.
final class NodeDouble: Sendable {
  private struct State {
    var received: [VendorMessage] = []
    var end: Result<Void, RPCError>?
  }

  private let outgoing: AsyncStream<DriverMessage>.Continuation
  private let state = Mutex(State())

  init(_ gateway: Gateway) {
    let (stream, continuation) = AsyncStream<DriverMessage>.makeStream()
    outgoing = continuation
    Task {
      let end: Result<Void, RPCError>
      do {
        try await gateway.attach { writer in
          for await message in stream { try await writer.write(message) }
        } onResponse: { response in
          for try await message in response.messages { self.note(message) }
        }
        end = .success(())
      } catch let error as RPCError {
        end = .failure(error)
      } catch {
        end = .failure(RPCError(code: .unknown, message: "\(error)"))
      }
      self.note(end: end)
    }
  }

  private func note(_ message: VendorMessage) { state.withLock { $0.received.append(message) } }
  private func note(end: Result<Void, RPCError>) { state.withLock { $0.end = end } }

  func send(_ number: UInt64 = 0, _ content: (inout DriverMessage) -> Void) {
    var message = DriverMessage()
    message.number = number
    content(&message)
    outgoing.yield(message)
  }

  func send(_ number: UInt64, _ events: [Event]) { send(number) { $0.events.events = events } }

  func send(_ number: UInt64, _ statuses: [Clusterdriver_V1_ControllerStatus]) {
    send(number) { $0.statuses.statuses = statuses }
  }

  func send(_ number: UInt64, _ results: [Clusterdriver_V1_CommandResult]) {
    send(number) { $0.results.results = results }
  }

  func send(_ number: UInt64, _ progress: [Clusterdriver_V1_SequenceProgress]) {
    send(number) { $0.progress.sequences = progress }
  }

  /// Sends no more; the vendor app may still.
  func finish() { outgoing.finish() }

  var received: [VendorMessage] { state.withLock { $0.received } }
  var acks: [Clusterdriver_V1_Ack] {
    received.compactMap { if case .ack(let ack) = $0.content { ack } else { nil } }
  }
  var commands: [Clusterdriver_V1_Command] {
    received.compactMap { if case .command(let command) = $0.content { command } else { nil } }
  }
  var flows: [Clusterdriver_V1_FlowHint] {
    received.compactMap { if case .flow(let flow) = $0.content { flow } else { nil } }
  }
  var through: UInt64 { acks.last?.through ?? 0 }

  func isAcknowledged(through number: UInt64) async -> Bool {
    await eventually { self.through >= number }
  }

  /// The stream's end: nil when it ended well, or has not ended in time.
  func error() async -> RPCError? {
    _ = await eventually { self.state.withLock { $0.end } != nil }
    guard case .failure(let error) = state.withLock({ $0.end }) else { return nil }
    return error
  }

  func hasEndedWell() async -> Bool {
    await eventually { if case .success = self.state.withLock({ $0.end }) { true } else { false } }
  }
}

/// A store that can be made to fail, and to wait.
final class MoodyStore: EventStore {
  private struct Mood {
    var failures = 0
    var isFailing = false
    var groups: [Int] = []
    var isWaiting = false
  }

  let inner: any EventStore
  private let mood = Mutex(Mood())
  private let turnstile = NSCondition()
  nonisolated(unsafe) private var isHeld = false

  init(_ inner: any EventStore = MemoryEventStore()) { self.inner = inner }

  var isFailing: Bool {
    get { mood.withLock { $0.isFailing } }
    set { mood.withLock { $0.isFailing = newValue } }
  }

  /// Messages in each group that was committed.
  var groups: [Int] { mood.withLock { $0.groups } }

  /// A commit is waiting because the store is held.
  var isWaiting: Bool { mood.withLock { $0.isWaiting } }

  /// While held, commits wait.
  func hold(_ isHeld: Bool) {
    turnstile.lock()
    self.isHeld = isHeld
    turnstile.broadcast()
    turnstile.unlock()
  }

  func commit(_ group: [Submission]) throws -> CommitOutcome {
    turnstile.lock()
    while isHeld {
      mood.withLock { $0.isWaiting = true }
      turnstile.wait()
    }
    turnstile.unlock()
    mood.withLock { $0.isWaiting = false }
    if isFailing { throw StoreError("the disk is full", advice: "Make room") }
    let outcome = try inner.commit(group)
    mood.withLock { $0.groups.append(group.count) }
    return outcome
  }

  func committedThrough(_ node: NodeIdentity) async throws -> UInt64? {
    try await inner.committedThrough(node)
  }
  func controllers(serial: UInt64) async throws -> [Clusterdriver_V1_ControllerRecord] {
    try await inner.controllers(serial: serial)
  }
  func events(_ query: EventQuery) async throws -> EventRows { try await inner.events(query) }
  func audit(_ serials: ClosedRange<UInt64>) async throws -> [Clusterdriver_V1_LogAudit] {
    try await inner.audit(serials)
  }
  func result(id: CommandID) async throws -> Clusterdriver_V1_CommandResult? {
    try await inner.result(id: id)
  }
  func sequences(serial: UInt64) async throws -> [Clusterdriver_V1_SequenceRecord] {
    try await inner.sequences(serial: serial)
  }
  func progress(id: CommandID) async throws -> Clusterdriver_V1_SequenceProgress? {
    try await inner.progress(id: id)
  }
  func cards(since version: Int?) async throws -> (version: Int, rules: [CardRule])? {
    try await inner.cards(since: version)
  }
  func put(cards: [CardRule]) async throws { try await inner.put(cards: cards) }
  func remove(card: UInt64) async throws -> Int { try await inner.remove(card: card) }
  func close() throws { try inner.close() }
}

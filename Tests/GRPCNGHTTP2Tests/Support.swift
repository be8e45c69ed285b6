import GRPCCore
import GRPCNGHTTP2
import Glibc
import Synchronization
import Testing

/// Something that happens once and can be waited for; a cancelled task waits no longer.
final class Signal: Sendable {
  private struct State {
    var fired = false
    var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    var cancelled: Set<Int> = []
    var lastID = 0
  }
  private let state = Mutex(State())

  var hasFired: Bool { self.state.withLock { $0.fired } }

  func fire() {
    let waiters = self.state.withLock { state in
      state.fired = true
      defer { state.waiters = [:] }
      return state.waiters.values
    }
    for waiter in waiters { waiter.resume() }
  }

  func wait() async {
    let id = self.state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { waiter in
        let isOver = self.state.withLock { state -> Bool in
          if state.fired || state.cancelled.contains(id) { return true }
          state.waiters[id] = waiter
          return false
        }
        if isOver { waiter.resume() }
      }
    } onCancel: {
      let waiter = self.state.withLock { state in
        state.cancelled.insert(id)
        return state.waiters.removeValue(forKey: id)
      }
      waiter?.resume()
    }
  }
}

final class Counter: Sendable {
  private let value = Atomic<Int>(0)
  func add(_ n: Int = 1) { self.value.add(n, ordering: .relaxed) }
  var count: Int { self.value.load(ordering: .relaxed) }
}

/// Collects events of a transport.
final class EventLog: Sendable {
  private let events = Mutex<[NGHTTP2Event]>([])
  func add(_ event: NGHTTP2Event) { self.events.withLock { $0.append(event) } }
  var all: [NGHTTP2Event] { self.events.withLock { $0 } }

  var connected: Int {
    self.all.reduce(0) { if case .connected = $1 { $0 + 1 } else { $0 } }
  }
  var disconnectReasons: [String] {
    self.all.compactMap { if case .disconnected(_, let reason, _) = $0 { reason } else { nil } }
  }
}

struct TimedOut: Error, CustomStringConvertible {
  let what: String
  var description: String { "timed out: \(self.what)" }
}

/// Fails a test that hangs, by name, instead of hanging the run.
func within<T: Sendable>(
  _ limit: Duration = .seconds(30), _ what: String = "",
  _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
  try await withThrowingTaskGroup(of: T.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await Task.sleep(for: limit)
      throw TimedOut(what: what)
    }
    defer { group.cancelAll() }
    return try await group.next()!
  }
}

/// Polls until `condition` holds: for what no event tells (descriptors, memory).
func eventually(
  _ limit: Duration = .seconds(10), _ condition: @Sendable () async -> Bool
) async throws -> Bool {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if await condition() { return true }
    try await Task.sleep(for: .milliseconds(10))
  }
  return await condition()
}

extension GRPCClient {
  func get(
    _ message: [UInt8], metadata: Metadata = [:], options: CallOptions = .defaults,
    method: MethodDescriptor = Method.get
  ) async throws -> [UInt8] {
    try await self.unary(
      request: ClientRequest(message: message, metadata: metadata), descriptor: method,
      serializer: RawSerializer(), deserializer: RawDeserializer(), options: options
    ) { try $0.message }
  }

  func bidirectional<T: Sendable>(
    _ method: MethodDescriptor, metadata: Metadata = [:], options: CallOptions = .defaults,
    write: @escaping @Sendable (RPCWriter<[UInt8]>) async throws -> Void,
    read: @escaping @Sendable (StreamingClientResponse<[UInt8]>) async throws -> T
  ) async throws -> T {
    try await self.bidirectionalStreaming(
      request: StreamingClientRequest(metadata: metadata, producer: write), descriptor: method,
      serializer: RawSerializer(), deserializer: RawDeserializer(), options: options,
      onResponse: read)
  }
}

/// A server with the echo service and a client connected to it.
struct Pair: Sendable {
  let client: GRPCClient<NGHTTP2ClientTransport>
  let server: GRPCServer<NGHTTP2ServerTransport>
  let serverTransport: NGHTTP2ServerTransport
  let address: NGHTTP2Address
  let record: EchoRecord
  let clientEvents: EventLog
  let serverEvents: EventLog
}

/// The default configuration with some changes.
func serverConfig(_ change: (inout NGHTTP2ServerConfig) -> Void) -> NGHTTP2ServerConfig {
  var config = NGHTTP2ServerConfig()
  config.shutdownGrace = .seconds(5)
  change(&config)
  return config
}

/// A configuration that reconnects fast, with some changes.
func clientConfig(_ change: (inout NGHTTP2ClientConfig) -> Void) -> NGHTTP2ClientConfig {
  var config = NGHTTP2ClientConfig()
  config.backoff = NGHTTP2Backoff(initial: .milliseconds(20), maximum: .milliseconds(200))
  change(&config)
  return config
}

let anyPort = NGHTTP2Address.tcp(host: "127.0.0.1", port: 0)

func withServer<T: Sendable>(
  _ address: NGHTTP2Address = anyPort,
  _ config: NGHTTP2ServerConfig = serverConfig { _ in },
  _ body:
    @escaping @Sendable (
      GRPCServer<NGHTTP2ServerTransport>, NGHTTP2Address, EchoRecord, EventLog
    ) async throws -> T
) async throws -> T {
  let events = EventLog()
  var config = config
  config.onEvent = { events.add($0) }
  let transport = try NGHTTP2ServerTransport(address: address, config: config)
  let record = EchoRecord()
  let server = GRPCServer(transport: transport, router: makeEchoRouter(record, for: transport))
  return try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await server.serve() }
    let result: T
    do {
      result = try await body(server, try await transport.listeningAddress, record, events)
    } catch {
      server.beginGracefulShutdown()
      group.cancelAll()
      throw error
    }
    server.beginGracefulShutdown()
    try await group.waitForAll()
    return result
  }
}

func withClient<T: Sendable>(
  _ target: NGHTTP2Address, events: EventLog = EventLog(),
  _ config: NGHTTP2ClientConfig = clientConfig { _ in },
  _ body: @escaping @Sendable (GRPCClient<NGHTTP2ClientTransport>) async throws -> T
) async throws -> T {
  var config = config
  config.onEvent = { events.add($0) }
  return try await withGRPCClient(
    transport: try NGHTTP2ClientTransport(target: target, config: config), handleClient: body)
}

func withPair<T: Sendable>(
  address: NGHTTP2Address = anyPort,
  server: NGHTTP2ServerConfig = serverConfig { _ in },
  client: NGHTTP2ClientConfig = clientConfig { _ in },
  within limit: Duration = .seconds(30),
  _ body: @escaping @Sendable (Pair) async throws -> T
) async throws -> T {
  try await within(limit, "client and server") {
    try await withServer(address, server) { server, address, record, serverEvents in
      let clientEvents = EventLog()
      return try await withClient(address, events: clientEvents, client) { client in
        try await body(
          Pair(
            client: client, server: server, serverTransport: server.transport, address: address,
            record: record, clientEvents: clientEvents, serverEvents: serverEvents))
      }
    }
  }
}

/// Resident bytes of this process.
func residentBytes() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 128)
  guard fgets(&line, 128, file) != nil else { return 0 }
  let fields = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.split(
    separator: " ")
  return (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE))
}

/// Open descriptors of this process.
func openDescriptors() -> Int {
  guard let directory = opendir("/proc/self/fd") else { return 0 }
  defer { closedir(directory) }
  var n = 0
  while readdir(directory) != nil { n += 1 }
  return n - 3  // ".", ".." and the directory itself
}

func fileExists(_ path: String) -> Bool {
  access(path, F_OK) == 0
}

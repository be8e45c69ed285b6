import DriverProtocol
import Foundation
import GRPCCore
import GRPCNGHTTP2
import Synchronization
import Testing

@testable import VendorStore

/// The program as it is started, stopped and killed.
@Suite("vendor-app", .serialized) struct ProgramTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test("kill -9 at any moment: what was acknowledged is in the file")
  func killed() async throws {
    var random = Seeded(7)
    var acknowledged: UInt64 = 0
    for incarnation in UInt64(1)...25 {
      let program = try Program(database: scratch.database, in: scratch)
      let next = acknowledged + 1
      let patience = Duration.milliseconds(Int.random(in: 0...60, using: &random))
      let reached = try await program.withClient { gateway in
        let sender = Task {
          try await gateway.attach { writer in
            try await writer.write(.hello("a:5001", incarnation))
            var number: UInt64 = 1
            // Bounded, lest a round on a busy machine makes a file that takes the next ones minutes.
            while !Task.isCancelled, number <= 2_000 {
              // Message n of this incarnation carries the ten records from next + 10 (n − 1) on.
              let first = next + 10 * (number - 1)
              let events = (first..<first + 10).map {
                event(1, $0, body: [UInt8](repeating: 5, count: 40))
              }
              try await writer.write(.events(number, events))
              number += 1
            }
            _ = await eventually { program.hasEnded }
          } onResponse: { response in
            for try await message in response.messages {
              program.through.withLock { $0 = max($0, message.ack.through) }
            }
          }
        }
        _ = await eventually { program.through.withLock { $0 } > 0 }
        try await Task.sleep(for: patience)
        program.kill()
        sender.cancel()
        _ = await sender.result
        return program.through.withLock { $0 }
      }
      #expect(reached > 0)
      let told = next - 1 + 10 * reached
      let store = try SQLiteEventStore(path: scratch.database)
      let audit = try #require(try await store.audit(1...1).first)
      #expect(audit.lastSeq >= told, "round \(incarnation): acknowledged through \(told)")
      #expect(audit.holes == 0)
      #expect(audit.duplicates == 0)
      #expect(audit.events == audit.lastSeq)
      try store.close()
      acknowledged = told
    }
  }

  @Test("SIGTERM: everything acknowledged is stored, and the node is told to come back")
  func terminated() async throws {
    let program = try Program(database: scratch.database, in: scratch)
    let error = try await program.withClient { gateway in
      await #expect(throws: RPCError.self) {
        try await gateway.attach { writer in
          try await writer.write(.hello("a:5001", 1))
          for number in UInt64(1)...50 {
            try await writer.write(.events(number, [event(1, number)]))
          }
          // Keeps its side open: it is the vendor app that ends the stream.
          _ = await eventually { program.hasEnded }
        } onResponse: { response in
          for try await message in response.messages {
            program.through.withLock { $0 = max($0, message.ack.through) }
            if message.ack.through == 50 { program.terminate() }
          }
        }
      }
    }
    #expect(error?.code == .unavailable)
    #expect(await program.exitStatus() == 0)
    let store = try SQLiteEventStore(path: scratch.database)
    #expect(try await store.audit(1...1).first?.events == 50)
  }

  @Test("off loopback it does not start without --insecure, and says what to do")
  func insecure() async throws {
    let program = try Program(arguments: ["--listen", "0.0.0.0:0", "--db", "memory:"])
    #expect(await program.exitStatus() == 64)
    #expect(program.errors.contains("--insecure"))
  }

  @Test("an address in use is an error, not a wait")
  func addressInUse() async throws {
    let first = try Program(database: scratch.database, in: scratch)
    let second = try Program(
      arguments: ["--listen", "127.0.0.1:\(first.port)", "--db", "memory:"])
    #expect(await second.exitStatus() == 1)
    #expect(second.errors.contains("in use"))
  }

  @Test("cards are added, listed in the form that is read, and removed")
  func cards() async throws {
    let db = "sqlite:" + scratch.database
    for arguments in [["add", "0xCAFE"], ["add", "7", "--serial", "3", "--door", "2", "--deny"]] {
      let program = try Program(arguments: ["cards"] + arguments + ["--db", db])
      #expect(await program.exitStatus() == 0)
    }
    let list = try Program(arguments: ["cards", "list", "--db", db])
    #expect(await list.exitStatus() == 0)
    #expect(
      try CardFile.parse(list.output) == [
        CardRule(card: 7, serial: 3, door: 2, allowed: false), CardRule(card: 0xCAFE),
      ])
    let store = try SQLiteEventStore(path: scratch.database)
    #expect(try await store.cards(since: nil)?.rules.count == 2, "in the database that was named")
    try store.close()
    let remove = try Program(arguments: ["cards", "remove", "8", "--db", db])
    #expect(await remove.exitStatus() == 1)
  }

  @Test("--help shows the options of serving, those for testing among them")
  func help() async throws {
    let program = try Program(arguments: ["--help"])
    #expect(await program.exitStatus() == 0)
    for option in ["--listen", "--db", "--insecure", "--stall", "--delay", "--misbehave"] {
      #expect(program.output.contains(option))
    }
  }

  @Test("a file of cards is read, or refused with its line")
  func cardFile() throws {
    let text = "# staff\n51966\n0xCAFE , 12,3, no # lost\n\n7,0,2\n"
    #expect(
      try CardFile.parse(text) == [
        CardRule(card: 51_966), CardRule(card: 0xCAFE, serial: 12, door: 3, allowed: false),
        CardRule(card: 7, door: 2),
      ])
    for (bad, line) in [
      ("x", 1), ("1\n-2", 2), ("1,18446744073709551615", 1), ("1,0,65536", 1), ("1,0,0,maybe", 1),
      ("1,0,0,yes,5", 1), ("1\n\n,", 3), ("+5", 1),
    ] {
      let error = #expect(throws: CardFile.Malformed.self) { try CardFile.parse(bad) }
      #expect(error?.line == line, "\(bad)")
    }
  }
}

extension DriverMessage {
  fileprivate static func hello(_ node: String, _ incarnation: UInt64) -> DriverMessage {
    var message = DriverMessage()
    message.hello.nodeID = node
    message.hello.incarnation = incarnation
    message.hello.version = "1.0.0"
    message.hello.nextNumber = 1
    return message
  }

  fileprivate static func events(_ number: UInt64, _ events: [Event]) -> DriverMessage {
    var message = DriverMessage()
    message.number = number
    message.events.events = events
    return message
  }
}

/// A started vendor-app. Killed when it is let go.
private final class Program: Sendable {
  let process: Process
  let port: Int
  let through = Mutex<UInt64>(0)
  private let errorFile: FileHandle
  private let outputFile: FileHandle

  /// Serves the database on a free port; waits until it does.
  convenience init(database: String, in scratch: Scratch) throws {
    let ready = scratch.path + "/ready.json"
    try? FileManager.default.removeItem(atPath: ready)
    try self.init(
      arguments: [
        "--listen", "127.0.0.1:0", "--db", "sqlite:" + database, "--ready-file", ready,
      ], ready: ready)
  }

  init(arguments: [String], ready: String? = nil) throws {
    let process = Process()
    process.executableURL = Self.executable
    process.arguments = arguments
    let (output, errors) = (try Self.scratchFile(), try Self.scratchFile())
    process.standardOutput = output
    process.standardError = errors
    outputFile = output
    errorFile = errors
    try process.run()
    self.process = process
    var port = 0
    let deadline = ContinuousClock.now + .seconds(20)
    while let ready, port == 0, process.isRunning, ContinuousClock.now < deadline {
      port = Self.port(in: ready) ?? 0
      if port == 0 { usleep(1_000) }
    }
    self.port = port
    if ready != nil, port == 0 {
      process.terminate()
      throw CocoaError(.executableLoad)
    }
  }

  deinit { if process.isRunning { kill() } }

  private static func scratchFile() throws -> FileHandle {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data().write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    return try FileHandle(forUpdating: url)
  }

  private static func port(in ready: String) -> Int? {
    struct Ready: Decodable {
      var listen: String
      var pid: Int32
    }
    guard let data = FileManager.default.contents(atPath: ready),
      let said = try? JSONDecoder().decode(Ready.self, from: data)
    else { return nil }
    return said.listen.split(separator: ":").last.flatMap { Int($0) }
  }

  /// Built beside the tests.
  private static var executable: URL {
    let link = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let beside = link.deletingLastPathComponent().appendingPathComponent("vendor-app")
    if FileManager.default.isExecutableFile(atPath: beside.path) { return beside }
    // The toolchain's test runner loads the tests as a library.
    let bundle = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    return bundle.appendingPathComponent("vendor-app")
  }

  func kill() { Foundation.kill(process.processIdentifier, SIGKILL) }
  func terminate() { Foundation.kill(process.processIdentifier, SIGTERM) }
  var hasEnded: Bool { !process.isRunning }

  func exitStatus() async -> Int32? {
    await eventually { self.hasEnded } ? process.terminationStatus : nil
  }

  var errors: String { Self.text(errorFile) }
  var output: String { Self.text(outputFile) }

  private static func text(_ file: FileHandle) -> String {
    try? file.seek(toOffset: 0)
    return String(decoding: file.availableData, as: UTF8.self)
  }

  func withClient<R: Sendable>(
    _ body:
      @Sendable (Clusterdriver_V1_DriverGateway.Client<NGHTTP2ClientTransport>) async throws -> R
  ) async throws -> R {
    let transport = try NGHTTP2ClientTransport(target: .tcp(host: "127.0.0.1", port: port))
    return try await withGRPCClient(transport: transport) { client in
      try await body(Clusterdriver_V1_DriverGateway.Client(wrapping: client))
    }
  }
}

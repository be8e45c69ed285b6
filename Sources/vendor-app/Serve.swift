internal import ArgumentParser
internal import Foundation
internal import GRPCCore
internal import GRPCNGHTTP2
internal import Logging
internal import VendorStore

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The reference vendor app: stores events, answers access requests, sends commands.",
    discussion: """
      Serves clusterdriver.v1.DriverGateway to nodes and clusterdriver.v1.VendorQuery to people and \
      tools, until it gets SIGTERM or SIGINT: then it commits and acknowledges what was read, and \
      ends. SIGUSR1: stalls, and with the next one goes on. "serve" may be left out. Docs/VENDOR.md \
      tells how to write a vendor app of your own.

      The cards that open doors are kept with "vendor-app cards"; see "vendor-app cards --help".
      """)

  @Option(help: "Where to listen: HOST:PORT (port 0: any free one) or unix:PATH.")
  var listen = ListenAddress(argument: "127.0.0.1:50051")!

  @Option(help: "Where events are kept: sqlite:PATH, or memory: (lost at the end).")
  var db = Database.sqlite(path: "vendor-app.db")

  @Flag(help: "Allows plain TCP off loopback, where anybody who reaches it can open doors.")
  var insecure = false

  @Option(
    help: """
      A file of cards to add at the start, a line each: card[,serial[,door[,yes or no]]]; serial \
      and door 0 mean any.
      """)
  var cards: String?

  @Option(
    help: """
      Written when it serves: {"listen":"HOST:PORT","pid":…}. Appears whole or not at all.
      """)
  var readyFile: String?

  @Option(help: "Event bytes a node may have unacknowledged, as a hint; 0 = as the node likes.")
  var flowBytes: UInt64 = 0

  @Option(help: "Waits this long before each commit, in ms: plays a slow vendor app.")
  var delay = 0

  @Option(help: "SECONDS@AFTER: stalls for so long, so long after it began to serve.")
  var stall: StallPlan?

  @Option(
    help: """
      For testing nodes only: acknowledges what was not sent (ack-future), sends bytes that are no \
      message (garbage), or never acknowledges (drop-acks).
      """)
  var misbehave: Fault?

  @Option(help: "trace, debug, info, notice, warning, error.")
  var logLevel = LogLevel.info

  func validate() throws {
    guard (0...3_600_000).contains(delay) else {
      throw ValidationError("--delay is from 0 to 3600000 ms.")
    }
    guard insecure || listen.isLocal else {
      throw ValidationError(
        """
        --listen \(listen.address) can be reached from other machines, in plain text and by anybody: \
        they could read events and open doors. Listen on 127.0.0.1 or unix:PATH, or, in a network \
        where nobody else is, add --insecure.
        """)
    }
  }

  func run() async throws {
    let level = logLevel.level
    LoggingSystem.bootstrap { label in
      var handler = StreamLogHandler.standardError(label: label)
      handler.logLevel = level
      return handler
    }
    let logger = Logger(label: "vendor-app")
    let signals = Signals([SIGTERM, SIGINT, SIGUSR1])
    let store = try await openStore()
    let app = try await VendorApp(store: store, options: options, logger: logger)
    try await serve(app, until: signals, logger: logger)
    try store.close()
    logger.notice("stopped")
  }

  private var options: VendorApp.Options {
    var options = VendorApp.Options()
    options.commitDelay = .milliseconds(delay)
    options.flowBytes = flowBytes
    options.misbehaviour = misbehave?.misbehaviour
    return options
  }

  private func openStore() async throws -> any EventStore {
    do {
      let store = try db.open()
      if let cards { try await store.put(cards: try readCards(cards)) }
      return store
    } catch let error as StoreError {
      throw Failure(message: "\(error)")
    }
  }

  private func readCards(_ path: String) throws -> [CardRule] {
    do {
      return try CardFile.parse(String(contentsOfFile: path, encoding: .utf8))
    } catch {
      throw Failure(message: "cannot read the cards in \(path): \(error)")
    }
  }

  private func serve(_ app: VendorApp, until signals: Signals, logger: Logger) async throws {
    var config = NGHTTP2ServerConfig()
    // A node whose host has died is noticed, and its place is free for the one that comes back.
    config.keepalive = NGHTTP2Keepalive(interval: .seconds(20), timeout: .seconds(10))
    config.shutdownGrace = .seconds(5)
    config.onEvent = { logger.debug("\($0)") }
    let transport = try NGHTTP2ServerTransport(address: listen.address, config: config)
    let server = GRPCServer(transport: transport, services: app.services)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      do {
        try announce(try await transport.listeningAddress)
      } catch let error as RPCError {
        throw Failure(message: error.message)
      }
      group.addTask { await stallAsPlanned(app) }
      await obey(signals, app, logger)
      await app.stop()
      server.beginGracefulShutdown()
      group.cancelAll()
      try await group.waitForAll()
    }
  }

  private func announce(_ address: NGHTTP2Address) throws {
    print("listening on \(address)")
    fflush(nil)
    guard let readyFile else { return }
    let ready = Ready(listen: "\(address)", pid: getpid())
    do {
      try JSONEncoder().encode(ready).write(to: URL(fileURLWithPath: readyFile), options: .atomic)
    } catch {
      throw Failure(message: "cannot write --ready-file \(readyFile): \(error)")
    }
  }

  private struct Ready: Encodable {
    var listen: String
    var pid: Int32
  }

  private func stallAsPlanned(_ app: VendorApp) async {
    guard let stall else { return }
    do {
      try await Task.sleep(for: stall.after)
      app.setStalled(true)
      try await Task.sleep(for: stall.length)
    } catch {
      return  // stopping, which ends a stall by itself
    }
    app.setStalled(false)
  }

  /// Returns when it is time to stop.
  private func obey(_ signals: Signals, _ app: VendorApp, _ logger: Logger) async {
    for await number in signals.stream {
      if number == SIGUSR1 {
        app.toggleStall()
      } else {
        logger.notice("stopping; a second signal ends it at once")
        signals.endAtNext([SIGTERM, SIGINT])
        return
      }
    }
  }
}

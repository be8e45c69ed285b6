internal import Dispatch
internal import DriverProtocol
public import GRPCCore
public import Logging
internal import Synchronization

/// A vendor app without a transport: its store, its writer, and the services to serve.
///
///     let app = try await VendorApp(store: store, options: .init(), logger: logger)
///     let server = GRPCServer(transport: transport, services: app.services)
///     …serve…
///     await app.stop()                  // before the server's own end: nodes get their last acks
///     server.beginGracefulShutdown()
public final class VendorApp: Sendable {
  public struct Options: Sendable {
    /// Slept before each commit, to play a slow one.
    public var commitDelay: Duration = .zero
    /// Bytes a node's stream may have taken in but not committed.
    public var streamBudget = 4 << 20
    /// Event bytes in flight to ask nodes for; 0 = as they like.
    public var flowBytes: UInt64 = 0
    /// How long a stop may wait for the store to take what was read.
    public var stopWithin: Duration = .seconds(10)
    public var misbehaviour: Misbehaviour?

    public init() {}
  }

  public let services: [any RegistrableRPCService]
  private let store: any EventStore
  private let committer: Committer
  private let desks: AttachService.Desks
  private let tail = TailHub()
  private let options: Options
  private let logger: Logger
  private let cards: Mutex<Task<Void, Never>?> = Mutex(nil)

  /// Reads the controllers' last statuses and the cards from the store, and starts the writer.
  public init(store: any EventStore, options: Options = Options(), logger: Logger) async throws {
    let counters = Counters()
    var tuning = Committer.Tuning()
    tuning.delay = options.commitDelay
    let committer = Committer(
      store: store, counters: counters, tail: tail, tuning: tuning, logger: logger)
    let roster = NodeRoster()
    let directory = ControllerDirectory()
    for record in try await store.controllers(serial: 0) where record.status.state != .unspecified {
      directory.note([record.status], from: record.nodeID)
    }
    let commands = CommandDesk(directory: directory, roster: roster)
    let access = AccessDesk(counters: counters, logger: logger)
    desks = AttachService.Desks(
      roster: roster, directory: directory, commands: commands, access: access,
      counters: counters, queue: committer.queue, store: store)
    services = [
      AttachService(
        budget: options.streamBudget, flowBytes: options.flowBytes,
        misbehaviour: options.misbehaviour, desks: desks, logger: logger),
      QueryService(
        store: store, counters: counters, tailHub: tail, commands: commands, roster: roster,
        directory: directory),
    ]
    self.store = store
    self.committer = committer
    self.options = options
    self.logger = logger
    let version = try await Self.loadCards(from: store, since: nil, to: access)
    cards.withLock { $0 = Task { await watchCards(since: version) } }
    committer.start()
  }

  /// While stalled the app takes what its memory allows, commits nothing and acknowledges nothing.
  public func setStalled(_ isStalled: Bool) {
    logger.notice(isStalled ? "stalled on request" : "no longer stalled")
    committer.setStalled(isStalled)
  }

  public func toggleStall() { setStalled(!committer.isStalled) }

  /// What was read and no commit has taken up yet, in bytes.
  var queuedBytes: Int { committer.queue.byteCount }

  /// Reads no more, commits and acknowledges what was read, ends the streams. The store stays open.
  public func stop() async {
    cards.withLock { $0.take() }?.cancel()
    desks.roster.stop()
    desks.commands.stop()
    tail.closeAll()
    let committer = committer
    let limit = options.stopWithin
    let isDone = await withCheckedContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(returning: committer.stop(within: limit)) }
    }
    if !isDone {
      logger.error(
        "stopped before the store took everything; the nodes have it still and will send it again")
    }
    // The last acknowledgements are on their way; a node that does not take them gets them anew.
    let deadline = ContinuousClock.now + .seconds(2)
    while desks.roster.count > 0, ContinuousClock.now < deadline {
      try? await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Cards are edited while the app runs, by its own subcommand or with the sqlite3 tool.
  private func watchCards(since version: Int?) async {
    var version = version
    while !Task.isCancelled {
      try? await Task.sleep(for: .seconds(1))
      // A table that cannot be read now is as good as it was: doors go on opening.
      version = try? await Self.loadCards(from: store, since: version, to: desks.access)
    }
  }

  private static func loadCards(
    from store: any EventStore, since version: Int?, to access: AccessDesk
  ) async throws -> Int? {
    guard let (current, rules) = try await store.cards(since: version) else { return version }
    access.setTable(CardTable(rules))
    return current
  }
}

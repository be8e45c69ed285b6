internal import ArgumentParser
internal import CSystem
internal import ClusterDriver
internal import Election
internal import Glibc
internal import Logging
internal import RedisLink
internal import Synchronization

/// A member of a cluster that holds ranges and serves nobody: what a node is to its peers, without
/// controllers, for tests of ownership by whole processes. It writes down what it may act for, and until
/// when; journals of several, put together, show whether two ever might at once.
@main
struct ClusterHolder: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cluster-holder",
    abstract: "Holds ranges as a node does, and writes down what it may act for; for tests.",
    discussion: """
      The journal has a line for each change, each beginning with CLOCK_BOOTTIME in ns:
        T acts UNTIL -FIRST … +FIRST-LAST@EPOCH …
                              until UNTIL (0: not at all) for these (+) too, for those (-) no more
        T seals FIRST MOVE
        T ends stopped | replaced
      Ends on SIGTERM or SIGINT, when its session is given back.
      """)

  @Option(help: "Stable name of the node, unique in the cluster.") var nodeId: String
  @Option(help: "Where the cluster keeps its leases: redis://…, as a node takes it.")
  var redis: String
  @Option(help: "The file to write to.") var journal: String
  @Option(help: "Where to listen for the other members, on any free port.")
  var peersHost = "127.0.0.1"
  @Option(help: "f: members without whose promise it holds, 0 … 3.") var tolerance = 0
  @Option(help: "What is kept over lives.") var stateFile: String?
  @Flag(help: "As leader, neither split nor merge ranges.") var noCuts = false
  @Option(help: "As leader, how many ranges may move at a time.") var movesMax = 8

  func validate() throws {
    guard (0...3).contains(tolerance) else { throw ValidationError("--tolerance must be 0 … 3") }
  }

  func run() throws {
    let signals = csys_signals_open([SIGTERM, SIGINT], 2)
    guard signals >= 0 else { throw ValidationError("no signals: \(text(signals))") }
    csys_sigpipe_ignore()
    var settings = ClusterMember.Settings(
      node: NodeID(nodeId), incarnation: Incarnation(csys_clock_realtime()),
      redis: try RedisURL(parsing: redis), timing: try Timing(),
      peersBind: HostPort(host: peersHost, port: 0), peersHost: peersHost)
    settings.tolerance = tolerance
    settings.stateFile = stateFile
    settings.limits.movesMax = movesMax
    if noCuts {
      settings.limits.splitAbove = .max
      settings.limits.mergeBelow = 0
      settings.limits.rangesPerMember = 0
    }
    let journal = try Journal(path: journal)
    let holder = Holder(journal)
    let member = try ClusterMember(
      settings, log: Logger(label: nodeId) { StreamLogHandler.standardError(label: $0) },
      handlers: OwnershipLoop.Handlers(
        act: { journal.acts($0, $1) },
        // Nothing is ever under way.
        seal: { holder.seal($0, $1) },
        ended: { holder.ended($0) }))
    holder.member.withLock { $0 = member }
    member.start()
    while !holder.isOver.load(ordering: .acquiring) {
      var waiting = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
      if poll(&waiting, 1, 20) > 0, csys_signals_read(signals) > 0 {
        member.happened(.stop)
        member.happened(.workEnded)
      }
    }
    member.close()
  }

  private func text(_ error: Int32) -> String { String(cString: csys_error_text(error)) }
}

/// Answers the member's loop.
private final class Holder: Sendable {
  let member = Mutex<ClusterMember?>(nil)
  let isOver = Atomic<Bool>(false)
  private let journal: Journal

  init(_ journal: Journal) {
    self.journal = journal
  }

  func seal(_ first: Serial, _ move: UInt64) {
    journal.write("seals \(first) \(move)")
    member.withLock { $0 }?.happened(.sealed(first, move: move))
  }

  func ended(_ ending: OwnershipLoop.Ending) {
    journal.write("ends \(ending == .stopped ? "stopped" : "replaced")")
    isOver.store(true, ordering: .releasing)
  }
}

/// Lines with the time they are written at. Of the loop's thread.
private final class Journal: Sendable {
  private let fd: Int32
  private let ranges = Mutex<[OwnedRange]>([])

  init(path: String) throws {
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard fd >= 0 else {
      throw ValidationError("--journal \(path): \(String(cString: csys_error_text(errno)))")
    }
  }

  func acts(_ acting: [OwnedRange], _ until: Instant?) {
    let former = ranges.withLock { ranges in
      defer { ranges = acting }
      return ranges
    }
    var line = "acts \(until?.nanoseconds ?? 0)"
    if former != acting {
      let (ended, begun) = OwnedRange.changes(from: former, to: acting)
      for range in ended { line += " -\(range.first)" }
      for range in begun {
        line += " +\(range.first)-\(range.last)@\(range.epoch.rawValue)"
      }
    }
    write(line)
  }

  func write(_ text: String) {
    var bytes = Array("\(csys_clock_boottime()) \(text)\n".utf8)
    // One write for each line: processes that are killed leave whole ones.
    guard Glibc.write(fd, &bytes, bytes.count) == bytes.count else {
      fatalError("the journal cannot be written: \(String(cString: csys_error_text(errno)))")
    }
  }
}

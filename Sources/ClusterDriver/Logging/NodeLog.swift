internal import CSystem
internal import Logging

/// A node's log: makes loggers, all of which write through one ``LogQueue``.
///
/// Logging never waits for whoever reads the log. Metadata become fields: `serial` is
/// `CONTROLLER_SERIAL=` in the journal and `serial=` on standard error.
struct NodeLog: Sendable {
  let queue: LogQueue

  /// Opens the log where the configuration says. With ``LogDestination/journal`` and without a
  /// journal it throws; ``LogDestination/auto`` goes to standard error then.
  static func open(_ destination: LogDestination, level: LogThreshold) throws(LogFailure) -> NodeLog
  {
    let leadsToJournal = csys_journal_is(2)
    let stderr = DescriptorSink(fd: 2, style: leadsToJournal ? .journalPrefix : .plain)
    let level = level.level
    switch destination {
    case .stderr:
      return NodeLog(sink: stderr, level: level)
    case .journal:
      return NodeLog(sink: try JournalSink(fallback: stderr), level: level)
    case .auto:
      if leadsToJournal, let journal = try? JournalSink(fallback: stderr) {
        return NodeLog(sink: journal, level: level)
      }
      return NodeLog(sink: stderr, level: level)
    }
  }

  init(sink: any LogSink, level: Logger.Level) {
    self.queue = LogQueue(sink: sink, level: level)
  }

  /// A logger of a part of the node: `events`, `redis`. Its level is the log's, also when that changes.
  func logger(_ label: String) -> Logger {
    Logger(label: label) { NodeLogHandler(label: $0, queue: self.queue) }
  }

  /// Writes what is waiting, for at most `limit`, and ends.
  @discardableResult
  func close(within limit: Duration = .seconds(2)) -> Bool {
    self.queue.close(within: limit)
  }
}

/// swift-log's side of ``NodeLog``.
struct NodeLogHandler: LogHandler {
  private let label: String
  private let queue: LogQueue
  private var ownLevel: Logger.Level?
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?

  init(label: String, queue: LogQueue) {
    self.label = label
    self.queue = queue
  }

  var logLevel: Logger.Level {
    get { self.ownLevel ?? self.queue.level }
    set { self.ownLevel = newValue }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { self.metadata[key] }
    set { self.metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var fields = self.metadata
    if let provided = self.metadataProvider?.get() {
      fields.merge(provided) { $1 }
    }
    if let given = event.metadata {
      fields.merge(given) { $1 }
    }
    if let error = event.error, fields["error"] == nil {
      fields["error"] = .string("\(error)")
    }
    self.queue.offer(
      LogRecord(
        atMs: csys_clock_realtime() / 1_000_000, level: event.level, label: self.label,
        message: event.message.description,
        fields: fields.map { (key: $0.key, value: $0.value.description) }, file: event.file,
        line: event.line))
  }
}

extension LogThreshold {
  /// The same in swift-log's words.
  var level: Logger.Level { Logger.Level(rawValue: self.rawValue)! }
}

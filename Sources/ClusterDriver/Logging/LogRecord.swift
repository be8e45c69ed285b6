internal import Logging

/// One log line, before it is laid out for where it goes. Every part has a limit, because peers
/// have a say in some of them.
struct LogRecord: Sendable, Equatable {
  static let messageMax = 4_096
  static let fieldsMax = 32
  static let valueMax = 1_024

  struct Field: Sendable, Equatable {
    let key: String
    let value: String
  }

  /// ms UTC.
  let atMs: UInt64
  let level: Logger.Level
  let label: String
  let message: String
  /// By key.
  let fields: [Field]
  /// `Module/File.swift`, and the line in it.
  let file: String
  let line: UInt

  init(
    atMs: UInt64, level: Logger.Level, label: String, message: String,
    fields: [(key: String, value: String)] = [], file: String = "", line: UInt = 0
  ) {
    self.atMs = atMs
    self.level = level
    self.label = label
    self.message = LogRecord.cut(message, to: LogRecord.messageMax)
    self.fields = fields.sorted { $0.key < $1.key }.prefix(LogRecord.fieldsMax).map {
      Field(
        key: LogRecord.cut($0.key, to: 64), value: LogRecord.cut($0.value, to: LogRecord.valueMax))
    }
    self.file = file
    self.line = line
  }

  /// Roughly the memory it takes, in bytes.
  var cost: Int {
    self.fields.reduce(128 + self.message.utf8.count) {
      $0 + 32 + $1.key.utf8.count + $1.value.utf8.count
    }
  }

  private static func cut(_ text: String, to max: Int) -> String {
    guard text.utf8.count > max else { return text }
    // The view of UTF-8 may be cut within a character; the repair makes it a replacement mark.
    return String(decoding: text.utf8.prefix(max - 3), as: UTF8.self) + "…"
  }
}

extension Logger.Level {
  /// As syslog and the journal number them, 0 the gravest.
  var syslogPriority: Int {
    switch self {
    case .trace, .debug: return 7
    case .info: return 6
    case .notice: return 5
    case .warning: return 4
    case .error: return 3
    case .critical: return 2
    }
  }
}

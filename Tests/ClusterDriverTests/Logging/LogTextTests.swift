import Logging
import Testing

@testable import ClusterDriver

@Suite("Log lines")
struct LogTextTests {
  static func record(
    _ message: String, _ fields: [(key: String, value: String)] = [],
    level: Logger.Level = .info
  ) -> LogRecord {
    LogRecord(
      atMs: 1_795_488_393_524, level: level, label: "events", message: message, fields: fields,
      file: "ClusterDriver/Events.swift", line: 7)
  }

  static func text(_ record: LogRecord, _ style: LogText.Style = .plain) -> String {
    String(decoding: LogText.line(record, style: style), as: UTF8.self)
  }

  @Test("a line has time, level, part of the node, message and fields by key")
  func plain() {
    let record = Self.record("attached", [("serial", "12345"), ("epoch", "7")])
    #expect(
      Self.text(record) == "2026-11-24T02:46:33.524Z info events: attached epoch=7 serial=12345\n")
  }

  @Test("for the journal a line begins with the priority and leaves the time to it")
  func journalPrefix() {
    #expect(Self.text(Self.record("down", level: .error), .journalPrefix) == "<3>events: down\n")
    let priorities = Logger.Level.allCases.map(\.syslogPriority)
    #expect(priorities == [7, 7, 6, 5, 4, 3, 2])
  }

  @Test("what a peer says stays within its line and its quotes")
  func escapes() {
    let record = Self.record(
      "model \u{1B}[2J\nfake",
      [
        ("a", ""), ("b", "two words"), ("c", "x=\"y\\z\""), ("d", "é"),
        ("e", "\u{202E}\u{85}\r"), ("f", "plain-1.2:3"),
      ])
    #expect(
      Self.text(record)
        == #"2026-11-24T02:46:33.524Z info events: model \x1b[2J\nfake a="" b="two words""#
        + #" c="x=\"y\\z\"" d="é" e="\x202e\x85\x0d" f=plain-1.2:3"# + "\n")
  }

  @Test("messages, fields and their number are cut to their limits, at borders of characters")
  func limits() {
    let long = String(repeating: "é", count: 10_000)
    let fields = (100..<200).map { (key: "k\($0)", value: long) }
    let record = Self.record(long, fields)
    #expect(record.message.utf8.count <= LogRecord.messageMax + 3)
    #expect(record.message.hasSuffix("…"))
    #expect(record.fields.count == LogRecord.fieldsMax)
    #expect(record.fields.allSatisfy { $0.value.utf8.count <= LogRecord.valueMax + 3 })
    #expect(record.cost < 64 << 10)
  }

  @Test(
    "keys become names that the journal takes",
    arguments: [
      ("serial", "CONTROLLER_SERIAL"), ("epoch", "EPOCH"), ("log-epoch", "LOG_EPOCH"),
      ("_x", "FIELD__X"), ("1st", "FIELD_1ST"), ("message", "FIELD_MESSAGE"),
      ("priority", "FIELD_PRIORITY"), ("", "FIELD_"), ("ü", "FIELD___"),
    ])
  func journalNames(key: String, name: String) {
    #expect(JournalFields.name(key) == name)
    #expect(JournalFields.name(String(repeating: "1", count: 90)).utf8.count <= 64)
  }

  @Test("an entry for the journal has its fields, and the value as it was given")
  func journalFields() {
    let fields = JournalFields.fields(
      Self.record("two\nlines", [("serial", "5")], level: .warning))
    let told = fields.map { "\($0.name)=\($0.value)" }
    #expect(
      told == [
        "MESSAGE=events: two\nlines", "PRIORITY=4", "SYSLOG_IDENTIFIER=cluster-driver",
        "LOGGER=events", "CODE_FILE=ClusterDriver/Events.swift", "CODE_LINE=7",
        "CONTROLLER_SERIAL=5",
      ])
  }
}

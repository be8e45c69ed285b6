import Testing

@testable import clusterctl

@Suite("Formats")
struct FormatTests {
  private let rows = [
    Record([
      "serial": .unsigned(12345), "state": .text("online"), "model": .null,
      "flags": .list([.text("a"), .text("b c")]), "rate": .number(2.25), "idle_ms": .unsigned(1500),
    ]),
    Record([
      "serial": .unsigned(7), "state": .text("off\tline\n\u{1B}[31m"), "model": .text("SC\\2"),
      "flags": .list([]), "rate": .number(0), "idle_ms": .unsigned(0),
    ]),
  ]

  @Test("a table is as wide as its widest cell, numbers flush right, no control characters")
  func table() {
    let table = Table(
      title: "Controllers: 2",
      columns: [
        .init(title: "Serial", field: "serial", isNumber: true),
        .init(title: "State", field: "state"),
        .init(title: "Idle", field: "idle_ms", isNumber: true, show: Table.age),
      ],
      rows: rows)
    #expect(
      table.rendered()
        == """
        + Controllers: 2 ---------+------+
        | Serial | State          | Idle |
        +--------+----------------+------+
        |  12345 | online         |  1 s |
        |      7 | off?line??[31m | 0 ms |
        +--------+----------------+------+
        """)
  }

  @Test("JSON is valid and keeps the order of the fields")
  func json() {
    #expect(
      Value.record(rows[0]).json(indent: nil)
        == #"{"serial": 12345, "state": "online", "model": null, "flags": ["a", "b c"], "rate": 2.3, "idle_ms": 1500}"#
    )
    #expect(
      Value.list([.record(Record(["a": .text("\u{1}\"\\\n")]))]).json()
        == "[\n  {\n    \"a\": \"\\u0001\\\"\\\\\\n\"\n  }\n]")
    #expect(Value.list([]).json() == "[]")
    #expect(Value.number(.infinity).json() == "null")
  }

  @Test("YAML quotes what a reader could take for something else")
  func yaml() {
    #expect(
      Value.list(rows.map(Value.record)).yaml() == #"""
        - serial: 12345
          state: online
          model: null
          flags:
          - a
          - "b c"
          rate: 2.3
          idle_ms: 1500
        - serial: 7
          state: "off\tline\n\u001b[31m"
          model: "SC\\2"
          flags: []
          rate: 0
          idle_ms: 0
        """#)
    #expect(Value.text("yes").yaml() == #""yes""#)
    #expect(Value.text("12").yaml() == #""12""#)
    #expect(Value.text("").yaml() == #""""#)
  }

  @Test("TSV has one line a record, whatever is in the texts")
  func tsv() {
    #expect(
      rows[1].fields.map(\.value.tsv) == ["7", "off\\tline\\n\u{1B}[31m", "SC\\\\2", "", "0", "0"])
  }

  @Test("numbers are rounded to one decimal")
  func rounding() {
    #expect(Value.rounded(0.04) == "0")
    #expect(Value.rounded(0.06) == "0.1")
    #expect(Value.rounded(-0.5) == "-0.5")
    #expect(Value.rounded(1234.96) == "1235")
  }

  @Test("times are shown in RFC 3339, ages in one unit")
  func times() {
    #expect(Times.rfc3339(1_767_225_600_007) == "2026-01-01T00:00:00.007Z")
    #expect(Times.rfc3339(0) == "")
    #expect(
      [350, 12_000, 180_000, 18_000_000, 172_800_000].map { Times.age($0) }
        == ["350 ms", "12 s", "3 min", "5 h", "2 d"])
  }

  @Test(
    "durations are read with their unit only",
    arguments: ["5", "s", "-1s", "5 s", "25h", "1e9s", ""])
  func badDurations(text: String) {
    #expect(DurationArgument(argument: text) == nil)
  }

  @Test("a duration's unit may be ms, s, m or h")
  func durations() {
    #expect(
      ["250ms", "5s", "1.5s", "2m", "1h"].map { DurationArgument(argument: $0)?.milliseconds }
        == [250, 5_000, 1_500, 120_000, 3_600_000])
  }
}

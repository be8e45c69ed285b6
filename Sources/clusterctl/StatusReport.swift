/// What a controller answers to `send SERIAL status` (Docs/PROTOCOL.md, "Codes").
struct StatusReport: Equatable {
  struct Door: Equatable {
    var number: Int
    var mode: String
    var isOpen: Bool
    var isUnlocked: Bool
  }

  var uptimeSeconds: UInt32
  var doors: [Door]
  /// By number from 1: whether it is on.
  var outputs: [Bool]

  /// Nil when the bytes are not laid out as the protocol has it: then they are shown as they are.
  init?(_ body: some Sequence<UInt8>) {
    var rest = Array(body)[...]
    func take(_ count: Int) -> [UInt8]? {
      guard rest.count >= count else { return nil }
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    func number(_ count: Int) -> UInt32? {
      take(count)?.reduce(0) { $0 << 8 | UInt32($1) }
    }
    guard let uptime = number(4), let doorCount = number(2), let doors = take(Int(doorCount)),
      let outputCount = number(2), let outputs = take(Int(outputCount))
    else { return nil }
    self.uptimeSeconds = uptime
    self.doors = doors.enumerated().map { index, bits in
      let modes = ["unknown", "card", "locked", "unlocked"]
      return Door(
        number: index + 1, mode: modes[Int(bits & 3)], isOpen: bits & 4 != 0,
        isUnlocked: bits & 8 != 0)
    }
    self.outputs = outputs.map { $0 != 0 }
  }
}

extension Records {
  /// For the formats that programs read, beside the result's own fields.
  static func report(_ report: StatusReport) -> Record {
    Record([
      "uptime_s": .unsigned(UInt64(report.uptimeSeconds)),
      "doors": .list(
        report.doors.map { door in
          .record(
            Record([
              "door": .unsigned(UInt64(door.number)), "mode": .text(door.mode),
              "open": .bool(door.isOpen), "unlocked": .bool(door.isUnlocked),
            ]))
        }),
      "outputs": .list(
        report.outputs.enumerated().map { index, isOn in
          .record(Record(["output": .unsigned(UInt64(index + 1)), "on": .bool(isOn)]))
        }),
    ])
  }

  /// For people: a line a door and a line an output.
  static func lines(_ report: StatusReport) -> Record {
    var record = Record()
    record.fields.append(
      .init(name: "up", value: .text(Times.age(UInt64(report.uptimeSeconds) * 1_000))))
    for door in report.doors {
      let state = [door.isOpen ? "open" : "closed", door.isUnlocked ? "unlocked" : "locked"]
      record.fields.append(
        .init(
          name: "door \(door.number)",
          value: .text(state.joined(separator: ", ") + " (mode \(door.mode))")))
    }
    for (index, isOn) in report.outputs.enumerated() {
      record.fields.append(.init(name: "output \(index + 1)", value: .text(isOn ? "on" : "off")))
    }
    return record
  }
}

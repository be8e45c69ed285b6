/// A line for whatever a rollout says, with the time since it began and how many controllers are connected.
struct RolloutPrinter {
  let format: Format
  let beganAt: ContinuousClock.Instant
  private var hasHeading = false

  init(format: Format, beganAt: ContinuousClock.Instant) {
    self.format = format
    self.beganAt = beganAt
  }

  mutating func show(_ notice: RolloutNotice, _ view: RolloutView?) {
    let elapsed = ContinuousClock.now - beganAt
    if format == .pretty {
      print(Table.printable(RolloutPrinter.line(notice, elapsed, view)))
      Standard.flush()
      return
    }
    var record = RolloutPrinter.record(notice.what, elapsed, view)
    record.set("node", .optional(notice.node))
    record.set("detail", .text(notice.text))
    if case .plan(let plan) = notice {
      record.set("untouched", .list(plan.restart.map(Value.text)))
      record.set("current", .list(plan.current.map(Value.text)))
    }
    write(record)
  }

  mutating func show(_ ending: RolloutEnding, _ view: RolloutView?) {
    if format == .pretty {
      Standard.flush()
      // What went wrong is said where errors are.
      for (index, line) in ending.lines.enumerated() {
        if ending.exit == .done {
          print(Table.printable(line))
        } else if index == 0 {
          Standard.error(line)
        } else {
          Standard.lines(Table.printable(line))
        }
      }
      Standard.flush()
      return
    }
    var record = RolloutPrinter.record(ending.what, ContinuousClock.now - beganAt, view)
    if case .stopped(let node, _) = ending.outcome { record.set("node", .optional(node)) }
    record.set("detail", .optional(ending.why))
    record.set("restarted", .list(ending.restarted.map(Value.text)))
    record.set("under_way", .list(ending.underWay.map(Value.text)))
    record.set("untouched", .list(ending.untouched.map(Value.text)))
    record.set("current", .list(ending.current.map(Value.text)))
    write(record)
  }

  /// "   1.3 s  300 controllers  node-1: well; watching it for a while".
  static func line(_ notice: RolloutNotice, _ elapsed: Duration, _ view: RolloutView?) -> String {
    let time = RolloutNotice.seconds(elapsed)
    let space = String(repeating: " ", count: max(0, 9 - time.count))
    let count = view.map { "\($0.controllers)" } ?? "?"
    let who = notice.node.isEmpty ? "" : notice.node + ": "
    return "\(space)\(time)  \(count) controllers  \(who)\(notice.text)"
  }

  /// Every line has the same fields.
  private static func record(_ what: String, _ elapsed: Duration, _ view: RolloutView?) -> Record {
    Record([
      "at": .text(Times.rfc3339(Times.now())),
      "elapsed_ms": .unsigned(RolloutNotice.milliseconds(elapsed)),
      "what": .text(what),
      "node": .null,
      "detail": .null,
      "controllers": view.map { .unsigned($0.controllers) } ?? .null,
      "restarted": .null,
      "under_way": .null,
      "untouched": .null,
      "current": .null,
    ])
  }

  private mutating func write(_ record: Record) {
    switch format {
    case .pretty: break
    case .json: print(Value.record(record).json(indent: nil))
    case .yaml: print("---\n" + Value.record(record).yaml())
    case .tsv: Options.printTSV([record], heading: !hasHeading)
    }
    hasHeading = true
    Standard.flush()
  }
}

extension Record {
  fileprivate mutating func set(_ name: String, _ value: Value) {
    guard let index = fields.firstIndex(where: { $0.name == name }) else { return }
    fields[index].value = value
  }
}

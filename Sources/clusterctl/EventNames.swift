internal import DriverProtocol

/// Events in words (Docs/PROTOCOL.md, "Families and codes").
enum EventNames {
  private static let names: [Clusterdriver_V1_EventFamily: [String]] = [
    .door: ["opened", "closed", "forced", "held open", "unlocked", "locked", "mode changed"],
    .access: ["granted", "denied", "requested"],
    .io: ["input on", "input off", "output on", "output off"],
    .controller: [
      "power failed", "power back", "tamper", "tamper over", "clock step",
      "configuration applied", "started",
    ],
    .system: ["command carried out", "command refused"],
  ]

  /// "forced", "granted" and so on; "code 77" for what has no name here.
  static func name(of event: Clusterdriver_V1_Event) -> String {
    switch event.kind {
    case .logGap: return "records \(event.seq) to \(event.throughSeq) were overwritten"
    case .logReset: return "log lost; log \(event.logEpoch) begins"
    case .event, .unspecified, .UNRECOGNIZED: break
    }
    let known = names[event.family] ?? []
    let code = Int(event.code)
    return known.indices.contains(code - 1) ? known[code - 1] : "code \(event.code)"
  }

  /// "door 3", "reader 1"; empty when it isn't said.
  static func source(of event: Clusterdriver_V1_Event) -> String {
    let kinds = ["door", "reader", "input", "output", "controller"]
    let type = Int(event.sourceType)
    guard kinds.indices.contains(type - 1) else { return "" }
    return event.sourceNumber == 0 ? kinds[type - 1] : "\(kinds[type - 1]) \(event.sourceNumber)"
  }

  /// One event in one line, for a person: local time first.
  static func line(_ event: Clusterdriver_V1_Event) -> String {
    let source = source(of: event)
    var parts = [Times.local(event.occurredAtMs), String(event.serial)]
    if !source.isEmpty { parts.append(source) }
    parts.append(name(of: event))
    if event.advisory {
      parts.append("(advisory)")
    } else if event.replayed {
      parts.append("(replayed)")
    }
    parts.append("[\(event.logEpoch):\(event.seq)]")
    return parts.joined(separator: "  ")
  }
}

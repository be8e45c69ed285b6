internal import DriverProtocol

/// What the node says, as records: one place for the names and units that scripts rely on.
enum Records {
  static func node(_ node: Clusterdriver_V1_NodeStatus, at address: String, now: UInt64) -> Record {
    Record([
      "node": .text(node.nodeID),
      "port": .unsigned(UInt64(node.port)),
      "state": .text(node.state),
      "role": .text(node.role),
      "ranges": .unsigned(node.ranges),
      "controllers": .unsigned(node.controllers),
      "events_per_second": .number(node.eventsPerSecond),
      "in_flight": .unsigned(node.eventsInFlight),
      "commands_pending": .unsigned(node.commandsPending),
      "redis": .text(node.redis),
      "vendor": .text(node.vendor),
      "version": .text(node.version),
      "events_total": .unsigned(node.eventsTotal),
      "events_acked_total": .unsigned(node.eventsAckedTotal),
      "commands_total": .unsigned(node.commandsTotal),
      "owner_epoch_min": .optional(node.ownerEpochMin),
      "owner_epoch_max": .optional(node.ownerEpochMax),
      "rss_bytes": .unsigned(node.rssBytes),
      "started_at": .optional(Times.rfc3339(node.startedAtMs)),
      "up_ms": .unsigned(now > node.startedAtMs ? now - node.startedAtMs : 0),
      "incarnation": .unsigned(node.incarnation),
      "program": .optional(node.program),
      "program_replaced": .bool(node.programReplaced),
      "restartable": .bool(node.restartable),
      "admin": .text(address),
    ])
  }

  static func unreachable(_ address: String, why: String) -> Record {
    Record([
      "node": .null, "state": .text("unreachable"), "admin": .text(address), "why": .text(why),
    ])
  }

  static func controller(_ controller: Clusterdriver_V1_NodeController) -> Record {
    let status = controller.status
    return Record([
      "serial": .unsigned(status.serial),
      "state": .text("online"),
      "peer": .text(status.peer),
      "model": .optional(status.model),
      "firmware": .optional(status.firmware),
      "connected_at": .optional(Times.rfc3339(status.atMs)),
      "log_epoch": .unsigned(UInt64(status.logEpoch)),
      "received_seq": .unsigned(controller.receivedSeq),
      "acked_seq": .unsigned(controller.ackedSeq),
      "backlog": .unsigned(controller.backlog),
      "commands_pending": .unsigned(UInt64(controller.commandsPending)),
      "idle_ms": .unsigned(controller.idleMs),
      "owner_epoch": .unsigned(status.ownerEpoch),
      "session_id": .unsigned(status.sessionID),
      "capacity": .unsigned(UInt64(status.capacity)),
    ])
  }

  static func event(_ event: Clusterdriver_V1_Event) -> Record {
    Record([
      "serial": .unsigned(event.serial),
      "log_epoch": .unsigned(UInt64(event.logEpoch)),
      "seq": .unsigned(event.seq),
      "kind": .text(name(of: event.kind)),
      "occurred_at": .optional(Times.rfc3339(event.occurredAtMs)),
      "received_at": .optional(Times.rfc3339(event.receivedAtMs)),
      "family": .text(name(of: event.family)),
      "code": .unsigned(UInt64(event.code)),
      "what": .text(EventNames.name(of: event)),
      "source": .optional(EventNames.source(of: event)),
      "flags": .list(flags(of: event).map(Value.text)),
      "body": .optional(Hex.string(event.body)),
      "through_seq": .optional(event.throughSeq),
      "owner_epoch": .unsigned(event.ownerEpoch),
    ])
  }

  private static func flags(of event: Clusterdriver_V1_Event) -> [String] {
    var flags: [String] = []
    if event.replayed { flags.append("replayed") }
    if event.priority { flags.append("priority") }
    if event.advisory { flags.append("advisory") }
    return flags
  }

  static func result(_ result: Clusterdriver_V1_CommandResult) -> Record {
    Record([
      "id": .text(Hex.string(result.id)),
      "serial": .unsigned(result.serial),
      "status": .text(name(of: result.status)),
      "reason": .optional(UInt64(result.reason)),
      "index": result.status == .refused ? .unsigned(UInt64(result.index)) : .null,
      "detail": .optional(result.detail),
      "body": .optional(Hex.string(result.body)),
      "at": .optional(Times.rfc3339(result.atMs)),
      "elapsed_us": .unsigned(result.elapsedUs),
    ])
  }

  static func name(of status: Clusterdriver_V1_CommandStatus) -> String {
    switch status {
    case .done: "done"
    case .refused: "refused"
    case .expired: "expired"
    case .offline: "offline"
    case .superseded: "superseded"
    case .unspecified, .UNRECOGNIZED: "unknown"
    }
  }

  private static func name(of kind: Clusterdriver_V1_EventKind) -> String {
    switch kind {
    case .event: "event"
    case .logGap: "log_gap"
    case .logReset: "log_reset"
    case .unspecified, .UNRECOGNIZED: "unknown"
    }
  }

  private static func name(of family: Clusterdriver_V1_EventFamily) -> String {
    switch family {
    case .door: "door"
    case .access: "access"
    case .io: "io"
    case .controller: "controller"
    case .system: "system"
    case .unspecified, .UNRECOGNIZED: "unknown"
    }
  }
}

/// Bytes in hexadecimal.
enum Hex {
  static func string(_ bytes: some Sequence<UInt8>) -> String {
    var out = ""
    for byte in bytes {
      if byte < 16 { out += "0" }
      out += String(byte, radix: 16)
    }
    return out
  }

  /// Nil when it isn't an even number of hexadecimal digits.
  static func bytes(_ text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count.isMultiple(of: 2) else { return nil }
    var out: [UInt8] = []
    for i in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[i...i + 1], as: UTF8.self), radix: 16),
        digits[i] != UInt8(ascii: "+")
      else { return nil }
      out.append(byte)
    }
    return out
  }
}

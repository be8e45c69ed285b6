internal import DriverProtocol
internal import FoundationEssentials
internal import GRPCCore
internal import Logging
internal import Synchronization

/// Answers access requests: the moment they arrive, by a table in memory, before anything is
/// committed. Somebody stands at the door.
final class AccessDesk: Sendable {
  /// The controller decides itself after this time.
  static let answerWithin: UInt64 = 5_000

  fileprivate struct State {
    var table = CardTable()
    var recent = RecentRequests()
    var gate = LogGate(every: .seconds(10))
  }

  private let counters: Counters
  private let logger: Logger
  private let state = Mutex(State())

  init(counters: Counters, logger: Logger) {
    self.counters = counters
    self.logger = logger
  }

  func setTable(_ table: CardTable) { state.withLock { $0.table = table } }

  /// Answers the requests among the events, each once, on the stream they came by.
  func answer(_ events: EventRows, on stream: AttachedStream, now: UInt64) {
    for row in events.rows where row.family == 2 && row.code == 3 && row.kind == .event {
      guard row.isWorthAnswering(at: now) else { continue }
      guard let request = events.withBody(of: row, AccessRequest.init) else {
        complain("an access request of controller \(row.serial) has a body that is too short")
        continue
      }
      guard let decision = decision(on: request, row) else { continue }
      let command = Clusterdriver_V1_Command(answering: row, request, decision, now: now)
      if stream.outbox.send(command) {
        counters.answered(granted: decision == .grant)
      } else {
        complain("node \(stream.node.id) takes no more commands: access request not answered")
      }
    }
  }

  /// nil when it was answered before.
  private func decision(on request: AccessRequest, _ row: EventRow) -> CardTable.Decision? {
    state.withLock { state in
      guard state.recent.insert(row.identity) else { return nil }
      return state.table.decide(card: request.card, serial: row.serial, door: request.door)
    }
  }

  private func complain(_ what: String) {
    state.withLock { state in
      state.gate.pass(at: .now) { suppressed in
        logger.warning("\(what)", metadata: ["suppressed": "\(suppressed)"])
      }
    }
  }
}

/// The body of an access event: card u64, door u16, reason u8, reserved u8 (Docs/PROTOCOL.md).
struct AccessRequest {
  var card: UInt64 = 0
  var door: UInt16 = 0

  /// nil when it is too short.
  init?(_ body: UnsafeRawBufferPointer) {
    guard body.count >= 12 else { return nil }
    for byte in body.prefix(8) { card = card << 8 | UInt64(byte) }
    door = UInt16(body[8]) << 8 | UInt16(body[9])
  }
}

extension EventRow {
  /// Whether the controller can still be waiting. Somebody who stood at a door during an outage is
  /// gone when the log is sent; clocks that differ a little do not matter.
  fileprivate func isWorthAnswering(at now: UInt64) -> Bool {
    if flags.contains(.replayed), receivedAt >= occurredAt,
      receivedAt - occurredAt > AccessDesk.answerWithin
    {
      return false
    }
    return receivedAt == 0 || now <= receivedAt || now - receivedAt < 2 * AccessDesk.answerWithin
  }
}

/// The last requests answered: they come up to three times, as an advisory copy, in the log, and
/// again after a stream broke.
struct RecentRequests {
  private var known: Set<RecordIdentity> = []
  private var ring: [RecordIdentity] = []
  private var next = 0
  private let capacity = 16_384

  /// False when it is among them already.
  mutating func insert(_ identity: RecordIdentity) -> Bool {
    guard known.insert(identity).inserted else { return false }
    if ring.count < capacity {
      ring.append(identity)
    } else {
      known.remove(ring[next])
      ring[next] = identity
      next = (next + 1) % capacity
    }
    return true
  }
}

extension CommandID {
  /// The id of the answer to a request: always the same one, so that an answer given again (after a
  /// restart, or by a second vendor app) is recognised as the same.
  init(answering request: RecordIdentity) {
    var row = EventRow()
    row.serial = request.serial
    row.logEpoch = request.logEpoch
    row.seq = request.seq
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    row.family = 1
    let high = Fingerprint(of: row, body: nothing).value
    row.family = 2
    row.occurredAt = high
    self.init(high: high, low: Fingerprint(of: row, body: nothing).value)
  }
}

extension Clusterdriver_V1_Command {
  fileprivate init(
    answering row: EventRow, _ request: AccessRequest, _ decision: CardTable.Decision, now: UInt64
  ) {
    self.init()
    id = CommandID(answering: row.identity).bytes
    serial = row.serial
    lane = .urgent
    // Host time is the node's clock, which stamped the request.
    notAfterMs = (row.receivedAt == 0 ? now : row.receivedAt) &+ AccessDesk.answerWithin
    answerAccess.logEpoch = row.logEpoch
    answerAccess.seq = row.seq
    answerAccess.door = UInt32(request.door)
    switch decision {
    case .grant: answerAccess.grant = true
    case .deny(let reason): answerAccess.reason = reason
    }
  }
}

extension UInt64 {
  /// ms since 1970, by this host's clock.
  static var nowUTC: UInt64 { UInt64(Swift.max(0, Date().timeIntervalSince1970 * 1_000)) }
}

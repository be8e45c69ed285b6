import DriverProtocol
import Foundation
import Logging
import SwiftProtobuf
import Testing

@testable import VendorStore

typealias Event = Clusterdriver_V1_Event
typealias DriverMessage = Clusterdriver_V1_DriverMessage
typealias VendorMessage = Clusterdriver_V1_VendorMessage

/// The same pseudo-random numbers for the same seed (splitmix64).
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

func event(
  _ serial: UInt64, _ seq: UInt64, log: UInt32 = 1, epoch: UInt64 = 1, at: UInt64? = nil,
  body: [UInt8] = []
) -> Event {
  var event = Event()
  event.serial = serial
  event.logEpoch = log
  event.seq = seq
  event.ownerEpoch = epoch
  event.kind = .event
  event.occurredAtMs = at ?? 1_700_000_000_000 &+ seq
  event.receivedAtMs = event.occurredAtMs &+ 7
  event.family = .door
  event.code = 1 + UInt32(seq % 7)
  event.sourceType = 1
  event.sourceNumber = 2
  event.body = Data(body)
  return event
}

func gap(
  _ serial: UInt64, _ seqs: ClosedRange<UInt64>, log: UInt32 = 1, epoch: UInt64 = 1
) -> Event {
  var event = Event()
  event.serial = serial
  event.logEpoch = log
  event.seq = seqs.lowerBound
  event.throughSeq = seqs.upperBound
  event.ownerEpoch = epoch
  event.kind = .logGap
  event.receivedAtMs = 1_700_000_000_000
  return event
}

func reset(_ serial: UInt64, to log: UInt32, from old: UInt32, epoch: UInt64 = 1) -> Event {
  var event = event(serial, 1, log: log, epoch: epoch)
  event.kind = .logReset
  event.previousLogEpoch = old
  event.previousLastSeq = 9
  return event
}

func status(
  _ serial: UInt64, _ state: Clusterdriver_V1_ControllerState, epoch: UInt64 = 1,
  session: UInt64 = 1, at: UInt64 = 1
) -> Clusterdriver_V1_ControllerStatus {
  var status = Clusterdriver_V1_ControllerStatus()
  status.serial = serial
  status.state = state
  status.ownerEpoch = epoch
  status.sessionID = session
  status.atMs = at
  status.peer = "192.0.2.7:40112"
  status.model = "CX-4"
  status.firmware = "2.1"
  status.logEpoch = 1
  status.capacity = 100
  return status
}

func result(
  _ id: UInt8, _ serial: UInt64 = 1, _ status: Clusterdriver_V1_CommandStatus = .done
) -> Clusterdriver_V1_CommandResult {
  var result = Clusterdriver_V1_CommandResult()
  result.id = Data(repeating: id, count: 16)
  result.serial = serial
  result.status = status
  result.body = Data([1, 2])
  result.detail = "done"
  result.atMs = 5
  result.elapsedUs = 6
  return result
}

/// As a node would send them: through the wire format.
func rows(_ events: [Event]) -> EventRows {
  var batch = Clusterdriver_V1_EventBatch()
  batch.events = events
  do {
    let bytes: [UInt8] = try batch.serializedBytes()
    return try bytes.withUnsafeBytes { try EventRows(eventBatch: $0) }
  } catch {
    Issue.record("the batch cannot be read back: \(error)")
    return EventRows()
  }
}

let nodeA = NodeIdentity(id: "a:5001", incarnation: 1, version: "1.0.0")
let nodeB = NodeIdentity(id: "b:5001", incarnation: 1, version: "1.0.0")

func submission(
  _ number: UInt64, node: NodeIdentity = nodeA, _ content: Submission.Content
) -> Submission {
  Submission(stream: node == nodeA ? 1 : 2, node: node, number: number, content: content)
}

func submission(
  _ number: UInt64, node: NodeIdentity = nodeA, _ events: [Event]
) -> Submission {
  submission(number, node: node, .events(rows(events)))
}

func submission(_ events: [Event]) -> Submission { submission(1, events) }
func submission(_ content: Submission.Content) -> Submission { submission(1, content) }

/// A directory of its own, removed at the end.
final class Scratch: Sendable {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "vendor-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var database: String { path + "/events.db" }
}

enum StoreKind: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case memory
  case sqlite
  var testDescription: String { rawValue }

  func make(in scratch: Scratch) throws -> any EventStore {
    switch self {
    case .memory: MemoryEventStore()
    case .sqlite: try SQLiteEventStore(path: scratch.database)
    }
  }
}

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Asks until the answer is yes; false when it is not within the time.
func eventually(
  within limit: Duration = .seconds(20), _ holds: () async throws -> Bool
) async rethrows -> Bool {
  let deadline = ContinuousClock.now + limit
  while ContinuousClock.now < deadline {
    if try await holds() { return true }
    try? await Task.sleep(for: .milliseconds(2))
  }
  return false
}

import DriverProtocol
import Foundation

@testable import VendorStore

/// What a store must hold, computed the slow and obvious way.
struct Model {
  var events: [RecordIdentity: Event] = [:]
  var gone: Set<RecordIdentity> = []
  var owners: [UInt64: UInt64] = [:]
  var counts = CommitCounts()

  mutating func take(_ event: Event) {
    if event.ownerEpoch < owners[event.serial, default: 0] {
      counts.eventsStale += 1
      return
    }
    owners[event.serial] = event.ownerEpoch
    let identity = RecordIdentity(
      serial: event.serial, logEpoch: event.logEpoch, seq: event.seq)
    if event.kind != .logGap {
      if events[identity] == nil {
        events[identity] = event
        counts.eventsStored += 1
      } else {
        counts.eventsRepeated += 1
      }
      return
    }
    for seq in event.seq...event.throughSeq {
      gone.insert(RecordIdentity(serial: event.serial, logEpoch: event.logEpoch, seq: seq))
    }
  }

  func audits() -> [Clusterdriver_V1_LogAudit] {
    struct Log: Hashable {
      var serial: UInt64
      var epoch: UInt32
    }
    let known = gone.union(events.keys)
    let logs = Set(known.map { Log(serial: $0.serial, epoch: $0.logEpoch) })
    return logs.sorted { ($0.serial, $0.epoch) < ($1.serial, $1.epoch) }.map { log in
      let isOfLog = { (id: RecordIdentity) in id.serial == log.serial && id.logEpoch == log.epoch }
      let stored = events.filter { isOfLog($0.key) }
      let seqs = known.filter(isOfLog).map(\.seq)
      var audit = Clusterdriver_V1_LogAudit()
      audit.serial = log.serial
      audit.logEpoch = log.epoch
      audit.events = UInt64(stored.count)
      audit.firstSeq = seqs.min() ?? 0
      audit.lastSeq = seqs.max() ?? 0
      audit.gapRecords = UInt64(gone.subtracting(events.keys).filter(isOfLog).count)
      for seq in audit.firstSeq...audit.lastSeq
      where !known.contains(RecordIdentity(serial: log.serial, logEpoch: log.epoch, seq: seq)) {
        audit.holes += 1
      }
      audit.fingerprintSum = stored.values.filter { $0.kind == .event }
        .reduce(0) { $0 &+ slowFingerprint($1) }
      return audit
    }
  }
}

/// Docs/PROTOCOL.md, "Fingerprint", by the letter.
func slowFingerprint(_ event: Event) -> UInt64 {
  var bytes: [UInt8] = []
  func put(_ value: UInt64, _ count: Int) {
    for index in 0..<count { bytes.append(UInt8(value >> (8 * UInt64(count - 1 - index)) & 255)) }
  }
  put(event.serial, 8)
  put(UInt64(event.logEpoch), 4)
  put(event.seq, 8)
  put(event.occurredAtMs, 8)
  put(UInt64(event.family.rawValue), 1)
  put(UInt64(event.code), 2)
  put(UInt64(event.sourceType), 2)
  put(UInt64(event.sourceNumber), 2)
  bytes += event.body
  return bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
}

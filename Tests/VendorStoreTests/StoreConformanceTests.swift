import DriverProtocol
import Foundation
import Testing

@testable import VendorStore

/// What every store promises.
@Suite("Store conformance") struct StoreConformanceTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test("a batch sent again is counted, not stored", arguments: StoreKind.allCases)
  func repeated(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    let batch = submission([event(1, 1), event(1, 2), event(2, 1)])
    let first = try store.commit([batch])
    let second = try store.commit([batch])
    #expect(first.counts.eventsStored == 3)
    #expect(first.messages[0].fresh == .all)
    #expect(second.counts.eventsStored == 0)
    #expect(second.counts.eventsRepeated == 3)
    #expect(second.messages[0].fresh == .some([]))
    #expect(try await store.audit(1...9).map(\.events) == [2, 1])
    #expect(try await store.events(EventQuery()).count == 3)
  }

  @Test("the same identity twice in one batch is stored once", arguments: StoreKind.allCases)
  func repeatedWithin(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    let outcome = try store.commit([
      submission(1, [event(1, 1), event(1, 1)]),
      submission(1, node: nodeB, [event(1, 1), event(1, 2)]),
    ])
    #expect(outcome.counts.eventsStored == 2)
    #expect(outcome.counts.eventsRepeated == 2)
    #expect(outcome.messages.map(\.fresh) == [.some([0]), .some([1])])
  }

  @Test("events under a lower owner epoch are refused and named", arguments: StoreKind.allCases)
  func stale(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    _ = try store.commit([submission(1, [event(1, 1, epoch: 5)])])
    let outcome = try store.commit([
      submission(2, node: nodeB, [event(1, 2, epoch: 4), event(1, 3, epoch: 4), event(2, 1)])
    ])
    #expect(outcome.counts.eventsStale == 2)
    #expect(outcome.counts.eventsStored == 1)
    let stale = outcome.messages[0].stale
    #expect(stale.count == 1)
    #expect(stale.first?.serial == 1)
    #expect(stale.first?.ownerEpochSeen == 5)
    #expect(stale.first?.number == 2)
    #expect(try await store.audit(1...1).first?.lastSeq == 1)
    // The same epoch and higher ones go on.
    #expect(try store.commit([submission(3, [event(1, 2, epoch: 6)])]).counts.eventsStored == 1)
  }

  @Test("a status raises the owner epoch too", arguments: StoreKind.allCases)
  func statusRaises(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    _ = try store.commit([
      submission(1, [event(1, 1, epoch: 2)]),
      submission(2, .statuses([status(1, .online, epoch: 3)])),
      submission(3, [event(1, 2, epoch: 2)]),
    ])
    let record = try #require(try await store.controllers(serial: 1).first)
    #expect(record.ownerEpochMax == 3)
    #expect(record.storedSeq == 1)
  }

  @Test("the newest status stays, whatever the order of arrival", arguments: StoreKind.allCases)
  func statusOrder(_ kind: StoreKind) async throws {
    let history = [
      status(1, .online, epoch: 1, session: 8, at: 10),
      status(1, .offline, epoch: 1, session: 8, at: 20),
      status(1, .online, epoch: 1, session: 9, at: 15),
      status(1, .online, epoch: 2, session: 1, at: 5),
    ]
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
      let scratch = try Scratch()
      let store = try kind.make(in: scratch)
      for index in order {
        _ = try store.commit([submission(.statuses([history[index]]))])
      }
      let record = try #require(try await store.controllers(serial: 0).first)
      #expect(record.status == history[3])
      #expect(record.nodeID == nodeA.id)
    }
  }

  @Test(
    "a gap is extended by what it is told again, never shortened", arguments: StoreKind.allCases)
  func gaps(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    _ = try store.commit([submission([event(1, 1), gap(1, 2...5)])])
    #expect(try store.commit([submission([gap(1, 2...5)])]).counts.eventsRepeated == 1)
    #expect(try store.commit([submission([gap(1, 2...9)])]).counts.eventsStored == 1)
    #expect(try store.commit([submission([gap(1, 2...3)])]).counts.eventsRepeated == 1)
    _ = try store.commit([submission([event(1, 12)])])
    let audit = try #require(try await store.audit(1...1).first)
    #expect(audit.events == 2)
    #expect(audit.gapRecords == 8)
    #expect(audit.holes == 2)
    #expect(audit.firstSeq == 1)
    #expect(audit.lastSeq == 12)
    let record = try #require(try await store.controllers(serial: 1).first)
    #expect(record.storedSeq == 12)
  }

  @Test("a gap over stored records hides none of them", arguments: StoreKind.allCases)
  func gapOverRecords(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    _ = try store.commit([submission([event(1, 1), event(1, 2), gap(1, 1...4), event(1, 3)])])
    let audit = try #require(try await store.audit(1...1).first)
    #expect(audit.events == 3)
    #expect(audit.gapRecords == 1)
    #expect(audit.holes == 0)
    #expect(
      try await store.events(EventQuery(serial: 1)).rows.filter { $0.kind == .event }.count == 3)
  }

  @Test("a reset begins a new log beside the old one", arguments: StoreKind.allCases)
  func logReset(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    _ = try store.commit([
      submission([event(1, 1), event(1, 2), reset(1, to: 2, from: 1), event(1, 2, log: 2)])
    ])
    let audits = try await store.audit(1...1)
    #expect(audits.map(\.logEpoch) == [1, 2])
    #expect(audits.map(\.events) == [2, 2])
    #expect(audits[1].fingerprintSum == slowFingerprint(event(1, 2, log: 2)), "resets do not count")
    let stored = try await store.events(EventQuery())
    let resets = stored.rows.indices.filter { stored.rows[$0].kind == .logReset }
    #expect(resets.map { stored.event(at: $0) } == [reset(1, to: 2, from: 1)])
    let record = try #require(try await store.controllers(serial: 1).first)
    #expect(record.logEpoch == 2)
    #expect(record.storedSeq == 2)
  }

  @Test("advisory copies are counted, not stored", arguments: StoreKind.allCases)
  func advisory(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    var copy = event(1, 5)
    copy.advisory = true
    let outcome = try store.commit([submission([copy, event(1, 1)])])
    #expect(outcome.counts.advisories == 1)
    #expect(outcome.counts.eventsStored == 1)
    #expect(outcome.messages[0].fresh == .some([1]))
    #expect(try await store.audit(1...1).first?.lastSeq == 1)
  }

  @Test(
    "the first result of an id stays; another status is a conflict", arguments: StoreKind.allCases)
  func results(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    let outcome = try store.commit([
      submission(.results([result(1), result(2), result(1), result(2, 1, .expired)]))
    ])
    #expect(outcome.counts.resultsStored == 2)
    #expect(outcome.counts.resultsRepeated == 1)
    #expect(outcome.counts.resultsConflicting == 1)
    #expect(outcome.contradictions.count == 1)
    let id = try #require(CommandID(result(2).id))
    #expect(try await store.result(id: id) == result(2))
    #expect(try await store.result(id: CommandID.random()) == nil)
  }

  @Test("a node's cursor is stored with what it covers", arguments: StoreKind.allCases)
  func cursors(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    #expect(try await store.committedThrough(nodeA) == nil)
    _ = try store.commit([submission(7, [event(1, 1)]), submission(8, [event(1, 2)])])
    _ = try store.commit([submission(3, [event(1, 1)])])
    #expect(try await store.committedThrough(nodeA) == 8)
    let again = NodeIdentity(id: nodeA.id, incarnation: 2, version: "1.0.1")
    _ = try store.commit([submission(1, node: again, [event(1, 3)])])
    #expect(try await store.committedThrough(again) == 1)
    #expect(try await store.committedThrough(nodeA) == nil)
  }

  @Test("events are listed newest first, by controller and time", arguments: StoreKind.allCases)
  func listing(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    var events: [Event] = []
    for seq in UInt64(1)...50 {
      for serial in UInt64(1)...3 {
        events.append(event(serial, seq, at: 1_000 + seq * 10, body: [1]))
      }
    }
    _ = try store.commit([submission(events.shuffled())])
    let all = try await store.events(EventQuery(limit: 100_000))
    #expect(all.count == 150)
    #expect(zip(all.rows, all.rows.dropFirst()).allSatisfy { $0.occurredAt >= $1.occurredAt })
    let some = try await store.events(EventQuery(serial: 2, from: 1_100, before: 1_200, limit: 5))
    #expect(some.rows.map(\.seq) == [19, 18, 17, 16, 15])
    #expect(some.event(at: 0) == events.first { $0.serial == 2 && $0.seq == 19 })
  }

  @Test("a serial and a seq of 64 bits are kept whole", arguments: StoreKind.allCases)
  func wide(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    let serial = UInt64.max - 1
    let last = event(serial, .max, epoch: .max, at: .max)
    _ = try store.commit([
      submission([
        event(5, 1), event(serial, UInt64(Int64.max), epoch: .max), last,
        gap(serial, 1...UInt64(Int64.max) - 1, epoch: .max),
      ])
    ])
    let audits = try await store.audit(1 ... .max)
    #expect(audits.map(\.serial) == [5, serial])
    #expect(audits[1].firstSeq == 1)
    #expect(audits[1].lastSeq == .max)
    #expect(audits[1].gapRecords == UInt64(Int64.max) - 1)
    #expect(audits[1].holes == UInt64(Int64.max))
    let events = try await store.events(EventQuery(serial: serial))
    #expect(events.rows.indices.contains { events.event(at: $0) == last })
    #expect(try await store.controllers(serial: 0).map(\.storedSeq) == [1, .max])
  }

  @Test(
    "after any history the audit is what brute force says",
    arguments: StoreKind.allCases, UInt64(0)..<12)
  func history(_ kind: StoreKind, seed: UInt64) async throws {
    let store = try kind.make(in: scratch)
    var random = Seeded(seed)
    var model = Model()
    var counts = CommitCounts()
    var gaps = 0
    var number: UInt64 = 0
    for _ in 0..<25 {
      var group: [Submission] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let events = (0..<Int.random(in: 1...30, using: &random)).map { _ in
          Self.historicEvent(&random)
        }
        for event in events {
          model.take(event)
          if event.kind == .logGap { gaps += 1 }
        }
        number += 1
        group.append(submission(number, events))
      }
      counts += try store.commit(group).counts
    }
    #expect(try await store.audit(1 ... .max) == model.audits())
    #expect(counts.eventsStale == model.counts.eventsStale)
    let told = counts.eventsStored + counts.eventsRepeated
    let expected = model.counts.eventsStored + model.counts.eventsRepeated
    #expect(told >= expected && told <= expected + gaps)
  }

  static func historicEvent(_ random: inout Seeded) -> Event {
    let serial = UInt64.random(in: 1...4, using: &random)
    let seq = UInt64.random(in: 1...60, using: &random)
    let log = UInt32.random(in: 1...2, using: &random)
    // Mostly the present epoch.
    let epoch: UInt64 = [3, 3, 3, 3, 3, 2, 4].randomElement(using: &random) ?? 3
    switch Int.random(in: 0..<12, using: &random) {
    case 0:
      return gap(serial, seq...seq + .random(in: 0...4, using: &random), log: log, epoch: epoch)
    case 1: return reset(serial, to: log, from: log - 1, epoch: epoch)
    default: return event(serial, seq, log: log, epoch: epoch, body: [UInt8(seq)])
    }
  }

  @Test(
    "cards are replaced by their place and removed by their number", arguments: StoreKind.allCases)
  func cards(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    let (empty, none) = try #require(try await store.cards(since: nil))
    #expect(none.isEmpty)
    #expect(try await store.cards(since: empty) == nil)
    try await store.put(cards: [CardRule(card: 7), CardRule(card: 7, serial: 2, allowed: false)])
    try await store.put(cards: [CardRule(card: 7, allowed: false), CardRule(card: .max, door: 3)])
    let (_, rules) = try #require(try await store.cards(since: empty))
    #expect(
      Set(rules) == [
        CardRule(card: 7, allowed: false), CardRule(card: 7, serial: 2, allowed: false),
        CardRule(card: .max, door: 3),
      ])
    #expect(try await store.remove(card: 7) == 2)
    #expect(try await store.remove(card: 7) == 0)
  }
}

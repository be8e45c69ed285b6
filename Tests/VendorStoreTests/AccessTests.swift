import DriverProtocol
import Foundation
import Testing

@testable import VendorStore

@Suite("Access requests") struct AccessTests {
  static func request(
    _ serial: UInt64, _ seq: UInt64, card: UInt64, door: UInt16 = 1, receivedAt: UInt64 = .nowUTC
  ) -> Event {
    var body = (0..<8).map { UInt8(truncatingIfNeeded: card >> UInt64(56 - 8 * $0)) }
    body += [UInt8(door >> 8), UInt8(door & 255), 0, 0]
    var event = event(serial, seq, at: receivedAt, body: body)
    event.family = .access
    event.code = 3
    event.receivedAtMs = receivedAt
    return event
  }

  @Test("the most exact rule decides")
  func table() {
    let table = CardTable([
      CardRule(card: 1), CardRule(card: 1, serial: 5, allowed: false),
      CardRule(card: 1, serial: 5, door: 2), CardRule(card: 1, door: 9, allowed: false),
      CardRule(card: 2, serial: 5),
    ])
    #expect(table.decide(card: 1, serial: 1, door: 1) == .grant)
    #expect(table.decide(card: 1, serial: 1, door: 9) == .deny(reason: 3))
    #expect(table.decide(card: 1, serial: 5, door: 1) == .deny(reason: 3))
    #expect(table.decide(card: 1, serial: 5, door: 2) == .grant)
    #expect(table.decide(card: 2, serial: 5, door: 7) == .grant)
    #expect(table.decide(card: 2, serial: 6, door: 7) == .deny(reason: 3))
    #expect(table.decide(card: 3, serial: 5, door: 2) == .deny(reason: 1))
  }

  @Test("a request is answered once: from the advisory copy, not again from the log")
  func answeredOnce() async throws {
    let store = MemoryEventStore()
    try await store.put(cards: [CardRule(card: 0xCAFE)])
    try await withApp(store) { served async throws in
      let node = served.node()
      let now = UInt64.nowUTC
      let request = Self.request(7, 3, card: 0xCAFE, door: 2, receivedAt: now)
      var copy = request
      copy.advisory = true
      node.send(0, [copy])
      #expect(await eventually { node.commands.count == 1 })
      node.send(1, [event(7, 1), event(7, 2), request])
      node.send(2, [Self.request(7, 4, card: 9)])
      #expect(await node.isAcknowledged(through: 2))
      try #require(await eventually { node.commands.count == 2 })
      let answer = node.commands[0]
      #expect(answer.id.count == 16)
      #expect(answer.serial == 7)
      #expect(answer.lane == .urgent)
      #expect(answer.notAfterMs == now + 5_000)
      #expect(answer.answerAccess.grant)
      #expect(answer.answerAccess.logEpoch == 1)
      #expect(answer.answerAccess.seq == 3)
      #expect(answer.answerAccess.door == 2)
      #expect(!node.commands[1].answerAccess.grant)
      #expect(node.commands[1].answerAccess.reason == 1)
      let stats = try await served.stats()
      #expect(stats.accessGranted == 1)
      #expect(stats.accessDenied == 1)
      #expect(stats.advisories == 1)
      #expect(stats.eventsStored == 4)
    }
  }

  @Test("an answer does not wait for the disk")
  func whileTheDiskIsFull() async throws {
    let store = MoodyStore()
    try await store.put(cards: [CardRule(card: 1)])
    try await withApp(store) { served async throws in
      store.isFailing = true
      let node = served.node()
      node.send(1, [Self.request(7, 1, card: 1)])
      #expect(await eventually { node.commands.count == 1 })
      #expect(node.acks.isEmpty)
      store.isFailing = false
      #expect(await node.isAcknowledged(through: 1))
    }
  }

  @Test("the answer to a request has the same id whenever it is given")
  func sameID() async throws {
    var ids: Set<Data> = []
    for _ in 0..<2 {
      try await withApp(MemoryEventStore()) { served async throws in
        let node = served.node()
        node.send(1, [Self.request(7, 1, card: 1)])
        try #require(await eventually { node.commands.count == 1 })
        return node.commands[0].id
      }.insert(into: &ids)
    }
    #expect(ids.count == 1)
    let others = (UInt64(1)...1_000).flatMap { seq in
      (UInt64(1)...10).map {
        CommandID(answering: RecordIdentity(serial: $0, logEpoch: 1, seq: seq))
      }
    }
    #expect(Set(others).count == 10_000)
  }

  @Test("requests of people who have gone are not answered")
  func late() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node()
      let now = UInt64.nowUTC
      var replayed = Self.request(7, 1, card: 1, receivedAt: now)
      replayed.replayed = true
      replayed.occurredAtMs = now - 60_000
      node.send(1, [replayed, Self.request(7, 2, card: 1, receivedAt: now - 60_000)])
      // A replay of what has only just happened is answered; so is this one's neighbour.
      var fresh = Self.request(7, 3, card: 1, receivedAt: now)
      fresh.replayed = true
      node.send(2, [fresh])
      #expect(await eventually { !node.commands.isEmpty })
      #expect(await node.isAcknowledged(through: 2))
      #expect(node.commands.map(\.answerAccess.seq) == [3])
    }
  }

  @Test("cards changed while it runs count within seconds")
  func changedCards() async throws {
    let scratch = try Scratch()
    let store = try SQLiteEventStore(path: scratch.database)
    try await withApp(store) { served async throws in
      let other = try SQLiteEventStore(path: scratch.database)
      try await other.put(cards: [CardRule(card: 5)])
      let node = served.node()
      var seq: UInt64 = 0
      let isGranted = await eventually {
        seq += 1
        node.send(seq, [Self.request(7, seq, card: 5)])
        try? await Task.sleep(for: .milliseconds(50))
        return node.commands.contains { $0.answerAccess.grant }
      }
      #expect(isGranted)
    }
  }
}

extension Data {
  fileprivate func insert(into set: inout Set<Data>) { set.insert(self) }
}

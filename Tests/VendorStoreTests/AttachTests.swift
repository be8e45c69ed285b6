import DriverProtocol
import Foundation
import GRDB
import GRPCCore
import Testing

@testable import VendorStore

@Suite("Attach") struct AttachTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test("what is acknowledged is stored, cumulatively", arguments: StoreKind.allCases)
  func acknowledged(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    try await withApp(store) { served async throws in
      let node = served.node(next: 41)
      for number in UInt64(0)..<20 { node.send(41 + number, [event(1, number + 1)]) }
      #expect(await node.isAcknowledged(through: 60))
      #expect(node.acks.map(\.through) == node.acks.map(\.through).sorted())
      #expect(try await store.audit(1...1).first?.events == 20)
      #expect(try await served.stats().eventsStored == 20)
      node.finish()
      #expect(await node.hasEndedWell())
      #expect(try await eventually { try await served.stats().nodesAttached == 0 })
    }
  }

  @Test("a node that ends its side gets every acknowledgement before the end")
  func halfClosed() async throws {
    let store = MoodyStore()
    try await withApp(store) { served async throws in
      store.hold(true)
      let node = served.node()
      node.send(1, [event(1, 1)])
      node.send(2, [event(1, 2)])
      node.finish()
      store.hold(false)
      #expect(await node.hasEndedWell())
      #expect(node.through == 2)
    }
  }

  static let faults: [(String, RPCError.Code, @Sendable (NodeDouble) -> Void)] = [
    ("no Hello", .invalidArgument, { $0.send(1, [event(1, 1)]) }),
    ("an end before Hello", .invalidArgument, { $0.finish() }),
    ("a nameless node", .invalidArgument, { $0.send { $0.hello.nextNumber = 1 } }),
    ("no first number", .invalidArgument, { $0.send { $0.hello.nodeID = "a" } }),
    (
      "a second Hello", .invalidArgument,
      {
        $0.hello()
        $0.hello()
      }
    ),
    (
      "a hole", .failedPrecondition,
      {
        $0.hello()
        $0.send(1, [event(1, 1)])
        $0.send(3, [event(1, 2)])
      }
    ),
    (
      "going back", .failedPrecondition,
      {
        $0.hello()
        $0.send(1, [event(1, 1)])
        $0.send(1, [event(1, 1)])
      }
    ),
    (
      "events without a number", .invalidArgument,
      {
        $0.hello()
        $0.send(0, [event(1, 1)])
      }
    ),
    (
      "results without a number", .invalidArgument,
      {
        $0.hello()
        $0.send(0, [result(1)])
      }
    ),
    (
      "an event nobody can store", .invalidArgument,
      {
        $0.hello()
        $0.send(1, [event(0, 1)])
      }
    ),
  ]

  @Test("a node that errs is told what and why; others do not notice", arguments: faults.indices)
  func erring(_ index: Int) async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let (name, code, act) = Self.faults[index]
      let good = served.node("good:1")
      good.send(1, [event(9, 1)])
      #expect(await good.isAcknowledged(through: 1))
      let bad = NodeDouble(served.gateway)
      act(bad)
      let error = await bad.error()
      #expect(error?.code == code, "\(name)")
      #expect((error?.message.count ?? 0) > 20, "\(name)")
      good.send(2, [event(9, 2)])
      #expect(await good.isAcknowledged(through: 2))
    }
  }

  @Test("a node that attaches again takes its place; the older stream ends and says why")
  func newerStreamWins() async throws {
    let store = MemoryEventStore()
    try await withApp(store) { served async throws in
      let older = served.node()
      older.send(1, [event(1, 1)])
      #expect(await older.isAcknowledged(through: 1))
      let newer = served.node()
      newer.send(1, [event(1, 1), event(1, 2)])
      #expect(await newer.isAcknowledged(through: 1))
      let error = await older.error()
      #expect(error?.code == .aborted)
      #expect(error?.message.contains("a:5001") == true)
      newer.send(2, [event(1, 3)])
      #expect(await newer.isAcknowledged(through: 2))
      #expect(try await served.stats().eventsStored == 3)
      #expect(try await served.stats().nodesAttached == 1)
    }
  }

  @Test(
    "two nodes at once: everything stored once, and commits are shared",
    arguments: StoreKind.allCases)
  func twoNodes(_ kind: StoreKind) async throws {
    let store = MoodyStore(try kind.make(in: scratch))
    try await withApp(store) { served async throws in
      let nodes = [served.node("a:1"), served.node("b:1")]
      store.hold(true)
      for number in UInt64(1)...100 {
        for (index, node) in nodes.enumerated() {
          node.send(number, (0..<20).map { event(UInt64(index * 20 + $0 + 1), number) })
        }
      }
      store.hold(false)
      for node in nodes { #expect(await node.isAcknowledged(through: 100)) }
      let audits = try await store.audit(1...40)
      #expect(audits.count == 40)
      #expect(audits.allSatisfy { $0.events == 100 && $0.holes == 0 && $0.duplicates == 0 })
      #expect(store.groups.reduce(0, +) == 200)
      #expect(store.groups.count < 200, "a group takes what came in meanwhile")
      #expect(nodes.allSatisfy { $0.acks.count <= store.groups.count })
    }
  }

  @Test("a stale owner is named in the acknowledgement of its message")
  func staleOwner() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let owner = served.node("new:1")
      owner.send(1, [event(1, 1, epoch: 7)])
      #expect(await owner.isAcknowledged(through: 1))
      let old = served.node("old:1")
      old.send(1, [event(1, 2, epoch: 6), event(2, 1, epoch: 1)])
      #expect(await old.isAcknowledged(through: 1))
      #expect(old.acks.flatMap(\.stale).map(\.serial) == [1])
      #expect(old.acks.flatMap(\.stale).map(\.ownerEpochSeen) == [7])
      let stats = try await served.stats()
      #expect(stats.eventsStale == 1)
      #expect(stats.eventsStored == 2)
    }
  }

  @Test("while the store fails nothing is acknowledged; when it is cured nothing is lost")
  func failingStore() async throws {
    let store = MoodyStore()
    try await withApp(store) { served async throws in
      let node = served.node()
      store.isFailing = true
      for number in UInt64(1)...50 { node.send(number, [event(1, number)]) }
      #expect(try await eventually { try await served.stats().commitsFailed >= 3 })
      #expect(node.acks.isEmpty)
      #expect(try await served.stats().eventsStored == 0)
      #expect(await eventually { node.flows.contains { $0.bytesInFlightMax > 0 } })
      store.isFailing = false
      #expect(await node.isAcknowledged(through: 50))
      #expect(node.flows.last?.bytesInFlightMax == 0, "the node is let go again")
      #expect(try await store.audit(1...1).first?.events == 50)
      #expect(try await store.audit(1...1).first?.holes == 0)
    }
  }

  @Test("a full disk holds the acknowledgements; with room again everything goes in")
  func fullDisk() async throws {
    let store = try SQLiteEventStore(path: scratch.database)
    try await withApp(store) { served async throws in
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(await node.isAcknowledged(through: 1))
      try store.withWriter { db in
        let pages = try Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0
        try db.execute(sql: "PRAGMA max_page_count = \(pages + 1)")
      }
      let body = [UInt8](repeating: 7, count: 500)
      for number in UInt64(2)...40 { node.send(number, [event(1, number, body: body)]) }
      #expect(try await eventually { try await served.stats().commitsFailed >= 2 })
      let stored = try await store.audit(1...1).first?.lastSeq ?? 0
      #expect(node.through == stored, "what was acknowledged is what is stored, and no more")
      #expect(stored < 40)
      try store.withWriter { try $0.execute(sql: "PRAGMA max_page_count = 1000000") }
      #expect(await node.isAcknowledged(through: 40))
      let audit = try #require(try await store.audit(1...1).first)
      #expect(audit.events == 40)
      #expect(audit.holes == 0)
    }
  }

  @Test("a locked database holds the acknowledgements; unlocked, everything goes in")
  func lockedDatabase() async throws {
    let store = try SQLiteEventStore(path: scratch.database)
    var configuration = Configuration()
    configuration.allowsUnsafeTransactions = true
    let other = try DatabaseQueue(path: scratch.database, configuration: configuration)
    try await withApp(store) { served async throws in
      try await other.writeWithoutTransaction { try $0.execute(sql: "BEGIN EXCLUSIVE") }
      let node = served.node()
      for number in UInt64(1)...20 { node.send(number, [event(1, number)]) }
      #expect(try await eventually { try await served.stats().commitsFailed >= 2 })
      #expect(node.acks.isEmpty)
      try await other.writeWithoutTransaction { try $0.execute(sql: "ROLLBACK") }
      #expect(await node.isAcknowledged(through: 20))
      #expect(try await store.audit(1...1).first?.events == 20)
    }
  }

  @Test("while nothing is committed a stream takes no more than its budget")
  func bounded() async throws {
    let store = MoodyStore()
    var options = VendorApp.Options()
    options.streamBudget = 100_000
    try await withApp(store, options: options) { served async throws in
      store.hold(true)
      let node = served.node()
      let body = [UInt8](repeating: 1, count: 1_000)
      let count: UInt64 = 300
      let batch = { (number: UInt64) in (1...10).map { event($0, number, body: body) } }
      node.send(1, batch(1))
      // The first group is with the store; the rest has to wait.
      #expect(await eventually { store.isWaiting })
      for number in 2...count { node.send(number, batch(number)) }
      #expect(await eventually { served.app.queuedBytes >= 60_000 })
      for _ in 0..<20 {
        try await Task.sleep(for: .milliseconds(5))
        #expect(served.app.queuedBytes <= 100_000)
      }
      store.hold(false)
      #expect(await node.isAcknowledged(through: count))
      #expect(try await served.stats().eventsStored == count * 10)
    }
  }

  @Test("what a broken stream left behind is not kept: its node sends it again")
  func forgotten() async throws {
    let store = MoodyStore()
    try await withApp(store) { served async throws in
      store.hold(true)
      let first = served.node()
      first.send(1, [event(1, 1)])
      #expect(await eventually { store.isWaiting })
      for number in UInt64(2)...20 { first.send(number, [event(1, number)]) }
      #expect(await eventually { served.app.queuedBytes > 1_000 })
      let second = served.node()
      #expect(await first.error()?.code == .aborted)
      #expect(await eventually { served.app.queuedBytes == 0 })
      for number in UInt64(1)...20 { second.send(number, [event(1, number)]) }
      store.hold(false)
      #expect(await second.isAcknowledged(through: 20))
      #expect(try await store.audit(1...1).first?.events == 20)
    }
  }

  @Test("an orderly stop acknowledges what was read and sends the nodes away")
  func orderlyStop() async throws {
    let store = MoodyStore()
    try await withApp(store) { served async throws in
      store.hold(true)
      let node = served.node()
      for number in UInt64(1)...10 { node.send(number, [event(1, number)]) }
      #expect(await eventually { store.isWaiting })
      async let stopped: Void = served.app.stop()
      store.hold(false)
      await stopped
      let error = await node.error()
      #expect(error?.code == .unavailable)
      #expect(node.through > 0)
      #expect(try await store.audit(1...1).first?.lastSeq == node.through)
    }
  }

  @Test("a stop in the middle of a failing store comes to an end")
  func stopWhileFailing() async throws {
    let store = MoodyStore()
    var options = VendorApp.Options()
    options.stopWithin = .milliseconds(200)
    try await withApp(store, options: options) { served async throws in
      store.isFailing = true
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(try await eventually { try await served.stats().commitsFailed > 0 })
      await served.app.stop()
      #expect(node.acks.isEmpty)
    }
  }

  @Test("stalled it commits nothing, and afterwards everything")
  func stalled() async throws {
    let store = MemoryEventStore()
    try await withApp(store) { served async throws in
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(await node.isAcknowledged(through: 1))
      served.app.toggleStall()
      node.send(2, [event(1, 2)])
      try await Task.sleep(for: .milliseconds(100))
      #expect(node.through == 1)
      served.app.toggleStall()
      #expect(await node.isAcknowledged(through: 2))
    }
  }

  @Test("each misbehaviour is what its name says")
  func misbehaviour() async throws {
    var options = VendorApp.Options()
    options.misbehaviour = .ackFuture
    try await withApp(MemoryEventStore(), options: options) { served async throws in
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(await eventually { node.through > 1 })
    }
    options.misbehaviour = .dropAcks
    try await withApp(MemoryEventStore(), options: options) { served async throws in
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(try await eventually { try await served.stats().eventsStored == 1 })
      #expect(await eventually { !node.flows.isEmpty })
      #expect(node.acks.isEmpty)
    }
    options.misbehaviour = .garbage
    try await withApp(MemoryEventStore(), options: options) { served async throws in
      let node = served.node()
      node.send(1, [event(1, 1)])
      #expect(await node.error()?.code == .invalidArgument)
    }
  }
}

extension NodeDouble {
  func hello() {
    send {
      $0.hello.nodeID = "bad:1"
      $0.hello.nextNumber = 1
    }
  }
}

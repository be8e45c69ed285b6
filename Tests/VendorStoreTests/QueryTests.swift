import DriverProtocol
import Foundation
import GRPCCore
import Synchronization
import Testing

@testable import VendorStore

@Suite("Queries") struct QueryTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test("controllers, events and audits are told as stored", arguments: StoreKind.allCases)
  func told(_ kind: StoreKind) async throws {
    let store = try kind.make(in: scratch)
    try await withApp(store) { served async throws in
      let node = served.node()
      node.send(1, [status(1, .online), status(2, .offline)])
      node.send(2, [event(1, 1), event(1, 2), event(3, 1)])
      #expect(await node.isAcknowledged(through: 2))

      let all = try await served.query.listControllers(.init()) { try await $0.all() }
      #expect(all.map(\.status.serial) == [1, 2, 3])
      #expect(all[0].status == status(1, .online))
      #expect(all.map(\.nodeID) == ["a:5001", "a:5001", ""])
      #expect(all.map(\.storedSeq) == [2, 0, 1])

      var online = Clusterdriver_V1_ListControllersRequest()
      online.state = .online
      let some = try await served.query.listControllers(online) { try await $0.all() }
      #expect(some.map(\.status.serial) == [1])

      var list = Clusterdriver_V1_ListEventsRequest()
      list.serial = 1
      let events = try await served.query.listEvents(list) { try await $0.all() }
      #expect(events == [event(1, 2), event(1, 1)])

      var range = Clusterdriver_V1_AuditRequest()
      range.firstSerial = 2
      let audits = try await served.query.audit(range) { try await $0.all() }
      #expect(audits.map(\.serial) == [3])
      #expect(audits.first?.fingerprintSum == slowFingerprint(event(3, 1)))
    }
  }

  @Test("a question out of range is refused with a reason")
  func refused() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      var list = Clusterdriver_V1_ListEventsRequest()
      list.limit = 100_001
      let tooMany = list
      let first = await #expect(throws: RPCError.self) {
        try await served.query.listEvents(tooMany) { try await $0.all() }
      }
      #expect(first?.code == .invalidArgument)
      var range = Clusterdriver_V1_AuditRequest()
      range.firstSerial = 5
      range.lastSerial = 4
      let backwards = range
      let second = await #expect(throws: RPCError.self) {
        try await served.query.audit(backwards) { try await $0.all() }
      }
      #expect(second?.code == .invalidArgument)
    }
  }

  @Test("a tail shows what is committed, once, of the controller asked for")
  func tail() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let seen = Mutex<[UInt64: [UInt64]]>([:])
      let watcher = Task {
        var request = Clusterdriver_V1_TailRequest()
        request.serial = 2
        try await served.query.tail(request) { response in
          for try await item in response.messages {
            seen.withLock { $0[item.event.serial, default: []].append(item.event.seq) }
          }
        }
      }
      let node = served.node()
      var number: UInt64 = 0
      // Events before the tail is open are not shown: send until one is.
      let hasBegun = await eventually {
        number += 1
        node.send(number, [event(2, number), event(1, number)])
        _ = await node.isAcknowledged(through: number)
        return seen.withLock { !$0.isEmpty }
      }
      #expect(hasBegun)
      let again = served.node("b:1")
      again.send(1, [event(2, number), event(2, number + 1), event(3, 1)])
      #expect(await eventually { seen.withLock { $0[2]?.last } == number + 1 })
      let seqs = seen.withLock { $0 }
      #expect(seqs.keys.sorted() == [2])
      #expect(seqs[2] == Array((seqs[2]?.first ?? 0)...number + 1))
      watcher.cancel()
      _ = await watcher.result
    }
  }

  @Test("a reader that does not read keeps a bounded buffer and is told what it missed")
  func slowReader() async throws {
    let hub = TailHub()
    let reader = try hub.open(serial: 0)
    let other = try hub.open(serial: 77)
    let body = [UInt8](repeating: 1, count: 1_000)
    var outcome = CommitOutcome()
    outcome.messages = [SubmissionOutcome()]
    var sent: UInt64 = 0
    for number in UInt64(1)...400 {
      let batch = (0..<64).map { event($0 + 1, number, body: body) }
      hub.publish([submission(number, batch)], outcome)
      sent += 64
    }
    let items = try #require(await reader.next())
    guard case .missed(let missed) = try #require(items.first) else {
      Issue.record("nothing was missed")
      return
    }
    var kept: [EventRows] = []
    for case .events(let rows) in items { kept.append(rows) }
    #expect(kept.reduce(0) { $0 + $1.byteCount } <= TailReader.bytesMax)
    #expect(missed + UInt64(kept.reduce(0) { $0 + $1.count }) == sent)
    #expect(kept.last?.rows.last?.seq == 400, "it goes on with the newest")
    hub.close(other)
    #expect(await other.next() == nil)
  }

  @Test("there are only so many tails")
  func manyTails() throws {
    let hub = TailHub()
    let readers = try (0..<TailHub.readersMax).map { _ in try hub.open(serial: 0) }
    #expect(throws: RPCError.self) { try hub.open(serial: 0) }
    hub.close(readers[0])
    #expect(throws: Never.self) { try hub.open(serial: 0) }
  }
}

extension StreamingClientResponse {
  fileprivate func all() async throws -> [Message] {
    var result: [Message] = []
    for try await message in messages { result.append(message) }
    return result
  }
}

import DriverProtocol
import Foundation
import GRPCCore
import SwiftProtobuf
import Testing

@testable import VendorStore

@Suite("Command sequences") struct SequenceTests {
  static func list(_ serial: UInt64, of count: Int = 40) -> Clusterdriver_V1_Command {
    var command = Clusterdriver_V1_Command()
    command.id = CommandID.random().bytes
    command.serial = serial
    command.list.commands = (0..<count).map { _ in .with { $0.queryStatus = .init() } }
    return command
  }

  static func configuration(_ serial: UInt64, bytes: Int) -> Clusterdriver_V1_Command {
    var command = Clusterdriver_V1_Command()
    command.id = CommandID.random().bytes
    command.serial = serial
    command.configuration.content = Data(count: bytes)
    return command
  }

  static func progress(
    _ command: Clusterdriver_V1_Command, done: UInt32, returned: Bool = false
  ) -> Clusterdriver_V1_SequenceProgress {
    .with {
      $0.id = command.id
      $0.serial = command.serial
      $0.done = done
      $0.total = 40
      $0.atMs = 1
      $0.returned = returned
    }
  }

  static func resumed(_ command: Clusterdriver_V1_Command, at done: UInt32)
    -> Clusterdriver_V1_Command
  {
    var command = command
    command.list.done = done
    return command
  }

  @Test(
    "progress is stored with its result, the furthest of it, by every store",
    arguments: StoreKind.allCases)
  func stored(kind: StoreKind) async throws {
    let store = try kind.make(in: try Scratch())
    let (one, two) = (Self.list(1), Self.list(2))
    for done in [9, 17, 12] as [UInt32] {
      _ = try store.commit([submission(.progress([Self.progress(one, done: done)]))])
    }
    _ = try store.commit([
      submission(.progress([Self.progress(two, done: 1, returned: true)])),
      submission(.results([CommandTests.done(one)])),
    ])
    let records = try await store.sequences(serial: 0)
    #expect(
      records.map(\.progress.id)
        == [one, two].map(\.id).sorted { $0.lexicographicallyPrecedes($1) })
    let first = try #require(try await store.sequences(serial: 1).first)
    #expect(first.progress.done == 17 && first.progress.total == 40)
    #expect(first.nodeID == nodeA.id)
    #expect(first.result.status == .done && first.result.id == one.id)
    let second = try #require(try await store.sequences(serial: 2).first)
    #expect(!second.hasResult && !second.progress.returned)
    let id = try #require(CommandID(one.id))
    #expect(try await store.progress(id: id)?.done == 17)
    #expect(try await store.progress(id: .random()) == nil)
  }

  @Test("one that is returned is given again, where it was left, and not to be stored twice")
  func returned() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node("a:1")
      node.send(1, [status(1, .online)])
      #expect(await node.isAcknowledged(through: 1))
      let command = Self.list(1)
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { node.commands == [command] })
      node.send(2, [Self.progress(command, done: 9)])
      node.send(3, [Self.progress(command, done: 12, returned: true)])
      #expect(await eventually { node.commands == [command, Self.resumed(command, at: 12)] })
      node.send(4, [CommandTests.done(command)])
      #expect(try await answer.status == .done)
    }
  }

  @Test(
    "a controller that another node has now takes its sequence with it, and no returning of the former's"
  )
  func moved() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let (a, b) = (served.node("a:1"), served.node("b:1"))
      a.send(1, [status(1, .online, epoch: 1)])
      #expect(await a.isAcknowledged(through: 1))
      let command = Self.list(1)
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { a.commands == [command] })
      a.send(2, [Self.progress(command, done: 9)])
      #expect(await a.isAcknowledged(through: 2))
      b.send(1, [status(1, .online, epoch: 2)])
      #expect(await eventually { b.commands == [Self.resumed(command, at: 9)] })
      a.send(3, [Self.progress(command, done: 10, returned: true)])
      #expect(await a.isAcknowledged(through: 3))
      // Said once more by the same node it is no news.
      b.send(2, [status(1, .online, epoch: 2)])
      b.send(3, [CommandTests.done(command)])
      #expect(try await answer.status == .done)
      #expect(b.commands.count == 1 && a.commands.count == 1)
    }
  }

  @Test("one whose controller is nowhere waits for it")
  func awaited() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let first = served.node("a:1")
      first.send(1, [status(1, .online)])
      #expect(await first.isAcknowledged(through: 1))
      first.finish()
      #expect(try await eventually { try await served.stats().nodesAttached == 0 })
      let command = Self.list(1)
      async let answer = served.query.sendCommand(command)
      let second = served.node("b:1")
      second.send(1, [status(1, .online, epoch: 2)])
      #expect(await eventually { second.commands == [command] })
      second.send(2, [CommandTests.done(command)])
      #expect(try await answer.status == .done)
    }
  }

  @Test("after a restart of the vendor app a list goes on where it was stored to be")
  func restarted() async throws {
    let scratch = try Scratch()
    let store = try SQLiteEventStore(path: scratch.database)
    let command = Self.list(1)
    _ = try store.commit([
      submission(1, .statuses([status(1, .online)])),
      submission(2, .progress([Self.progress(command, done: 24)])),
    ])
    try await withApp(store) { served async throws in
      let node = served.node(nodeA.id)
      #expect(try await eventually { try await served.stats().nodesAttached == 1 })
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { node.commands == [Self.resumed(command, at: 24)] })
      node.send(1, [CommandTests.done(command)])
      #expect(try await answer.status == .done)
      var listed: [Clusterdriver_V1_SequenceRecord] = []
      #expect(
        try await eventually {
          try await served.query.listSequences(.init()) { response in
            for try await record in response.messages where record.hasResult { return true }
            return false
          }
        })
      listed = try await served.query.listSequences(.with { $0.serial = 1 }) { response in
        var records: [Clusterdriver_V1_SequenceRecord] = []
        for try await record in response.messages { records.append(record) }
        return records
      }
      #expect(listed.map(\.progress.done) == [24])
    }
  }

  @Test("sequences go one at a time, behind the commands that wait")
  func behind() async throws {
    let outbox = Outbox()
    let (large, other) = (Self.configuration(1, bytes: 9), Self.configuration(2, bytes: 9))
    let unlock = CommandTests.unlock(3)
    for command in [large, other, unlock] { #expect(outbox.send(command)) }
    var written: [[Data]] = []
    for _ in 0..<2 {
      let messages = try #require(try await outbox.next())
      written.append(messages.map(\.command.id))
    }
    #expect(written == [[unlock.id, large.id], [other.id]])
  }

  @Test("what waits is bounded in bytes, too")
  func bounded() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node("a:1")
      node.send(1, [status(1, .online)])
      #expect(await node.isAcknowledged(through: 1))
      #expect(Self.configuration(1, bytes: 70_000).sequenceBytes == 70_000)
      #expect(Self.list(1).sequenceBytes == 40 * 128)
      #expect(CommandTests.unlock(1).sequenceBytes == 0)
      var state = CommandDesk.State()
      let command = Self.configuration(1, bytes: 70_000)
      let id = try #require(CommandID(command.id))
      state.add(id, CommandDesk.Waiting(command: command, stream: 1, waiters: []))
      #expect(state.sequenceBytes == 70_000 && state.sequences == [1: [id]])
      state.remove(id)
      #expect(state.sequenceBytes == 0 && state.sequences.isEmpty && state.waiting.isEmpty)
    }
  }
}

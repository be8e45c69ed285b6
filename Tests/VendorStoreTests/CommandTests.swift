import DriverProtocol
import Foundation
import GRPCCore
import Testing

@testable import VendorStore

@Suite("Commands") struct CommandTests {
  static func unlock(_ serial: UInt64, id: CommandID = .random()) -> Clusterdriver_V1_Command {
    var command = Clusterdriver_V1_Command()
    command.id = id.bytes
    command.serial = serial
    command.lane = .urgent
    command.notAfterMs = .nowUTC + 10_000
    command.unlock.door = 1
    return command
  }

  static func done(_ command: Clusterdriver_V1_Command) -> Clusterdriver_V1_CommandResult {
    var result = Clusterdriver_V1_CommandResult()
    result.id = command.id
    result.serial = command.serial
    result.status = .done
    return result
  }

  @Test("a command goes to the node that has the controller, and its result comes back")
  func routed() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let (a, b) = (served.node("a:1"), served.node("b:1"))
      a.send(1, [status(1, .online)])
      b.send(1, [status(2, .online)])
      #expect(await a.isAcknowledged(through: 1))
      #expect(await b.isAcknowledged(through: 1))
      #expect(try await served.stats().controllersOnline == 2)
      let command = Self.unlock(2)
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { b.commands == [command] })
      #expect(a.commands.isEmpty)
      b.send(2, [Self.done(command)])
      #expect(try await answer == Self.done(command))
    }
  }

  @Test("a controller that moves takes its commands with it")
  func moved() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let (a, b) = (served.node("a:1"), served.node("b:1"))
      a.send(1, [status(1, .online, epoch: 1)])
      #expect(await a.isAcknowledged(through: 1))
      b.send(1, [status(1, .online, epoch: 2)])
      #expect(await b.isAcknowledged(through: 1))
      // The old owner's farewell is no news.
      a.send(2, [status(1, .offline, epoch: 1, at: 99)])
      #expect(await a.isAcknowledged(through: 2))
      let command = Self.unlock(1)
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { b.commands == [command] })
      b.send(2, [Self.done(command)])
      #expect(try await answer.status == .done)
    }
  }

  @Test("OFFLINE at once when nobody has the controller, and it says who had it last")
  func offline() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let never = try await served.query.sendCommand(Self.unlock(1))
      #expect(never.status == .offline)
      let node = served.node("a:1")
      node.send(1, [status(1, .online)])
      #expect(await node.isAcknowledged(through: 1))
      node.finish()
      #expect(try await eventually { try await served.stats().nodesAttached == 0 })
      let gone = try await served.query.sendCommand(Self.unlock(1))
      #expect(gone.status == .offline)
      #expect(gone.detail.contains("a:1"))
    }
  }

  @Test("a command whose stream breaks is sent again on the next one")
  func sentAgain() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let first = served.node("a:1")
      first.send(1, [status(1, .online)])
      #expect(await first.isAcknowledged(through: 1))
      let command = Self.unlock(1)
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { first.commands == [command] })
      let second = served.node("a:1", next: 2)
      #expect(await eventually { second.commands == [command] })
      second.send(2, [Self.done(command)])
      #expect(try await answer.status == .done)
    }
  }

  @Test("a repeated id is answered with the first result and not sent")
  func repeatedID() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node("a:1")
      let command = Self.unlock(1)
      node.send(1, [status(1, .online)])
      node.send(2, [Self.done(command)])
      #expect(await node.isAcknowledged(through: 2))
      #expect(try await served.query.sendCommand(command) == Self.done(command))
      #expect(node.commands.isEmpty)
    }
  }

  @Test("a caller's deadline ends the waiting, not the command")
  func deadline() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node("a:1")
      node.send(1, [status(1, .online)])
      #expect(await node.isAcknowledged(through: 1))
      var options = CallOptions.defaults
      options.timeout = .milliseconds(100)
      let error = await #expect(throws: RPCError.self) {
        try await served.query.sendCommand(Self.unlock(1), options: options)
      }
      #expect(error?.code == .deadlineExceeded || error?.code == .cancelled)
      #expect(await eventually { node.commands.count == 1 })
    }
  }

  @Test("an id that is not 16 bytes is refused")
  func badID() async throws {
    try await withApp(MemoryEventStore()) { served async throws in
      let node = served.node("a:1")
      node.send(1, [status(1, .online)])
      #expect(await node.isAcknowledged(through: 1))
      var command = Self.unlock(1)
      command.id = Data([1])
      let refused = command
      let error = await #expect(throws: RPCError.self) {
        try await served.query.sendCommand(refused)
      }
      #expect(error?.code == .invalidArgument)
    }
  }

  @Test("after a restart commands find their node by what is on the disk")
  func restarted() async throws {
    let scratch = try Scratch()
    let store = try SQLiteEventStore(path: scratch.database)
    _ = try store.commit([submission(.statuses([status(1, .online)]))])
    try await withApp(store) { served async throws in
      let node = served.node(nodeA.id)
      let command = Self.unlock(1)
      #expect(try await eventually { try await served.stats().nodesAttached == 1 })
      async let answer = served.query.sendCommand(command)
      #expect(await eventually { node.commands == [command] })
      node.send(1, [Self.done(command)])
      #expect(try await answer.status == .done)
    }
  }
}

import DriverProtocol
import Testing

@testable import ClusterDriver

@Suite("Tail")
struct TailHubTests {
  static func events(_ seqs: ClosedRange<UInt64>, serial: UInt64 = 1) -> [Clusterdriver_V1_Event] {
    seqs.map { seq in
      var event = Clusterdriver_V1_Event()
      event.serial = serial
      event.seq = seq
      return event
    }
  }

  @Test("nobody is offered anything unless somebody watches")
  func wanted() throws {
    let hub = TailHub()
    #expect(!hub.isWanted)
    let reader = try #require(hub.open(serial: 0))
    #expect(hub.isWanted)
    hub.close(reader)
    #expect(!hub.isWanted)
  }

  @Test("a reader gets what is offered after it came, in order, of its serial only")
  func order() async throws {
    let hub = TailHub()
    let all = try #require(hub.open(serial: 0))
    let one = try #require(hub.open(serial: 7))
    hub.offer(Self.events(1...2))
    hub.offer(Self.events(3...4, serial: 7))
    #expect(await all.next()?.events.map(\.seq) == [1, 2, 3, 4])
    #expect(await one.next()?.events.map(\.seq) == [3, 4])
    hub.closeAll()
    #expect(await all.next() == nil)
  }

  @Test("a reader that is too slow loses the oldest and is told how many")
  func slowReader() async throws {
    let hub = TailHub()
    let reader = try #require(hub.open(serial: 0))
    let most = UInt64(TailHub.backlogMax)
    hub.offer(Self.events(1...most))
    hub.offer(Self.events((most + 1)...(most + 10)))
    let batch = try #require(await reader.next())
    #expect(batch.missed == 10)
    #expect(batch.events.first?.seq == 11)
    #expect(batch.events.last?.seq == most + 10)
    hub.offer(Self.events(1...1))
    #expect(await reader.next()?.missed == 0)
    hub.close(reader)
  }

  @Test("a waiting reader wakes for an event, for the hub's end, and for its task's cancellation")
  func wakes() async throws {
    let hub = TailHub()
    let reader = try #require(hub.open(serial: 0))
    async let first = reader.next()
    hub.offer(Self.events(1...1))
    #expect(await first?.events.count == 1)

    let waiting = Task { await reader.next() }
    hub.closeAll()
    #expect(await waiting.value == nil)

    let other = try #require(hub.open(serial: 0))
    let cancelled = Task { await other.next() }
    cancelled.cancel()
    #expect(await cancelled.value == nil)
    hub.close(other)
  }

  @Test("the number of readers is limited")
  func readersMax() {
    let hub = TailHub()
    let readers = (0..<TailHub.readersMax).compactMap { _ in hub.open(serial: 0) }
    #expect(readers.count == TailHub.readersMax)
    #expect(hub.open(serial: 0) == nil)
    hub.closeAll()
    #expect(hub.open(serial: 0) != nil)
  }
}

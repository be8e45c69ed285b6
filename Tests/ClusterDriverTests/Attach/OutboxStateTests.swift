import Testing

@testable import ClusterDriver

@Suite("Outbox")
struct OutboxStateTests {
  static let t0 = ContinuousClock.now

  static func events(
    _ tag: UInt8, connection: UInt64 = 1, serial: UInt64 = 10, epoch: UInt64 = 1, seq: UInt64,
    bytes: Int = 1
  ) -> OutboxState.Message {
    OutboxState.Message(
      bytes: [UInt8](repeating: tag, count: bytes),
      cursors: [
        AckCursor(
          connection: connection, serial: serial, ownerEpoch: epoch, logEpoch: 1, seq: seq)
      ],
      events: 1)
  }

  @Test("after a stream broke, everything not acknowledged goes again, in order, from the first")
  func resend() throws {
    var outbox = OutboxState(bytesMax: 1 << 20)
    for tag in 1...5 { outbox.append(Self.events(UInt8(tag), seq: UInt64(tag))) }
    #expect(outbox.begin() == 1)
    #expect(outbox.takeUnsent(bytesMax: 3, at: Self.t0) == [[1], [2], [3]])
    _ = try outbox.acknowledge(through: 2).get()
    #expect(outbox.begin() == 3)
    #expect(outbox.takeUnsent(bytesMax: 99, at: Self.t0) == [[3], [4], [5]])
    #expect(outbox.takeUnsent(bytesMax: 99, at: Self.t0) == [])
    #expect(outbox.nextNumber == 6)
  }

  @Test(
    "results that are only here are named from the oldest on, until somebody else has them or they are acknowledged"
  )
  func onlyHere() throws {
    var outbox = OutboxState(bytesMax: 1 << 20)
    func add(_ tag: UInt8, results: Int = 1, at seconds: Int?) {
      outbox.append(
        OutboxState.Message(
          bytes: [tag, tag], cursors: [], events: 0, results: results,
          onlyHereSince: seconds.map { Self.t0 + .seconds($0) }))
    }
    func found(at seconds: Int, bytesMax: Int = 99) -> [UInt64] {
      outbox.onlyHere(since: Self.t0 + .seconds(seconds), bytesMax: bytesMax).map(\.number)
    }
    #expect(found(at: 9) == [])
    outbox.append(Self.events(1, seq: 1))
    add(2, at: 0)
    add(3, at: nil)
    add(4, at: 1)
    add(5, at: 2)
    #expect(found(at: 1) == [2, 4])
    #expect(found(at: 9, bytesMax: 4) == [2, 4])
    #expect(found(at: 9, bytesMax: 0) == [2])
    outbox.copied([4])
    #expect(found(at: 9) == [2, 5])
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 99, at: Self.t0)
    _ = try outbox.acknowledge(through: 3).get()
    // Of what is gone nothing is to be noted.
    outbox.copied([2, 4])
    #expect(found(at: 9) == [5])
  }

  @Test("an acknowledgement ahead of what was sent acknowledges nothing")
  func aheadOfSent() {
    var outbox = OutboxState(bytesMax: 1 << 20)
    outbox.append(Self.events(1, seq: 1))
    outbox.append(Self.events(2, seq: 2))
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 1, at: Self.t0)
    #expect(
      outbox.acknowledge(through: 2) == .failure(.aheadOfSent(through: 2, sent: 1)))
    #expect(outbox.count == 2)
    #expect(outbox.firstNumber == 1)
  }

  @Test("what an earlier stream was sent may be acknowledged at once on the next, and is not sent")
  func acknowledgedAfterHello() throws {
    var outbox = OutboxState(bytesMax: 1 << 20)
    for tag in 1...3 { outbox.append(Self.events(UInt8(tag), seq: UInt64(tag))) }
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 99, at: Self.t0)
    #expect(outbox.begin() == 1)
    #expect(try outbox.acknowledge(through: 2).get().cursors.map(\.seq) == [1, 2])
    #expect(outbox.takeUnsent(bytesMax: 99, at: Self.t0) == [[3]])
  }

  @Test("a session with a refused event gets no acknowledgement any more; others get theirs")
  func refused() throws {
    var outbox = OutboxState(bytesMax: 1 << 20)
    outbox.begin(session: 7)
    outbox.begin(session: 8)
    outbox.append(Self.events(1, connection: 7, serial: 10, epoch: 9, seq: 1))
    outbox.append(Self.events(2, connection: 7, serial: 10, seq: 2))
    outbox.append(Self.events(3, connection: 8, serial: 20, seq: 5))
    outbox.append(Self.events(4, connection: 7, serial: 10, epoch: 9, seq: 3))
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 99, at: Self.t0)
    let refusal = OutboxState.Refusal(serial: 10, epochSeen: 9, number: 2)
    let first = try outbox.acknowledge(through: 3, refusals: [refusal]).get()
    #expect(first.cursors.map(\.connection) == [7, 8])
    #expect(first.cursors.map(\.seq) == [1, 5])
    #expect(first.refusedSessions == [7])
    #expect(first.refusedEvents == 1)
    // Record 3 of the same session was stored, but its acknowledgement would cover record 2.
    #expect(try outbox.acknowledge(through: 4).get().cursors.isEmpty)
  }

  @Test("a refusal does not touch the next session, under an epoch that is high enough")
  func refusedBefore() throws {
    var outbox = OutboxState(bytesMax: 1 << 20)
    outbox.begin(session: 7)
    outbox.append(Self.events(1, connection: 7, seq: 1))
    outbox.end(session: 7)
    outbox.begin(session: 9)
    outbox.append(Self.events(2, connection: 9, epoch: 5, seq: 1))
    outbox.append(Self.events(3, connection: 9, epoch: 5, seq: 2))
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 99, at: Self.t0)
    let refusal = OutboxState.Refusal(serial: 10, epochSeen: 5, number: 1)
    let both = try outbox.acknowledge(through: 2, refusals: [refusal]).get()
    #expect(both.cursors.map(\.connection) == [9])
    #expect(both.refusedEvents == 1)
    #expect(both.refusedSessions == [])
    #expect(try outbox.acknowledge(through: 3).get().cursors.map(\.seq) == [2])
  }

  @Test(
    "it is full at its limit, has room again below three quarters, and always takes one message")
  func limits() throws {
    let cost = Self.events(1, seq: 1, bytes: 400).cost
    var outbox = OutboxState(bytesMax: cost * 4)
    #expect(!outbox.isFull)
    for tag in 1...4 {
      #expect(!outbox.isFull)
      outbox.append(Self.events(UInt8(tag), seq: UInt64(tag), bytes: 400))
    }
    #expect(outbox.isFull)
    _ = outbox.begin()
    _ = outbox.takeUnsent(bytesMax: 4000, at: Self.t0)
    _ = try outbox.acknowledge(through: 1).get()
    #expect(!outbox.isFull && !outbox.hasRoom)
    _ = try outbox.acknowledge(through: 2).get()
    #expect(outbox.hasRoom)
    outbox.hint(bytesMax: 1, pause: .zero, at: Self.t0)
    #expect(outbox.isFull)
    _ = try outbox.acknowledge(through: 4).get()
    #expect(!outbox.isFull && outbox.hasRoom)
    outbox.hint(bytesMax: .max, pause: .zero, at: Self.t0)
    #expect(outbox.limit == cost * 4)
  }

  @Test("a pause holds events back, at most a minute, and what is ahead of them is sent")
  func pause() {
    var outbox = OutboxState(bytesMax: 1 << 20)
    outbox.append(OutboxState.Message(bytes: [1], cursors: [], events: 0))
    outbox.append(Self.events(2, seq: 1))
    outbox.hint(bytesMax: 0, pause: .seconds(3600), at: Self.t0)
    _ = outbox.begin()
    #expect(outbox.takeUnsent(bytesMax: 99, at: Self.t0) == [[1]])
    #expect(!outbox.hasUnsent(at: Self.t0))
    #expect(outbox.takeUnsent(bytesMax: 99, at: Self.t0.advanced(by: .seconds(59))) == [])
    let later = Self.t0.advanced(by: .seconds(60))
    #expect(outbox.hasUnsent(at: later))
    #expect(outbox.takeUnsent(bytesMax: 99, at: later) == [[2]])
  }

  // MARK: Every sequence

  private enum Step: CaseIterable {
    case appendEvents, appendResult, sendOne, sendAll, ackOne, ackAll, ackAhead, reattach
  }

  /// The outbox, and in plain lists what must have happened.
  private struct World {
    var outbox = OutboxState(bytesMax: 1 << 20)
    var appended: [(isEvents: Bool, bytes: [UInt8])] = []
    var acked: UInt64 = 0
    var ackedSeqs: [UInt64] = []
    var sentOnStream: [[UInt8]] = []
    var streamBegan: UInt64 = 1
    var sentEver: UInt64 = 0

    mutating func append(events: Bool) {
      let number = UInt8(self.appended.count + 1)
      self.appended.append((isEvents: events, bytes: [number]))
      self.outbox.append(
        events
          ? OutboxStateTests.events(number, seq: UInt64(number))
          : OutboxState.Message(bytes: [number], cursors: [], events: 0))
    }

    mutating func send(bytesMax: Int) {
      self.sentOnStream += self.outbox.takeUnsent(bytesMax: bytesMax, at: OutboxStateTests.t0)
      if let last = self.sentOnStream.last { self.sentEver = max(self.sentEver, UInt64(last[0])) }
    }

    mutating func ack(through: UInt64) -> Bool {
      switch self.outbox.acknowledge(through: through) {
      case .failure: return false
      case .success(let acknowledgement):
        self.acked = max(self.acked, through)
        self.ackedSeqs += acknowledgement.cursors.map(\.seq)
        return true
      }
    }
  }

  @Test("in every sequence of steps each message is sent in order and acknowledged once")
  func exhaustive() {
    var failures: [String] = []
    var sequences = 0
    func explore(_ world: World, depth: Int, path: [Step]) {
      sequences += 1
      guard depth > 0, failures.isEmpty else { return }
      for step in Step.allCases {
        var next = world
        switch step {
        case .appendEvents: next.append(events: true)
        case .appendResult: next.append(events: false)
        case .sendOne: next.send(bytesMax: 1)
        case .sendAll: next.send(bytesMax: 99)
        case .ackOne:
          guard next.acked < next.sentEver else { continue }
          if !next.ack(through: next.acked + 1) { failures.append("\(path): refused ack") }
        case .ackAll:
          guard next.acked < next.sentEver else { continue }
          if !next.ack(through: next.sentEver) { failures.append("\(path): refused ack") }
        case .ackAhead:
          if next.ack(through: next.sentEver + 1) { failures.append("\(path): took ack ahead") }
        case .reattach:
          next.streamBegan = next.outbox.begin()
          next.sentOnStream = []
        }
        if let broken = Self.brokenLaw(next) { failures.append("\(path + [step]): \(broken)") }
        explore(next, depth: depth - 1, path: path + [step])
      }
    }
    explore(World(), depth: 6, path: [])
    #expect(failures == [])
    #expect(sequences > 50_000)
  }

  private static func brokenLaw(_ world: World) -> String? {
    let outbox = world.outbox
    if outbox.firstNumber != world.acked + 1 { return "first is not the one after the last acked" }
    if outbox.nextNumber != UInt64(world.appended.count) + 1 { return "a number was lost" }
    let acked = world.appended.prefix(Int(world.acked)).filter(\.isEvents)
    if world.ackedSeqs != acked.map({ UInt64($0.bytes[0]) }) {
      return "cursors are not those of the acknowledged messages, each once"
    }
    let sent = world.sentOnStream.map { UInt64($0[0]) }
    if sent != sent.sorted() || Set(sent).count != sent.count { return "sent out of order" }
    if let first = sent.first, first < world.streamBegan { return "sent before Hello's number" }
    // A hole is only what was acknowledged in between.
    for (one, next) in zip(sent, sent.dropFirst()) where next != one + 1 && next - 1 > world.acked {
      return "left out \(one + 1)"
    }
    return nil
  }
}

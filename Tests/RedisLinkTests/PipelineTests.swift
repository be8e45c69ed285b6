import Testing

@testable import RedisLink

/// What was told, by the number of the command it was told of.
private final class Told {
  var ends: [(Int, Result<RedisValue, RedisError>)] = []

  func take(_ list: [Completed]) {
    for completed in list { take(completed) }
  }

  func take(_ completed: Completed?) {
    guard let completed else { return }
    let number = Int(completed.submission.deadline % 1000)
    switch completed.outcome {
    case .one(let result): ends.append((number, result))
    case .several(let results): for result in results { ends.append((number, result)) }
    }
  }

  var text: [String] {
    ends.map { number, result in
      switch result {
      case .success(let value): "\(number) \(value.summary)"
      case .failure(let error): "\(number) \(error)"
      }
    }
  }
}

@Suite struct Pipelines {
  /// A command of 20 bytes whose deadline tells its number in the last three digits.
  private func command(_ number: Int, deadline: UInt64 = 1_000_000) -> Submission {
    Submission(
      commands: .one(RedisCommand("GET", .string("k"))), deadline: deadline + UInt64(number),
      completion: .one({ _ in }))
  }

  private func batch(_ number: Int, of count: Int, deadline: UInt64 = 1_000_000) -> Submission {
    Submission(
      commands: .several((0..<count).map { _ in RedisCommand("GET", .string("k")) }),
      deadline: deadline + UInt64(number), completion: .all({ _ in }))
  }

  private let size = UInt64(RedisCommand("GET", .string("k")).wire.count)

  @Test("replies go to commands in the order they were handed over")
  func order() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    for number in 1...3 { pipeline.add(command(number)) }
    pipeline.fill(&out, room: 1 << 20)
    #expect(out.written == 3 * size)
    for number in 1...3 as ClosedRange<Int64> { told.take(try pipeline.match(.integer(number))) }
    #expect(told.text == ["1 integer 1", "2 integer 2", "3 integer 3"])
    #expect(!pipeline.isBusy)
  }

  @Test("a reply to nothing is the end of the connection")
  func unexpected() {
    var pipeline = Pipeline()
    #expect(throws: RedisFailure.self) { try pipeline.match(.null) }
  }

  @Test("what was sent whole is of unknown outcome; what lacks a byte is sent again, in its order")
  func loss() throws {
    for missing in [UInt64(0), 1, size - 1, size] {
      var pipeline = Pipeline()
      var out = OutputBuffer()
      let told = Told()
      for number in 1...4 { pipeline.add(command(number)) }
      pipeline.fill(&out, room: 1 << 20)
      told.take(try pipeline.match(.null))
      pipeline.add(command(5))
      told.take(pipeline.lose(sent: 3 * size - missing, because: .closedByPeer, at: 0))
      var expected = ["1 null", "2 Redis: sent, outcome unknown: the server closed the connection"]
      if missing == 0 {
        expected.append("3 Redis: sent, outcome unknown: the server closed the connection")
      }
      #expect(told.text == expected)

      var next = OutputBuffer()
      pipeline.fill(&next, room: 1 << 20)
      #expect(next.written == (missing == 0 ? 2 : 3) * size)
      told.ends = []
      while pipeline.isBusy { told.take(try pipeline.match(.null)) }
      #expect(told.text == (missing == 0 ? ["4 null", "5 null"] : ["3 null", "4 null", "5 null"]))
    }
  }

  @Test("of a batch cut in the middle each command is told its own outcome")
  func cutBatch() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    pipeline.add(batch(1, of: 3))
    pipeline.fill(&out, room: 1 << 20)
    told.take(try pipeline.match(.integer(7)))
    told.take(pipeline.lose(sent: 2 * size + 1, because: .closedByPeer, at: 0))
    #expect(
      told.text == [
        "1 integer 7", "1 Redis: sent, outcome unknown: the server closed the connection",
        "1 Redis: not sent: the server closed the connection",
      ])
    #expect(pipeline.isEmpty)
  }

  @Test("a batch of which nothing was sent is sent again as a whole")
  func uncutBatch() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    pipeline.add(batch(1, of: 3))
    pipeline.fill(&out, room: 1 << 20)
    #expect(pipeline.lose(sent: size - 1, because: .closedByPeer, at: 0).isEmpty)
    var next = OutputBuffer()
    pipeline.fill(&next, room: 1 << 20)
    #expect(next.written == 3 * size)
  }

  @Test("an overdue command costs the connection: it timed out, those behind it are abandoned")
  func overdue() {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    pipeline.add(command(1, deadline: 9000))
    pipeline.add(command(2, deadline: 5000))
    pipeline.add(command(3, deadline: 9000))
    pipeline.fill(&out, room: 1 << 20)
    #expect(pipeline.wakeAt == 5002)
    #expect(!pipeline.isOverdue(at: 5001))
    #expect(pipeline.isOverdue(at: 5002))
    told.take(pipeline.lose(sent: 3 * size, because: .timeout, at: 5002))
    #expect(told.ends.map(\.0) == [1, 2, 3])
    #expect(
      told.ends.map(\.1) == [
        .failure(.unknown(.abandoned)), .failure(.unknown(.timeout)),
        .failure(.unknown(.abandoned)),
      ])
  }

  @Test("a waiting command expires by itself, its neighbours wait on")
  func expiry() throws {
    var pipeline = Pipeline()
    let told = Told()
    pipeline.add(command(1, deadline: 9000))
    pipeline.add(command(2, deadline: 5000))
    pipeline.add(command(3, deadline: 7000))
    #expect(pipeline.wakeAt == 5002)
    told.take(pipeline.expireWaiting(at: 5001, because: .closedByPeer))
    #expect(told.ends.isEmpty)
    told.take(pipeline.expireWaiting(at: 5002, because: .closedByPeer))
    #expect(told.text == ["2 Redis: not sent: the server closed the connection"])
    #expect(pipeline.wakeAt == 7003)
    told.take(pipeline.failWaiting(because: .closed))
    #expect(told.ends.map(\.0) == [2, 1, 3])
    #expect(pipeline.isEmpty && pipeline.wakeAt == .max)
  }

  @Test("no more is written ahead of the socket than there is room for")
  func room() {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    for number in 1...10 { pipeline.add(command(number)) }
    pipeline.fill(&out, room: Int(size) * 3)
    #expect(out.written == 3 * size)
    out.take(Int(size))
    pipeline.fill(&out, room: Int(size) * 3)
    #expect(out.written == 4 * size)
  }

  @Test("commands that were turned away go again, in their order and ahead of the others")
  func turnedAway() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    for number in 1...4 { pipeline.add(command(number)) }
    pipeline.fill(&out, room: 1 << 20)
    pipeline.add(command(5))
    told.take(try pipeline.turnAway(because: .moved))
    told.take(try pipeline.match(.null))
    told.take(try pipeline.turnAway(because: .moved))
    #expect(pipeline.isBusy)
    // The fourth was sent and not answered; one that was not would be the fourth to go again.
    told.take(pipeline.lose(sent: 4 * size, because: .closedByPeer, at: 0))
    #expect(
      told.text == ["2 null", "4 Redis: sent, outcome unknown: the server closed the connection"])
    told.ends = []
    var next = OutputBuffer()
    pipeline.fill(&next, room: 1 << 20)
    #expect(next.written == 3 * size)
    while pipeline.isBusy { told.take(try pipeline.match(.null)) }
    #expect(told.text == ["1 null", "3 null", "5 null"])
    #expect(throws: RedisFailure.self) { try pipeline.turnAway(because: .moved) }
  }

  @Test("a command follows a slot a few times, and waits for one that is on its way until its time")
  func turnedAwayOften() throws {
    let busy = RedisFailure.refused(RedisServerError(message: "TRYAGAIN"))
    var pipeline = Pipeline()
    let told = Told()
    pipeline.add(command(1))
    func turnAway(because failure: RedisFailure) throws {
      var out = OutputBuffer()
      pipeline.fill(&out, room: 1 << 20)
      told.take(try pipeline.turnAway(because: failure))
      told.take(pipeline.lose(sent: out.written, because: failure, at: 0))
    }
    for _ in 0..<100 { try turnAway(because: busy) }
    for _ in 0..<Pipeline.movesMax { try turnAway(because: .moved) }
    #expect(told.ends.isEmpty && !pipeline.isEmpty)
    try turnAway(because: .moved)
    #expect(told.ends.map(\.1) == [.failure(.notSent(.moved))])
    #expect(pipeline.isEmpty)
  }

  @Test("one that was turned away ends in its time, not sent, while others are still in flight")
  func turnedAwayLate() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    pipeline.add(command(1, deadline: 5000))
    pipeline.add(command(2, deadline: 7000))
    pipeline.add(command(3, deadline: 9000))
    pipeline.fill(&out, room: 1 << 20)
    for _ in 0..<2 { told.take(try pipeline.turnAway(because: .moved)) }
    #expect(pipeline.wakeAt == 5001)
    told.take(pipeline.expireWaiting(at: 5001, because: .timeout))
    #expect(told.text == ["1 Redis: not sent: no answer in time"])
    #expect(pipeline.wakeAt == 7002)
    told.take(pipeline.failWaiting(because: .closed))
    #expect(told.ends.map(\.0) == [1, 2] && pipeline.wakeAt == 9003)
  }

  @Test("a batch goes again only when all of it was turned away; else its parts are told")
  func turnedAwayBatch() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    let told = Told()
    pipeline.add(batch(1, of: 2))
    pipeline.add(batch(2, of: 3))
    pipeline.fill(&out, room: 1 << 20)
    for _ in 0..<2 { told.take(try pipeline.turnAway(because: .moved)) }
    told.take(try pipeline.match(.status("OK")))
    told.take(try pipeline.turnAway(because: .moved))
    #expect(told.ends.isEmpty)
    told.take(try pipeline.match(.error(RedisServerError(message: "EXECABORT"))))
    #expect(
      told.ends.map(\.1) == [
        .success(.status("OK")), .failure(.notSent(.moved)),
        .failure(.server(RedisServerError(message: "EXECABORT"))),
      ])
    #expect(pipeline.lose(sent: out.written, because: .moved, at: 0).isEmpty)
    var next = OutputBuffer()
    pipeline.fill(&next, room: 1 << 20)
    #expect(next.written == 2 * size)
  }

  @Test("a PING of the link's own ends without a word, whatever becomes of the connection")
  func ownPing() throws {
    var pipeline = Pipeline()
    var out = OutputBuffer()
    pipeline.ping(&out)
    #expect(pipeline.wakeAt == .max)
    #expect(pipeline.lose(sent: 100, because: .timeout, at: 0).isEmpty)
    #expect(pipeline.isEmpty)
  }

  @Test("the earliest deadline of the window is the least of those in it")
  func deadlines() {
    var random = JitterSource(seed: 7)
    var window = DeadlineWindow()
    var all: [UInt64] = []
    var isGrowing = true
    for step in 0..<40_000 {
      // Grows beyond its compaction and shrinks to nothing, again and again.
      if all.isEmpty { isGrowing = true }
      if all.count == 2500 { isGrowing = false }
      if all.isEmpty || random.next(below: 100) < (isGrowing ? 70 : 30) {
        let deadline = random.next(below: 1000)
        window.append(deadline)
        all.append(deadline)
      } else {
        window.removeFirst()
        all.removeFirst()
      }
      if step % 61 == 0 { #expect(window.earliest == all.min() ?? .max) }
    }
  }

  @Test("a queue gives back what it took, in order, through growth and compaction")
  func queue() {
    var random = JitterSource(seed: 3)
    var queue = Queue<Int>()
    var put = 0
    var got = 0
    for _ in 0..<200_000 {
      if random.next(below: 100) < 51 {
        queue.append(put)
        put += 1
      } else if let element = queue.popFirst() {
        #expect(element == got)
        got += 1
      }
      if queue.count != put - got { Issue.record("count") }
    }
    #expect(queue.takeAll() == Array(got..<put))
    #expect(queue.isEmpty)
  }
}

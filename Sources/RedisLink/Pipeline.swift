/// What a caller handed over: one command or several that go together, and who wants the replies.
struct Submission: Sendable {
  enum Completion: Sendable {
    case one(@Sendable (Result<RedisValue, RedisError>) -> Void)
    case all(@Sendable ([Result<RedisValue, RedisError>]) -> Void)
    /// A PING of the link's own, which counts towards no limit.
    case ping
  }

  let commands: Commands
  let deadline: UInt64
  let completion: Completion
  let count: Int
  let byteCount: Int
  /// How often servers have sent it elsewhere.
  fileprivate(set) var moves = 0

  enum Commands: Sendable {
    case one(RedisCommand)
    case several([RedisCommand])
  }

  init(commands: Commands, deadline: UInt64, completion: Completion) {
    self.commands = commands
    self.deadline = deadline
    self.completion = completion
    switch commands {
    case .one(let command):
      count = 1
      byteCount = command.wire.count
    case .several(let list):
      count = list.count
      byteCount = list.reduce(0) { $0 + $1.wire.count }
    }
  }
}

/// A submission with what became of its commands. Told by the shell, outside of any decision.
struct Completed {
  let submission: Submission
  let outcome: Outcome
  /// How many of its commands a node of a cluster has turned away.
  var turnedAway = 0

  enum Outcome {
    case one(Result<RedisValue, RedisError>)
    case several([Result<RedisValue, RedisError>])
  }

  func tell() {
    switch (submission.completion, outcome) {
    case (.one(let tell), .one(let result)): tell(result)
    case (.all(let tell), .several(let results)): tell(results)
    case (.all(let tell), .one(let result)): tell([result])
    case (.one, .several), (.ping, _): break
    }
  }
}

/// The commands of a link: those that wait to be written and those that were. Matches replies in
/// order and decides what a lost connection means for each.
///
/// Pure. Positions are bytes since the connection began: a command is *sent* once its last byte was
/// taken by the socket; the server cannot carry out one of which a byte is missing, so until then
/// it is safe to send it again, and this does. The same goes for a command that a node of a cluster
/// has turned away, though it was sent.
struct Pipeline {
  /// How often one command follows a slot that moves.
  static let movesMax = 5

  fileprivate struct Entry {
    let submission: Submission
    /// Where each command ends; of a single one that is `end`.
    let ends: [UInt64]
    let end: UInt64
    var results: [Result<RedisValue, RedisError>] = []
    var matched = 0
    var turnedAway = 0
  }

  private var waiting = Queue<Submission>()
  private var inFlight = Queue<Entry>()
  private var waitingDeadlines = DeadlineWindow()
  private var flightDeadlines = DeadlineWindow()
  /// Turned away, in order: ahead of all others on the next connection.
  private var returned: [Submission] = []
  private var returnedUntil = UInt64.max

  /// When `expire` wants to be asked.
  var wakeAt: UInt64 {
    min(waitingDeadlines.earliest, flightDeadlines.earliest, returnedUntil)
  }
  /// Whether any reply is owed.
  var isBusy: Bool { !inFlight.isEmpty }
  var isEmpty: Bool { waiting.isEmpty && inFlight.isEmpty && returned.isEmpty }

  mutating func add(_ submission: Submission) {
    waiting.append(submission)
    waitingDeadlines.append(submission.deadline)
  }

  /// Writes waiting commands into `out` while it holds fewer than `room` unsent bytes.
  mutating func fill(_ out: inout OutputBuffer, room: Int) {
    while out.unsent < room, let submission = waiting.popFirst() {
      waitingDeadlines.removeFirst()
      write(submission, to: &out)
    }
  }

  /// Writes a PING of the link's own.
  mutating func ping(_ out: inout OutputBuffer) {
    write(
      Submission(commands: .one(pingCommand), deadline: .max, completion: .ping), to: &out)
  }

  private mutating func write(_ submission: Submission, to out: inout OutputBuffer) {
    var ends: [UInt64] = []
    switch submission.commands {
    case .one(let command): out.append(command.wire)
    case .several(let commands):
      ends.reserveCapacity(commands.count)
      for command in commands {
        out.append(command.wire)
        ends.append(out.written)
      }
    }
    inFlight.append(Entry(submission: submission, ends: ends, end: out.written))
    flightDeadlines.append(submission.deadline)
  }

  /// Gives the reply to the oldest command. Returns its submission once all replies are there.
  mutating func match(_ value: RedisValue) throws(RedisFailure) -> Completed? {
    if inFlight.isEmpty {
      throw .protocolViolation("a reply to nothing that was asked: \(value.summary)")
    }
    let result: Result<RedisValue, RedisError> =
      if case .error(let error) = value { .failure(.server(error)) } else { .success(value) }
    return conclude(result, isTurnedAway: false)
  }

  /// The oldest command was turned away: it was not carried out. It is sent again, unless it has
  /// moved too often or is part of a batch of which the server has answered others: those belong
  /// together (MULTI, EXEC), and its part is told to be `.notSent`.
  mutating func turnAway(because failure: RedisFailure) throws(RedisFailure) -> Completed? {
    if inFlight.isEmpty { throw .protocolViolation("\(failure), of nothing that was asked") }
    guard let completed = conclude(.failure(.notSent(failure)), isTurnedAway: true) else {
      return nil
    }
    var submission = completed.submission
    if failure == .moved { submission.moves += 1 }
    let isWhole = completed.turnedAway == submission.count
    guard isWhole, submission.moves <= Self.movesMax else { return completed }
    returned.append(submission)
    returnedUntil = min(returnedUntil, submission.deadline)
    return nil
  }

  private mutating func conclude(
    _ result: Result<RedisValue, RedisError>, isTurnedAway: Bool
  ) -> Completed? {
    let isDone = inFlight.withFirst { entry in
      entry.matched += 1
      if isTurnedAway { entry.turnedAway += 1 }
      if case .several = entry.submission.commands { entry.results.append(result) }
      return entry.matched == entry.submission.count
    }
    guard isDone, let entry = inFlight.popFirst() else { return nil }
    flightDeadlines.removeFirst()
    if case .one = entry.submission.commands {
      return Completed(
        submission: entry.submission, outcome: .one(result), turnedAway: entry.turnedAway)
    }
    return Completed(
      submission: entry.submission, outcome: .several(entry.results), turnedAway: entry.turnedAway)
  }

  /// Whether a command that was written has waited beyond its deadline: the order of replies is
  /// lost with it, and the connection must go.
  func isOverdue(at now: UInt64) -> Bool {
    flightDeadlines.earliest <= now
  }

  /// Takes out waiting commands, and those turned away, whose time is up.
  mutating func expireWaiting(at now: UInt64, because failure: RedisFailure) -> [Completed] {
    var expired: [Completed] = []
    if returnedUntil <= now {
      for submission in takeReturned() {
        if submission.deadline <= now {
          expired.append(submission.failed(.notSent(failure)))
        } else {
          returned.append(submission)
          returnedUntil = min(returnedUntil, submission.deadline)
        }
      }
    }
    // Those with like timeouts expire from the front; only a shorter one behind a longer one costs
    // a look at all.
    while let submission = waiting.first, submission.deadline <= now {
      _ = waiting.popFirst()
      waitingDeadlines.removeFirst()
      expired.append(submission.failed(.notSent(failure)))
    }
    if waitingDeadlines.earliest > now { return expired }
    for submission in takeWaiting() {
      if submission.deadline <= now {
        expired.append(submission.failed(.notSent(failure)))
      } else {
        add(submission)
      }
    }
    return expired
  }

  /// Takes out all waiting commands, and those turned away.
  mutating func failWaiting(because failure: RedisFailure) -> [Completed] {
    (takeReturned() + takeWaiting()).map { $0.failed(.notSent(failure)) }
  }

  private mutating func takeWaiting() -> [Submission] {
    waitingDeadlines = DeadlineWindow()
    return waiting.takeAll()
  }

  private mutating func takeReturned() -> [Submission] {
    defer { returned = [] }
    returnedUntil = .max
    return returned
  }

  /// The connection is gone after `sent` bytes. Commands that were sent fail, their outcome
  /// unknown; those that were not, or were turned away, wait, in their order and ahead of the
  /// others, for the next connection.
  mutating func lose(sent: UInt64, because failure: RedisFailure, at now: UInt64) -> [Completed] {
    let entries = inFlight.takeAll()
    flightDeadlines = DeadlineWindow()
    var failed: [Completed] = []
    var again: [Submission] = []
    for entry in entries {
      if case .ping = entry.submission.completion { continue }
      let isLate = entry.submission.deadline <= now
      let why: RedisFailure = failure == .timeout && !isLate ? .abandoned : failure
      if let outcome = entry.outcome(sent: sent, because: isLate ? .timeout : why) {
        failed.append(Completed(submission: entry.submission, outcome: outcome))
      } else {
        again.append(entry.submission)
      }
    }
    for submission in takeReturned() + again + takeWaiting() {
      add(submission)
    }
    return failed
  }
}

extension Pipeline.Entry {
  /// What became of its commands, or nil if none of them was sent whole.
  fileprivate func outcome(sent: UInt64, because failure: RedisFailure) -> Completed.Outcome? {
    guard case .several = submission.commands else {
      return end <= sent ? .one(.failure(.unknown(failure))) : nil
    }
    if let first = ends.first, first > sent { return nil }
    var results = results
    for end in ends[matched...] {
      results.append(.failure(end <= sent ? .unknown(failure) : .notSent(failure)))
    }
    return .several(results)
  }
}

extension Submission {
  func failed(_ error: RedisError) -> Completed {
    if case .several(let commands) = commands {
      return Completed(
        submission: self,
        outcome: .several(Array(repeating: .failure(error), count: commands.count)))
    }
    return Completed(submission: self, outcome: .one(.failure(error)))
  }
}

extension RedisValue {
  /// A few words for an error message: whose length the server does not control.
  var summary: String {
    switch self {
    case .null: "null"
    case .status(let text): "status \(text.prefix(60))"
    case .integer(let number): "integer \(number)"
    case .bytes(let bytes): "\(bytes.count) bytes"
    case .array(let values): "an array of \(values.count)"
    case .error(let error): "error \(error.message.prefix(100))"
    }
  }
}

let pingCommand = RedisCommand("PING")

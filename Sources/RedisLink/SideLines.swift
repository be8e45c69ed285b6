/// The lines of a finder, and what it has found.
///
/// Belongs to the thread of a loop.
final class SideLines {
  let lines: [SideLine]
  fileprivate let firstTag: UInt64
  fileprivate var findings = Queue<Finding>()
  private let input: UnsafeMutableRawBufferPointer
  private let keepAliveSeconds: Int32

  /// Takes `count` tags from `firstTag` on; `wire` makes a wire for a tag. `room`: bytes a line reads at once.
  init(
    count: Int, room: Int, options: RedisConnectionOptions, firstTag: UInt64, wire: (UInt64) -> Wire
  ) {
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 16)
    self.input = input
    self.firstTag = firstTag
    keepAliveSeconds = Int32(clamping: max(1, options.pingAfter.components.seconds))
    lines = (0..<count).map { SideLine(wire: wire(firstTag + UInt64($0)), input: input) }
  }

  deinit {
    input.deallocate()
  }

  subscript(index: Int) -> SideLine { lines[index] }

  func begin(
    _ index: Int, _ words: [UInt8], bytesMax: Int, elementsMax: Int
  ) throws(RedisFailure) {
    try lines[index].begin(
      words, bytesMax: bytesMax, elementsMax: elementsMax, keepAliveSeconds: keepAliveSeconds)
  }

  func found(_ finding: Finding) { findings.append(finding) }
}

/// What every machine behind a finder is told.
protocol FinderEvent {
  static func find(avoiding address: RedisAddress?) -> Self
  static func aim(_ address: RedisAddress) -> Self
  static var giveUp: Self { get }
  static var close: Self { get }
  static var wake: Self { get }
  static func connected(_ line: Int) -> Self
  static func failed(_ line: Int, _ failure: RedisFailure) -> Self
}

/// What decides for a finder.
protocol FinderMachine {
  associatedtype Event: FinderEvent

  var wakeAt: UInt64 { get }
  /// When a line has waited long enough, or is to be asked something.
  func wakeAt(_ line: Int) -> UInt64
}

/// A finder that asks those who know the server, by lines of its own.
protocol LineFinder: ServerFinder {
  associatedtype Machine: FinderMachine

  var machine: Machine { get }
  var lines: SideLines { get }

  /// Has the machine take the event, and does what it says.
  func step(_ event: Machine.Event, at now: UInt64)
  /// Reads what a line has, and tells the machine.
  func receive(_ index: Int, at now: UInt64)
}

extension LineFinder {
  var wakeAt: UInt64 { machine.wakeAt }
  var hasInput: Bool { lines.lines.contains { $0.wire.hasInput } }

  func find(avoiding address: RedisAddress?, at now: UInt64) {
    step(.find(avoiding: address), at: now)
  }
  func aim(at address: RedisAddress, now: UInt64) { step(.aim(address), at: now) }
  func giveUp(at now: UInt64) { step(.giveUp, at: now) }
  func close(at now: UInt64) { step(.close, at: now) }

  func nextFinding() -> Finding? { lines.findings.popFirst() }

  func wake(at now: UInt64) {
    for index in lines.lines.indices {
      let wire = lines[index].wire
      let isDue = machine.wakeAt(index) <= now
      // What waits to be read may be what is missed.
      if wire.isOpen, isDue || wire.hasInput { receive(index, at: now) }
      if isDue, wire.isShaking { step(.failed(index, stalledHandshake), at: now) }
    }
    step(.wake, at: now)
  }

  func handle(_ tag: UInt64, at now: UInt64) {
    let index = Int(tag - lines.firstTag)
    let line = lines[index]
    if line.wire.isOpen {
      receive(index, at: now)
      attempt(index, at: now) { () throws(RedisFailure) in try line.flush() }
    } else {
      attempt(index, at: now) { () throws(RedisFailure) in
        if try line.wire.advance() { step(.connected(index), at: now) }
      }
    }
  }

  func resolved(_ tag: UInt64, _ resolution: Resolution, at now: UInt64) {
    let index = Int(tag - lines.firstTag)
    attempt(index, at: now) { () throws(RedisFailure) in
      try lines[index].wire.resolved(resolution)
    }
  }

  /// What fails is the line's failure.
  func attempt(_ index: Int, at now: UInt64, _ body: () throws(RedisFailure) -> Void) {
    do throws(RedisFailure) {
      try body()
    } catch {
      step(.failed(index, error), at: now)
    }
  }

  func open(_ index: Int, _ address: RedisAddress, at now: UInt64) {
    attempt(index, at: now) { () throws(RedisFailure) in try lines[index].wire.open(address) }
  }
}

import CSCP
import CSystem
import DriverProtocol
import Glibc
import Logging
import Synchronization

/// The event thread: takes what the controller layer has, in batches, and sorts it. Events are
/// encoded straight into the message for the vendor app; what concerns commands, connections and
/// ownership goes where it belongs, once a batch.
///
/// When the outbox has no room it takes nothing: the layer's rings fill, and the controllers are held
/// back by their windows (Docs/adr/0009-event-path.md).
final class EventTaker: @unchecked Sendable {
  // Unchecked: what is not Sendable is `thread`, of whoever starts and stops it; the rest of the
  // mutable state lives on the thread's stack.

  static let batchMax = 1024
  /// After a batch smaller than this the thread lets the next one gather for `lingerUs`. At once is for
  /// the first event after a lull; in a stream of single events each would otherwise wake the chain of
  /// threads to the vendor app and back, which costs ten times the event itself.
  private static let lingerBelow = 256
  private static let lingerUs: UInt32 = 2_000
  /// The longest time without a look at the deadlines.
  private static let tickMs: Int32 = 1000

  struct Parts: Sendable {
    var layer: ControllerLayer
    var outbox: Outbox
    var commands: CommandPipeline
    var ownership: any NodeOwnership
    var tail: TailHub
    /// Sessions that began and ended, in order, once a batch; also called without any so that time
    /// can pass. Returns when it wants to be called next. On the event thread.
    var sessions: @Sendable ([SessionChange]) -> ContinuousClock.Instant?
    var log: Logger
  }

  private let parts: Parts
  private let stopping = Atomic<Bool>(false)
  private let rounds = Atomic<UInt64>(0)
  private var thread: csys_thread?

  init(_ parts: Parts) {
    self.parts = parts
  }

  /// Grows at least once a second while the thread is alive and not stuck.
  var progress: UInt64 { self.rounds.load(ordering: .relaxed) }

  func start() {
    var thread = csys_thread()
    let result = csys_thread_start(
      "events",
      { context in
        Unmanaged<EventTaker>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the event thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  /// Ends the thread and waits for its end. What was not taken is the controllers' to keep.
  func stop() {
    guard let thread = self.thread else { return }
    self.stopping.store(true, ordering: .releasing)
    self.parts.outbox.wakeTaker()
    self.parts.layer.wake()
    csys_thread_join(thread)
    self.thread = nil
  }

  private func run() {
    let messages = UnsafeMutablePointer<cscp_message>.allocate(capacity: EventTaker.batchMax)
    defer { messages.deallocate() }
    var batch = TakenBatch()
    var nextAt = self.tick()
    while !self.stopping.load(ordering: .acquiring) {
      self.rounds.add(1, ordering: .relaxed)
      let timeout = EventTaker.timeout(until: nextAt)
      if !self.parts.outbox.hasRoom {
        self.parts.outbox.waitForRoom(milliseconds: timeout)
      } else {
        let count = self.parts.layer.take(
          into: messages, count: EventTaker.batchMax, timeoutMs: timeout)
        if count < 0 {
          self.parts.log.critical("the controller layer failed: \(errorText(Int32(-count)))")
          return
        }
        if count > 0 { self.distribute(UnsafePointer(messages), count, &batch) }
        if (1..<EventTaker.lingerBelow).contains(count) { usleep(EventTaker.lingerUs) }
      }
      nextAt = self.tick()
    }
  }

  /// Lets time pass for what has deadlines. Returns the next one.
  private func tick() -> ContinuousClock.Instant? {
    let commandsAt = self.parts.commands.tick()
    let sessionsAt = self.parts.sessions([])
    let ownershipAt = self.parts.ownership.tick()
    return [commandsAt, sessionsAt, ownershipAt].lazy.compactMap(\.self).min()
  }

  private static func timeout(until next: ContinuousClock.Instant?) -> Int32 {
    guard let next else { return EventTaker.tickMs }
    return min(EventTaker.tickMs, (next - .now).millisecondsRoundedUp)
  }

  private func distribute(
    _ messages: UnsafePointer<cscp_message>, _ count: Int, _ batch: inout TakenBatch
  ) {
    for index in 0..<count { batch.add(messages + index) }
    if self.parts.tail.isWanted { self.parts.tail.offer(messages, count) }
    for notice in batch.notices { self.report(notice) }
    if !batch.epochsSeen.isEmpty { self.parts.ownership.seen(batch.epochsSeen) }
    if !batch.sessions.isEmpty {
      _ = self.parts.sessions(batch.sessions)
    }
    if !batch.statuses.isEmpty {
      self.parts.outbox.append { number in
        var message = Clusterdriver_V1_DriverMessage()
        message.number = number
        message.statuses.statuses = batch.statuses
        return message.wireBytes()
      }
    }
    if !batch.advisories.isEmpty {
      let events = batch.advisories.count
      self.parts.outbox.sendUnnumbered(batch.advisories.finish(number: 0), events: events)
    }
    self.parts.outbox.sessions(batch.sessions.filter(\.isConnected))
    batch.appendEvents(to: self.parts.outbox)
    self.parts.outbox.sessions(batch.sessions.filter { !$0.isConnected })
    self.parts.commands.apply(batch.commands)
    batch.clear()
  }

  private func report(_ notice: TakenBatch.Notice) {
    self.parts.log.warning(
      "a controller's connection was refused or ended: \(notice.reason)",
      metadata: [
        "serial": "\(notice.serial)", "peer": "\(notice.peer)",
        "suppressed": "\(notice.suppressed)",
      ])
  }
}

/// A session that began or ended.
struct SessionChange: Sendable, Equatable {
  var serial: UInt64
  var connection: UInt64
  var isConnected: Bool
}

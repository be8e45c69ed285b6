import CSCP
import DriverProtocol

/// What one call of `cscp_get_messages` brought, sorted by where it goes. Used again for the next.
struct TakenBatch: ~Copyable {
  struct Notice {
    var serial: UInt64
    var reason: String
    var peer: String
    var suppressed: UInt32
  }

  private static let usual = 64

  var events = EventBatchEncoder()
  var advisories = EventBatchEncoder(capacity: 4096)
  var statuses: [Clusterdriver_V1_ControllerStatus] = []
  var sessions: [SessionChange] = []
  var commands: [CommandMachine.Event] = []
  var notices: [Notice] = []
  /// Of controllers that have seen a higher epoch than their owner's.
  var epochsSeen: [SoleOwnership.Report] = []
  /// When the first of the events was read, ms UTC by the host's clock.
  private var readAtMs: UInt64 = 0
  /// One for each run of one connection's events.
  private var cursors: [AckCursor] = []

  mutating func add(_ message: UnsafePointer<cscp_message>) {
    switch message.pointee.kind {
    case CSCP_MSG_EVENT.rawValue:
      if message.pointee.flags & UInt8(CSCP_EVENT_ADVISORY) != 0 {
        self.advisories.append(message)
      } else {
        self.events.append(message)
        self.reach(message, message.pointee.seq)
      }
    case CSCP_MSG_LOG_GAP.rawValue:
      self.events.append(message)
      self.reach(message, message.pointee.through_seq)
    case CSCP_MSG_LOG_RESET.rawValue:
      self.events.append(message)
      self.reach(message, message.pointee.seq)
    case CSCP_MSG_RESULT.rawValue, CSCP_MSG_COMMAND.rawValue:
      if let event = CommandMachine.Event(message) { self.commands.append(event) }
    case CSCP_MSG_CONNECTED.rawValue, CSCP_MSG_DISCONNECTED.rawValue:
      self.addSession(message)
    case CSCP_MSG_EPOCH_BEHIND.rawValue:
      self.epochsSeen.append(
        SoleOwnership.Report(
          serial: message.pointee.serial, epoch: message.pointee.epoch_seen))
    case CSCP_MSG_NOTICE.rawValue:
      self.notices.append(
        Notice(
          serial: message.pointee.serial, reason: message.reasonName, peer: message.bodyText,
          suppressed: message.pointee.suppressed))
    default:
      break
    }
  }

  /// The batch reaches record `seq` of that connection's log.
  @inline(__always)
  private mutating func reach(_ message: UnsafePointer<cscp_message>, _ seq: UInt64) {
    let last = self.cursors.count - 1
    if last < 0 { self.readAtMs = message.pointee.at_ms }
    if last >= 0 && self.cursors[last].connection == message.pointee.connection
      && self.cursors[last].logEpoch == message.pointee.log_epoch
    {
      self.cursors[last].seq = seq
      self.cursors[last].events += 1
    } else {
      self.cursors.append(
        AckCursor(
          connection: message.pointee.connection, serial: message.pointee.serial,
          ownerEpoch: message.pointee.owner_epoch, logEpoch: message.pointee.log_epoch, seq: seq))
    }
  }

  private mutating func addSession(_ message: UnsafePointer<cscp_message>) {
    let isConnected = message.pointee.kind == CSCP_MSG_CONNECTED.rawValue
    let serial = message.pointee.serial
    let connection = message.pointee.connection
    self.statuses.append(Clusterdriver_V1_ControllerStatus(message))
    self.sessions.append(
      SessionChange(
        serial: serial, connection: connection, isConnected: isConnected))
    self.commands.append(
      isConnected
        ? .connected(serial: serial, connection: connection)
        : .disconnected(serial: serial, connection: connection))
  }

  mutating func appendEvents(to outbox: Outbox) {
    guard !self.events.isEmpty else { return }
    let count = self.events.count
    // An exact copy: the message lives until it is acknowledged, and the working array goes on.
    let cursors = self.cursors.withUnsafeBufferPointer { Array($0) }
    let now = Moment.now()
    let readAt = min(now.uptime, now.uptime(atUTC: self.readAtMs))
    outbox.append(cursors: cursors, events: count, readAt: readAt) {
      self.events.finish(number: $0)
    }
    self.cursors.removeAll(keepingCapacity: true)
  }

  mutating func clear() {
    // Room for a quiet day is kept; what a storm of reconnects needed is given back.
    self.statuses.removeAll(keepingCapacity: self.statuses.count < TakenBatch.usual)
    self.sessions.removeAll(keepingCapacity: self.sessions.count < TakenBatch.usual)
    self.commands.removeAll(keepingCapacity: self.commands.count < TakenBatch.usual)
    self.notices.removeAll()
    self.epochsSeen.removeAll()
  }
}

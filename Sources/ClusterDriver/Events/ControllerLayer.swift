import CSCP
import CSystem
import Election
import Glibc

/// The C layer that holds the controllers' connections. Every function may be called from any thread,
/// except that one thread at a time takes messages.
final class ControllerLayer: @unchecked Sendable {
  // Unchecked: cscp.h promises that its functions may be called from any thread, and the handle
  // never changes between init and deinit.
  private let handle: OpaquePointer
  /// Lives as long as the handle, which calls it.
  private let store: DescriptorStore?

  struct Failure: Error, CustomStringConvertible {
    /// errno, positive.
    var code: Int32
    var description: String
  }

  /// Binds and starts the I/O threads; no controller is welcomed before `own`.
  init(_ settings: LayerSettings, parking: Parking? = nil) throws(Failure) {
    var handle: OpaquePointer?
    let result = settings.bind.withCString { (bind) -> (code: Int32, why: String) in
      withUnsafeTemporaryAllocation(of: cscp_config.self, capacity: 1) { room in
        let config = room.baseAddress!
        return settings.trusted.map { cscp_network($0) }.withUnsafeBufferPointer { trusted in
          settings.set(config, bind: bind, trusted: trusted)
          return ControllerLayer.open(config, parking, &handle)
        }
      }
    }
    guard result.code == 0, let handle else {
      throw Failure(
        code: result.code,
        description: "controllers cannot be served on port \(settings.port): \(result.why)")
    }
    self.handle = handle
    self.store = parking?.store
  }

  private static func open(
    _ config: UnsafeMutablePointer<cscp_config>, _ parking: Parking?, _ handle: inout OpaquePointer?
  ) -> (code: Int32, why: String) {
    func open() -> (code: Int32, why: String) {
      var why: UnsafePointer<CChar>?
      guard cscp_config_check(config, &why) == 0 else {
        return (EINVAL, why.map { String(cString: $0) } ?? "invalid configuration")
      }
      let code = -cscp_new(config, &handle)
      return (code, code == 0 ? "" : errorText(code))
    }
    guard let parking else { return open() }
    return withUnsafePointer(to: parking.store.keeper) { keeper in
      parking.withInherited { inherited in
        config.pointee.keeper = keeper
        config.pointee.inherited = inherited.baseAddress
        config.pointee.n_inherited = UInt32(inherited.count)
        return open()
      }
    }
  }

  deinit {
    cscp_free(self.handle)
  }

  /// Do the connections outlive this process?
  var isParked: Bool { self.store != nil }

  /// What became of what the former process left.
  var resumption: cscp_resumption {
    var resumption = cscp_resumption()
    cscp_get_resumption(self.handle, &resumption)
    return resumption
  }

  var port: UInt16 { cscp_port(self.handle) }

  /// Up to `count` messages; see `cscp_get_messages`. Of one thread.
  func take(
    into messages: UnsafeMutablePointer<cscp_message>, count: Int, timeoutMs: Int32
  ) -> Int {
    Int(cscp_get_messages(self.handle, messages, count, timeoutMs))
  }

  /// Lets a waiting `take` return.
  func wake() {
    cscp_wake(self.handle)
  }

  /// Tells the controllers what the vendor app has on disk.
  func acknowledge(_ cursors: [AckCursor]) {
    guard !cursors.isEmpty else { return }
    withUnsafeTemporaryAllocation(of: cscp_ack.self, capacity: min(cursors.count, 512)) { room in
      var count = 0
      for cursor in cursors {
        room[count] = cscp_ack(
          connection: cursor.connection, log_epoch: cursor.logEpoch, seq: cursor.seq)
        count += 1
        if count == room.count {
          cscp_event_ack(self.handle, room.baseAddress!, count)
          count = 0
        }
      }
      if count > 0 { cscp_event_ack(self.handle, room.baseAddress!, count) }
    }
  }

  /// Queues a command for its controller. Nil: exactly one word of what became of it follows.
  func post(_ command: ControllerCommand, body: [UInt8]) -> CommandMachine.PostFailure? {
    var raw = cscp_command()
    withUnsafeMutableBytes(of: &raw.id) { $0.copyBytes(from: command.id.bytes) }
    raw.serial = command.serial
    raw.not_after_ms = command.notAfterMs
    raw.code = command.code
    raw.lane = command.lane
    raw.n_body = UInt16(clamping: body.count)
    let result = body.withUnsafeBufferPointer { bytes in
      raw.body = bytes.baseAddress
      return cscp_config_command(self.handle, &raw)
    }
    switch -result {
    case 0: return nil
    case ENOTCONN: return .notConnected
    case ENOBUFS, ENOMEM: return .queueFull
    default:
      return .invalid("the controller layer refused it: \(errorText(-result))")
    }
  }

  /// Ends a session, if it is still there.
  @discardableResult
  func disconnect(_ connection: UInt64, reason: cscp_reason, spreadMs: UInt32) -> Bool {
    cscp_disconnect(self.handle, connection, reason, spreadMs) == 0
  }

  /// Acts for these serials from now on, without end.
  func own(_ ownership: SoleOwnership) {
    self.own(
      ownership.ranges.map { cscp_range(first: $0.first, last: $0.last, epoch: $0.epoch) })
    cscp_set_valid_until(self.handle, ownership.validUntil)
  }

  /// Acts for these serials from now on, until what `actUntil` says.
  func own(_ ranges: [OwnedRange]) {
    self.own(
      ranges.map {
        cscp_range(
          first: $0.first.rawValue, last: $0.last.rawValue, epoch: $0.epoch.rawValue)
      })
  }

  private func own(_ ranges: [cscp_range]) {
    let result = cscp_set_ranges(self.handle, ranges, ranges.count)
    precondition(result == 0 || result == -ENOMEM, "ranges of ours are sorted and apart")
    // Without memory for the new ranges it must not go on with the old ones.
    if result != 0 { cscp_set_valid_until(self.handle, 0) }
  }

  /// The controllers of these serials are served there: they are relayed. Returns why not; then the former
  /// routes stay, and who is relayed to the wrong node is not served there.
  func route(_ routes: [Route]) -> String? {
    let raw = routes.map {
      cscp_route(
        first: $0.range.first.rawValue, last: $0.range.last.rawValue,
        epoch: $0.range.epoch.rawValue, address: $0.address.storage, alive: $0.isAlive,
        apart: $0.isApart)
    }
    let result = cscp_set_routes(self.handle, raw, raw.count)
    return result == 0 ? nil : errorText(-result)
  }

  /// Until when the ranges may be acted for; nil: not at all.
  func actUntil(_ until: Instant?) {
    cscp_set_valid_until(self.handle, UInt64(max(until?.nanoseconds ?? 0, 0)))
  }

  func stopAccepting(goAway: Bool, spreadMs: UInt32) {
    cscp_stop_accepting(self.handle, goAway, spreadMs)
  }

  func counters() -> cscp_counters {
    var counters = cscp_counters()
    cscp_get_counters(self.handle, &counters)
    return counters
  }

  /// Up to `limit` sessions with a serial of at least `serial`; nil when a thread did not answer.
  func sessions(from serial: UInt64, limit: Int, timeoutMs: Int32) -> [cscp_session_info]? {
    var count = 0
    let infos = [cscp_session_info](unsafeUninitializedCapacity: limit) { room, initialized in
      room.initialize(repeating: cscp_session_info())
      count = Int(
        cscp_list_sessions(self.handle, serial, room.baseAddress!, limit, timeoutMs))
      initialized = limit
    }
    return count < 0 ? nil : Array(infos.prefix(count))
  }
}

/// What the controller layer is told before it starts.
struct LayerSettings: Sendable {
  var bind: String
  var port: UInt16
  /// Nil: one a core.
  var ioThreads: Int?
  var connectionsMax = 100_000
  var window = EventWindow()
  var t1: Duration = .seconds(15)
  var t2: Duration = .milliseconds(500)
  var t3: Duration = .seconds(20)
  /// From where a connection may begin with a PROXY header.
  var trusted: [Network] = []
  /// How long a HELLO waits for its serial to be owned here, or by a node it can be relayed to.
  var hold: Duration = .zero

  fileprivate func set(
    _ config: UnsafeMutablePointer<cscp_config>, bind: UnsafePointer<CChar>,
    trusted: UnsafeBufferPointer<cscp_network>
  ) {
    cscp_config_init(config)
    config.pointee.trusted = trusted.baseAddress
    config.pointee.n_trusted = UInt32(trusted.count)
    config.pointee.outside_hold_ms = UInt32(self.hold.millisecondsRoundedUp)
    config.pointee.bind_address = bind
    config.pointee.port = self.port
    if let ioThreads = self.ioThreads { config.pointee.n_io_threads = UInt32(ioThreads) }
    config.pointee.connections_max = UInt32(self.connectionsMax)
    config.pointee.window_k = self.window.k
    config.pointee.window_w = self.window.w
    config.pointee.t1_ms = UInt32(self.t1.millisecondsRoundedUp)
    config.pointee.t2_ms = UInt32(self.t2.millisecondsRoundedUp)
    config.pointee.t3_ms = UInt32(self.t3.millisecondsRoundedUp)
  }
}

extension cscp_network {
  fileprivate init(_ network: Network) {
    self.init()
    withUnsafeMutableBytes(of: &self.address) { $0.copyBytes(from: network.address) }
    self.prefix_bits = network.prefixBits
  }
}

/// What an errno value means, in the C library's words.
func errorText(_ code: Int32) -> String {
  var text = [CChar](repeating: 0, count: 128)
  guard strerror_r(code, &text, text.count) == 0 else { return "error \(code)" }
  return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

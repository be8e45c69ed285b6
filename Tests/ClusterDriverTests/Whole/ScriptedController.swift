import CSCP
import CSystem
import Glibc
import Synchronization

/// A controller for tests: keeps a log, sends it as its window allows, and answers commands. A thread
/// of its own, which ends with this object; what it is told to do and what it has seen goes through a
/// lock.
final class ScriptedController: Sendable {
  struct Seen: Sendable {
    var welcomes = 0
    var epoch: UInt64 = 0
    var resumeFrom: UInt64 = 0
    var sent: UInt64 = 0
    /// Cumulative, of the log.
    var acked: UInt64 = 0
    /// Ids of the commands carried out, each time anew.
    var carriedOut: [[UInt8]] = []
    var commands = 0
    var isConnected = false
    var goAways = 0
  }

  struct Orders: Sendable {
    /// Records the log holds.
    var last: UInt64 = 0
    var epochSeen: UInt64 = 0
    /// Does not answer commands.
    var isMute = false
    var disconnects = false
    var reconnects = true
    var ends = false
  }

  private let work: ScriptedWork
  private let thread: csys_thread

  init(serial: UInt64, port: UInt16, orders: Orders = Orders()) {
    self.work = ScriptedWork(serial: serial, port: port, orders: orders)
    // The thread holds the work, never this object: whose deinit is what ends it.
    var thread = csys_thread()
    csys_thread_start(
      "controller",
      { Unmanaged<ScriptedWork>.fromOpaque($0!).takeRetainedValue().run() },
      Unmanaged.passRetained(self.work).toOpaque(), &thread)
    self.thread = thread
  }

  deinit {
    self.order { $0.ends = true }
    csys_thread_join(self.thread)
  }

  var serial: UInt64 { self.work.serial }
  var now: Seen { self.work.now }

  func order(_ change: (inout Orders) -> Void) { self.work.order(change) }
}

/// What the thread of a ``ScriptedController`` does.
private final class ScriptedWork: @unchecked Sendable {
  // Unchecked: descriptor and buffers are the thread's alone.
  typealias Seen = ScriptedController.Seen
  typealias Orders = ScriptedController.Orders

  let serial: UInt64
  private let port: UInt16
  private let seen = Mutex(Seen())
  private let orders: Mutex<Orders>
  private let bell = csys_bell_new()
  private var results: [[UInt8]: Bool] = [:]
  private var fd: Int32 = -1
  private var decoder = cscp_decoder()
  private var input: [UInt8] = []
  private var k: UInt64 = 0

  init(serial: UInt64, port: UInt16, orders: Orders) {
    self.serial = serial
    self.port = port
    self.orders = Mutex(orders)
  }

  deinit { csys_fd_close(self.bell) }

  var now: Seen { self.seen.withLock { $0 } }

  func order(_ change: (inout Orders) -> Void) {
    self.orders.withLock { change(&$0) }
    csys_bell_ring(self.bell)
  }

  // MARK: The thread

  func run() {
    while !self.orders.withLock({ $0.ends }) {
      if self.fd < 0 {
        guard self.orders.withLock({ $0.reconnects }), self.connect() else {
          usleep(5_000)
          continue
        }
      }
      self.step()
      if self.orders.withLock({ orders in
        defer { orders.disconnects = false }
        return orders.disconnects
      }) {
        self.disconnect()
      }
    }
    self.disconnect()
  }

  private func connect() -> Bool {
    var address = csys_address()
    csys_address_parse("127.0.0.1", self.port, &address)
    self.fd = csys_socket_connect(&address)
    guard self.fd >= 0 else { return false }
    var poll = pollfd(fd: self.fd, events: Int16(POLLOUT), revents: 0)
    Glibc.poll(&poll, 1, 1000)
    guard csys_socket_error(self.fd) == 0 else {
      self.fd = csys_fd_close(self.fd)
      return false
    }
    self.decoder = cscp_decoder()
    self.input = []
    self.k = 0
    self.seen.withLock { $0.isConnected = true }
    self.hello()
    return true
  }

  private func disconnect() {
    self.fd = csys_fd_close(self.fd)
    self.seen.withLock { $0.isConnected = false }
  }

  private func step() {
    var polls = [
      pollfd(fd: self.fd, events: Int16(POLLIN), revents: 0),
      pollfd(fd: self.bell, events: Int16(POLLIN), revents: 0),
    ]
    Glibc.poll(&polls, 2, 1000)
    csys_bell_clear(self.bell)
    var room = [UInt8](repeating: 0, count: 65_536)
    let count = csys_socket_receive(self.fd, &room, room.count)
    if count == 0 || count < 0 && count != -Int(EAGAIN) { return self.disconnect() }
    if count > 0 { self.input += room[..<count] }
    self.decode()
    if self.fd >= 0 { self.sendEvents() }
  }

  private func decode() {
    while self.fd >= 0 {
      var frame = cscp_frame(type: 0, n_payload: 0, payload: UnsafePointer(bitPattern: 1)!)
      var consumed = 0
      let input = self.input
      let result = input.withUnsafeBufferPointer { bytes -> Int32 in
        guard let start = bytes.baseAddress else { return 0 }
        let result = cscp_decode(&self.decoder, start, bytes.count, &frame, &consumed)
        if result == 1 { self.take(frame) }
        return result
      }
      self.input.removeFirst(consumed)
      if result != 1 { return }
    }
  }

  private func take(_ frame: cscp_frame) {
    let n = Int(frame.n_payload)
    switch cscp_type(rawValue: UInt32(frame.type)) {
    case CSCP_WELCOME:
      var welcome = cscp_welcome()
      guard cscp_parse_welcome(frame.payload, n, &welcome) == 0 else { return }
      let epochSeen = self.orders.withLock { $0.epochSeen }
      guard welcome.owner_epoch >= epochSeen else {
        return self.write { cscp_write_u64($0, UInt8(CSCP_STALE.rawValue), epochSeen) }
      }
      self.orders.withLock { $0.epochSeen = welcome.owner_epoch }
      self.k = UInt64(welcome.k)
      self.seen.withLock { seen in
        seen.welcomes += 1
        seen.epoch = welcome.owner_epoch
        seen.resumeFrom = welcome.resume_from
        seen.sent = welcome.resume_from - 1
        seen.acked = max(seen.acked, welcome.resume_from - 1)
      }
    case CSCP_EVENT_ACK:
      var ack = cscp_event_ack_frame()
      guard cscp_parse_event_ack(frame.payload, n, &ack) == 0 else { return }
      self.seen.withLock { $0.acked = max($0.acked, ack.seq) }
    case CSCP_COMMAND:
      self.carryOut(frame)
    case CSCP_PING:
      var token: UInt64 = 0
      cscp_parse_u64(frame.payload, n, &token)
      self.write { cscp_write_u64($0, UInt8(CSCP_PONG.rawValue), token) }
    case CSCP_GOAWAY:
      self.seen.withLock { $0.goAways += 1 }
      self.orders.withLock { $0.reconnects = false }
      self.disconnect()
    case CSCP_BUSY, CSCP_REJECT, CSCP_SUPERSEDED:
      self.disconnect()
    default:
      break
    }
  }

  private func carryOut(_ frame: cscp_frame) {
    withUnsafeTemporaryAllocation(of: cscp_command_frame.self, capacity: 1) { room in
      let command = room.baseAddress!
      guard cscp_parse_command(frame.payload, Int(frame.n_payload), command) == 0 else { return }
      let id = withUnsafeBytes(of: command.pointee.id) { [UInt8]($0) }
      let isRepeated = self.results[id] != nil
      self.results[id] = true
      self.seen.withLock { seen in
        seen.commands += 1
        if !isRepeated { seen.carriedOut.append(id) }
      }
      if self.orders.withLock({ $0.isMute }) { return }
      let body: [UInt8] = [UInt8(truncatingIfNeeded: command.pointee.code)]
      body.withUnsafeBufferPointer { bytes in
        var result = cscp_result(
          id: command.pointee.id, status: UInt8(CSCP_RESULT_DONE.rawValue),
          flags: isRepeated ? UInt8(CSCP_RESULT_REPEATED) : 0, reason: 0, index: 0, n_body: 1,
          body: bytes.baseAddress!)
        self.write { cscp_write_result($0, &result) }
      }
    }
  }

  private func hello() {
    let orders = self.orders.withLock { $0 }
    let acked = self.now.acked
    let name = Array("scripted".utf8CString)
    name.withUnsafeBufferPointer { name in
      withUnsafeTemporaryAllocation(of: cscp_hello.self, capacity: 1) { room in
        let hello = room.baseAddress!
        memset(hello, 0, MemoryLayout<cscp_hello>.size)
        hello.pointee.serial = self.serial
        hello.pointee.version_min = 1
        hello.pointee.version_max = 1
        hello.pointee.log_epoch = 1
        hello.pointee.capacity = 100_000
        hello.pointee.oldest_seq = acked + 1
        hello.pointee.last_seq = max(orders.last, acked)
        hello.pointee.acked_seq = acked
        hello.pointee.owner_epoch_seen = orders.epochSeen
        hello.pointee.n_model = 8
        hello.pointee.model = name.baseAddress!
        hello.pointee.n_firmware = 8
        hello.pointee.firmware = name.baseAddress!
        self.write { cscp_write_hello($0, hello) }
      }
    }
  }

  private func sendEvents() {
    let last = self.orders.withLock { $0.last }
    while self.fd >= 0, self.k > 0 {
      let seen = self.now
      guard seen.sent < last, seen.sent - seen.acked < self.k else { return }
      let body: [UInt8] = [1, 2, 3]
      body.withUnsafeBufferPointer { bytes in
        var event = cscp_event(
          log_epoch: 1, flags: 0, family: 1, code: 1, seq: seen.sent + 1,
          occurred_at_ms: 1_700_000_000_000, source_type: 1, source_number: 1, n_body: 3,
          body: bytes.baseAddress!)
        self.write { cscp_write_event($0, &event) }
      }
      self.seen.withLock { $0.sent += 1 }
    }
  }

  private func write(_ encode: (UnsafeMutablePointer<UInt8>) -> Int) {
    var frame = [UInt8](repeating: 0, count: Int(CSCP_FRAME_MAX))
    let count = encode(&frame)
    var written = 0
    while written < count {
      let result = frame[written...].withUnsafeBytes {
        csys_socket_send(self.fd, $0.baseAddress!, count - written)
      }
      if result == -Int(EAGAIN) {
        var poll = pollfd(fd: self.fd, events: Int16(POLLOUT), revents: 0)
        Glibc.poll(&poll, 1, 1000)
      } else if result < 0 {
        return self.disconnect()
      } else {
        written += result
      }
    }
  }
}

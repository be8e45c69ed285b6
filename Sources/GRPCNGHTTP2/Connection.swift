internal import CHTTP2
internal import GRPCCore
internal import Glibc

/// Whoever made a connection and decides about it.
protocol ConnectionOwner: AnyObject {
  /// The peer's SETTINGS have come for the first time.
  func connectionIsReady(_ connection: Connection)
  /// Server: a client opened a stream. - Returns: what handles it; nil when it has been answered.
  func accept(
    _ stream: UnsafeMutablePointer<CH2Stream>, _ headers: ReceivedHeaders, tooLarge: Bool,
    on connection: Connection
  ) -> StreamCore?
  /// The peer takes no new streams.
  func connectionGotGoaway(_ connection: Connection, code: UInt32, debug: String)
  /// A stream is over: there may be room for another.
  func connectionClosedStream(_ connection: Connection)
  /// The connection is gone; all its streams have been told.
  func connectionIsClosed(_ connection: Connection, reason: String, failure: Bool)
  /// Nothing that is sent to the peer arrives: it is going to be closed.
  func connectionIsUnanswered(_ connection: Connection)
}

extension ConnectionOwner {
  func connectionIsUnanswered(_ connection: Connection) {}
}

/// One HTTP/2 connection of either role. Belongs to the loop's thread.
///
/// Streams are named to the C side by integers: the index of their slot, plus one.
final class Connection: LoopSource {
  struct Peers: Sendable {
    var remote: String
    var local: String
  }

  let isServer: Bool
  let peer: String
  let local: String
  let raw: OpaquePointer
  let load = HandlerLoad()
  private(set) var openStreams = 0
  private(set) var isReady = false
  private(set) var isClosed = false
  /// No new streams: a GOAWAY came or went.
  var isDraining = false

  private let loop: EventLoop
  private weak var owner: (any ConnectionOwner)?
  private let fd: Int32
  private var token: UInt64 = 0
  private var interest: UInt32 = 0
  private var isDirty = false
  /// Why it is being terminated.
  private var ending: (reason: String, failure: Bool)?
  /// Why it takes no new streams, if that was our decision; and whether none can be under way.
  private var drainReason: String?
  private var hasDrained = false
  private var drainBegan: UInt64 = 0
  private var slots: [StreamCore?] = []
  private var freeSlots: [Int] = []
  private var touched: [StreamCore] = []
  private var health: ConnectionHealth

  /// Takes `fd`, also when it fails.
  init(
    loop: EventLoop, owner: any ConnectionOwner, fd: Int32, isServer: Bool, peer: String,
    local: String, limits: CH2Limits, health: ConnectionHealth
  ) throws {
    self.loop = loop
    self.owner = owner
    self.fd = fd
    self.isServer = isServer
    self.peer = peer
    self.local = local
    self.health = health

    var link: UnsafeMutablePointer<CH2Link>?
    var raw: OpaquePointer?
    var limits = limits
    var result = ch2_link_new_plain(&link, fd)
    if result == 0 { result = ch2_connection_new(&raw, link!, isServer, &limits) }
    guard result == 0, let raw else {
      throw RPCError(code: .unavailable, message: "No HTTP/2 session: \(Errno(result)).")
    }
    self.raw = raw
    self.interest = ch2_connection_interest(raw)
  }

  /// Begins to read. - Returns: false when the system refuses; close it then.
  func start() -> Bool {
    guard let token = self.loop.add(self, fd: self.fd, events: self.interest) else { return false }
    self.token = token
    self.setDirty()
    return true
  }

  // MARK: Streams

  /// Whether the peer lets us open another stream.
  var hasRoom: Bool {
    self.isReady && !self.isDraining && !self.isClosed
      && self.openStreams < Int(clamping: ch2_connection_peer_max_streams(self.raw))
  }

  var peerMaxHeaderList: Int {
    Int(clamping: ch2_connection_peer_max_header_list(self.raw))
  }

  /// Client: opens a stream for what `core` wants to send.
  func open(_ core: StreamCore) {
    let work = core.takeWork()
    guard let head = work.head else { return }
    var stream: UnsafeMutablePointer<CH2Stream>?
    let result = head.bytes.withUnsafeBufferPointer {
      ch2_connection_request(self.raw, $0.baseAddress!, $0.count, &stream)
    }
    guard result == 0, let stream else {
      var body = work.body
      ch2_chain_clear(&body)
      self.loop.resumeLater(
        core.fail(RPCError(code: .unavailable, message: "The connection takes no more streams.")))
      // Stream numbers are used up, or memory is: this connection can do no more.
      self.isDraining = true
      self.owner?.connectionGotGoaway(self, code: HTTP2ErrorCode.noError, debug: "used up")
      return
    }
    self.attach(core, to: stream)
    self.apply(work, to: stream)
  }

  /// Lets `core` have what happens on `stream`.
  func attach(_ core: StreamCore, to stream: UnsafeMutablePointer<CH2Stream>) {
    let slot: Int
    if let free = self.freeSlots.popLast() {
      slot = free
      self.slots[slot] = core
    } else {
      slot = self.slots.count
      self.slots.append(core)
    }
    stream.pointee.token = UInt64(slot + 1)
    core.connection = self
    core.stream = stream
    self.openStreams += 1
  }

  /// Server: answers a request that has no handler.
  func answer(_ stream: UnsafeMutablePointer<CH2Stream>, with block: HeaderBlock) {
    let result = block.bytes.withUnsafeBufferPointer {
      ch2_stream_respond(self.raw, stream, $0.baseAddress!, $0.count, true)
    }
    if result < 0 { ch2_stream_reset(self.raw, stream, HTTP2ErrorCode.internalError) }
    self.setDirty()
  }

  /// Server: the request has not been looked at, the client may send it again.
  func refuse(_ stream: UnsafeMutablePointer<CH2Stream>) {
    ch2_stream_reset(self.raw, stream, HTTP2ErrorCode.refusedStream)
    self.setDirty()
  }

  /// Does what a stream's task has asked for.
  func serve(_ core: StreamCore) {
    let work = core.takeWork()
    guard let stream = core.stream else {
      var body = work.body
      ch2_chain_clear(&body)
      return
    }
    if let head = work.head {
      let head = self.fitting(head) { ResponseHead.everything($0, [:]) }
      let result = head.bytes.withUnsafeBufferPointer {
        ch2_stream_respond(self.raw, stream, $0.baseAddress!, $0.count, work.headIsEverything)
      }
      if result < 0 { ch2_stream_reset(self.raw, stream, HTTP2ErrorCode.internalError) }
    }
    self.apply(work, to: stream)
  }

  private func apply(_ work: StreamCore.Work, to stream: UnsafeMutablePointer<CH2Stream>) {
    var work = work
    var result: Int32 = 0
    if work.consumed > 0 { result |= ch2_stream_consume(self.raw, stream, work.consumed) }
    if work.body.n_bytes > 0 { result |= ch2_stream_write(self.raw, stream, &work.body) }
    if let trailers = work.trailers {
      let trailers = self.fitting(trailers) { ResponseHead.trailers($0, [:]) }
      result |= trailers.bytes.withUnsafeBufferPointer {
        ch2_stream_trailers(self.raw, stream, $0.baseAddress!, $0.count)
      }
    }
    if work.finish { result |= ch2_stream_finish(self.raw, stream) }
    if let code = work.reset { result |= ch2_stream_reset(self.raw, stream, code) }
    if result < 0 { ch2_stream_reset(self.raw, stream, HTTP2ErrorCode.internalError) }
    self.setDirty()
  }

  /// A block within what the peer accepts; else one that says why it is not sent.
  private func fitting(_ block: HeaderBlock, _ instead: (Status) -> HeaderBlock) -> HeaderBlock {
    let limit = self.peerMaxHeaderList
    guard block.listSize > limit else { return block }
    return instead(
      Status(
        code: .resourceExhausted,
        message:
          "The response's metadata counts \(block.listSize) bytes; the client takes \(limit)."))
  }

  private func core(of stream: UnsafeMutablePointer<CH2Stream>) -> StreamCore? {
    let token = stream.pointee.token
    return token == 0 ? nil : self.slots[Int(token) - 1]
  }

  private func detach(_ stream: UnsafeMutablePointer<CH2Stream>) {
    let token = stream.pointee.token
    guard token != 0, let core = self.slots[Int(token) - 1] else { return }
    core.stream = nil
    self.slots[Int(token) - 1] = nil
    self.freeSlots.append(Int(token) - 1)
    self.openStreams -= 1
    if self.openStreams == 0 { self.health.becameIdle(at: self.loop.now) }
  }

  /// Tells every handler that it should come to an end.
  func cancelHandlers() {
    for core in self.slots { core?.cancelHandler() }
  }

  // MARK: Input

  func ready(_ events: UInt32) {
    let buffer = self.loop.readBuffer
    // A few reads in a row: enough for throughput, few enough to be fair to the others.
    for _ in 0..<4 where !self.isClosed {
      let n = ch2_connection_receive(self.raw, buffer.baseAddress!, buffer.count)
      if n > 0 {
        self.health.received(at: self.loop.now)
        self.loop.heard()
        self.takeEvents()
        if n < buffer.count { break }
      } else if n == -Int(EAGAIN) {
        break
      } else {
        self.takeEvents()
        self.inputEnded(n)
        return
      }
    }
    self.setDirty()
  }

  private func inputEnded(_ result: Int) {
    if result == 0 {
      let inUse = self.openStreams > 0
      self.close(reason: "the peer closed the connection", failure: inUse || !self.isReady)
    } else if result == -Int(EPROTO) {
      _ = ch2_connection_flush(self.raw)
      let text = String(cString: ch2_connection_error_text(self.raw))
      self.close(reason: "the peer broke the HTTP/2 protocol: \(text)", failure: true)
    } else {
      self.close(reason: "\(Errno(result))", failure: true)
    }
  }

  /// Acts on what the C side has collected.
  private func takeEvents() {
    var count = 0
    if let events = ch2_connection_events(self.raw, &count), count > 0 {
      // Nothing done for an event adds another: commands only queue.
      for i in 0..<count where !self.isClosed { self.take(events[i]) }
      if !self.isClosed { ch2_connection_clear(self.raw) }
    }
    for core in self.touched {
      core.isTouched = false
      self.loop.resumeLater(core.readerToWake())
    }
    self.touched.removeAll(keepingCapacity: true)
  }

  private func touch(_ core: StreamCore) {
    guard !core.isTouched else { return }
    core.isTouched = true
    self.touched.append(core)
  }

  private func take(_ event: CH2Event) {
    switch event.kind {
    case CH2_EVENT_DATA:
      guard let stream = event.stream, let core = self.core(of: stream) else { return }
      let bytes = UnsafeRawBufferPointer(start: event.bytes, count: event.n_bytes)
      let consumed = core.deliver(bytes: bytes)
      if consumed > 0 { ch2_stream_consume(self.raw, stream, consumed) }
      self.touch(core)
    case CH2_EVENT_HEADERS:
      if let stream = event.stream { self.takeHeaders(event, stream) }
    case CH2_EVENT_END:
      if let stream = event.stream { self.takeEnd(stream) }
    case CH2_EVENT_CLOSED:
      if let stream = event.stream { self.takeClosed(event, stream) }
    case CH2_EVENT_DRAINED:
      guard let stream = event.stream, let core = self.core(of: stream) else { return }
      self.loop.resumeLater(core.drained(event.n_bytes))
    case CH2_EVENT_GOAWAY:
      self.takeGoaway(event)
    case CH2_EVENT_SETTINGS:
      guard !self.isReady else {
        self.owner?.connectionClosedStream(self)  // there may be room for more streams now
        return
      }
      self.isReady = true
      self.owner?.connectionIsReady(self)
    case CH2_EVENT_PING:
      let calm = self.health.receivedPing(
        at: self.loop.now, streamFramesSent: ch2_connection_n_stream_frames_sent(self.raw))
      if !calm { self.terminate(HTTP2ErrorCode.enhanceYourCalm, "too_many_pings", failure: true) }
    case CH2_EVENT_PONG:
      self.health.receivedPong()
      if event.opaque == ConnectionHealth.shutdownPing { self.refuseNewStreams() }
    default:
      return
    }
  }

  private func takeHeaders(_ event: CH2Event, _ stream: UnsafeMutablePointer<CH2Stream>) {
    let bytes = UnsafeRawBufferPointer(start: event.bytes, count: event.n_bytes)
    let tooLarge = event.flags & UInt32(CH2_HEADERS_TOO_LARGE) != 0
    let ends = event.flags & UInt32(CH2_HEADERS_END_STREAM) != 0
    let isTrailers = event.flags & UInt32(CH2_HEADERS_TRAILERS) != 0
    if self.isServer {
      if !isTrailers {
        let headers = ReceivedHeaders(bytes)
        if let core = self.owner?.accept(stream, headers, tooLarge: tooLarge, on: self) {
          self.attach(core, to: stream)
        }
      }
      if ends { self.takeEnd(stream) }
    } else {
      self.takeResponse(ReceivedHeaders(bytes), stream, ends, isTrailers, tooLarge)
    }
  }

  private func takeResponse(
    _ headers: ReceivedHeaders, _ stream: UnsafeMutablePointer<CH2Stream>, _ ends: Bool,
    _ isTrailers: Bool, _ tooLarge: Bool
  ) {
    guard let core = self.core(of: stream) else { return }
    if tooLarge {
      let status = Status(
        code: .resourceExhausted,
        message: "The response's metadata is above the limit (maxHeaderListBytes).")
      self.endRPC(core, stream, .status(status, [:]))
    } else if ends {
      self.endRPC(core, stream, .status(StatusMapping.status(of: headers), headers.metadata))
    } else if isTrailers {
      let error = RPCError(
        code: .internalError, message: "The server sent headers in the middle of its response.")
      self.endRPC(core, stream, .failed(error))
    } else if headers.status != 200 || !headers.isGRPC {
      // Not gRPC: whatever its body says, the status is known now.
      self.endRPC(core, stream, .status(StatusMapping.status(of: headers), headers.metadata))
    } else {
      core.deliver(metadata: headers.metadata)
      self.touch(core)
    }
  }

  /// Client: the RPC has its result; what it still sends is of no use.
  private func endRPC(
    _ core: StreamCore, _ stream: UnsafeMutablePointer<CH2Stream>, _ end: StreamCore.End
  ) {
    let closing = RPCError(code: .unavailable, message: "The server has ended the RPC.")
    self.loop.resumeLater(core.deliver(end: end, closing: closing))
    if core.needsReset || !stream.pointee.has_ended {
      ch2_stream_reset(self.raw, stream, HTTP2ErrorCode.cancel)
    }
    self.touch(core)
  }

  private func takeEnd(_ stream: UnsafeMutablePointer<CH2Stream>) {
    guard let core = self.core(of: stream) else { return }
    if self.isServer {
      self.loop.resumeLater(core.deliver(end: .halfClosed, closing: nil))
      self.touch(core)
    } else {
      let error = RPCError(
        code: .internalError, message: "The server ended the RPC without a status.")
      self.endRPC(core, stream, .failed(error))
    }
  }

  private func takeClosed(_ event: CH2Event, _ stream: UnsafeMutablePointer<CH2Stream>) {
    if let core = self.core(of: stream) {
      let code = ch2_stream_was_refused(stream) ? HTTP2ErrorCode.refusedStream : event.code
      self.loop.resumeLater(core.fail(StatusMapping.error(forReset: code)))
      self.touch(core)
    }
    self.detach(stream)
    self.endIfDrained()
    self.owner?.connectionClosedStream(self)
  }

  private func takeGoaway(_ event: CH2Event) {
    let debug = String(
      decoding: UnsafeRawBufferPointer(start: event.bytes, count: event.n_bytes), as: UTF8.self)
    self.isDraining = true
    self.owner?.connectionGotGoaway(self, code: event.code, debug: debug)
  }
}

// MARK: - Output and end

extension Connection {
  func setDirty() {
    guard !self.isDirty && !self.isClosed else { return }
    self.isDirty = true
    self.loop.flushLater(self)
  }

  /// Sends what there is; called by the loop once a turn.
  func flush() {
    self.isDirty = false
    guard !self.isClosed else { return }
    let result = ch2_connection_flush(self.raw)
    self.takeEvents()
    if self.isClosed { return }
    if result < 0 {
      self.close(reason: "\(Errno(result))", failure: true)
      return
    }
    if ch2_connection_is_done(self.raw) {
      let text = String(cString: ch2_connection_error_text(self.raw))
      let (reason, failure) =
        self.ending ?? (text.isEmpty ? "both sides are done" : text, !text.isEmpty)
      self.close(reason: reason, failure: failure)
      return
    }
    let interest = ch2_connection_interest(self.raw)
    if interest != self.interest {
      self.interest = interest
      self.loop.modify(self.token, fd: self.fd, events: interest)
    }
  }

  /// Says why and closes, after what is under way.
  func terminate(_ code: UInt32, _ reason: String, failure: Bool) {
    guard !self.isClosed, self.ending == nil else { return }
    self.ending = (reason, failure)
    self.isDraining = true
    _ = ch2_connection_terminate(self.raw, code, reason)
    self.setDirty()
  }

  /// Ends in order: no new streams, and the connection closes when the open ones have ended.
  ///
  /// A server says so twice: the first GOAWAY still admits streams that are under way, and a PING's
  /// answer shows that none is any more.
  func drain(_ reason: String) {
    guard !self.isClosed, self.drainReason == nil else { return }
    self.drainReason = reason
    self.drainBegan = self.loop.now
    self.isDraining = true
    if self.isServer {
      _ = ch2_connection_shutdown_notice(self.raw)
      _ = ch2_connection_ping(self.raw, ConnectionHealth.shutdownPing)
      self.setDirty()
    } else {
      self.refuseNewStreams()
    }
  }

  private func refuseNewStreams() {
    self.hasDrained = true
    if self.openStreams > 0 && self.isServer {
      _ = ch2_connection_goaway(self.raw, HTTP2ErrorCode.noError, self.drainReason ?? "")
      self.setDirty()
    }
    self.endIfDrained()
  }

  private func endIfDrained() {
    guard let reason = self.drainReason, self.hasDrained, self.openStreams == 0 else { return }
    if self.isServer {
      self.terminate(HTTP2ErrorCode.noError, reason, failure: false)
    } else {
      // The server has said GOAWAY: it needs none from us.
      self.close(reason: reason, failure: false)
    }
  }

  func check(now: UInt64) -> UInt64 {
    guard !self.isClosed else { return .max }
    let facts = ConnectionHealth.Facts(
      isReady: self.isReady, openStreams: self.openStreams,
      backlog: ch2_connection_backlog(self.raw), sent: ch2_connection_n_sent(self.raw),
      headersSince: ch2_connection_headers_since(self.raw),
      unanswered: self.health.looksForLoss
        ? UInt64(ch2_socket_unanswered_ms(self.fd)) * 1_000_000 : 0)
    switch self.health.check(facts, now: now) {
    case .fine(let next):
      return next
    case .ping(let next):
      _ = ch2_connection_ping(self.raw, ConnectionHealth.keepalivePing)
      self.setDirty()
      return next
    case .idle where self.drainReason == nil:
      self.drain("idle for too long")
      return now + self.health.stallTimeout
    case .idle:
      // It does not even answer the PING that asks whether it may be closed.
      guard now - self.drainBegan >= self.health.stallTimeout else {
        return self.drainBegan + self.health.stallTimeout
      }
      self.terminate(HTTP2ErrorCode.noError, "idle for too long", failure: false)
    case .dead(let reason):
      self.close(reason: reason, failure: true)
    case .unanswered:
      self.owner?.connectionIsUnanswered(self)
      self.close(reason: "nothing that is sent arrives", failure: true)
    }
    return .max
  }

  /// Ends at once: all streams are told, the socket is closed.
  func close(reason: String, failure: Bool) {
    guard !self.isClosed else { return }
    self.isClosed = true
    self.isDraining = true
    if self.token != 0 { self.loop.remove(self.token, fd: self.fd) }
    let error =
      self.isServer
      ? RPCError(code: .cancelled, message: "The client's connection is lost: \(reason).")
      : RPCError(code: .unavailable, message: "The connection to \(self.peer) is lost: \(reason).")
    for case .some(let core) in self.slots {
      core.stream = nil
      self.loop.resumeLater(core.fail(error))
    }
    self.slots = []
    self.openStreams = 0
    ch2_connection_free(self.raw)
    self.owner?.connectionIsClosed(self, reason: reason, failure: failure)
  }
}

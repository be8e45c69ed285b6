internal import Synchronization

/// Decides, from what a connection has seen and the time, whether its peer still behaves: a value,
/// stepped by the loop. Times are nanoseconds of the monotonic clock.
struct ConnectionHealth {
  struct Facts {
    var isReady: Bool
    var openStreams: Int
    /// Bytes the peer has not taken, and bytes it has taken so far.
    var backlog: Int
    var sent: UInt64
    /// Since when a header block is unfinished; 0 = none is.
    var headersSince: UInt64
    /// For so long nothing that was sent has been acknowledged by the peer's host, ns; 0 = it has been.
    var unanswered: UInt64 = 0
  }

  enum Verdict: Equatable {
    /// Ask again at `next`.
    case fine(next: UInt64)
    case ping(next: UInt64)
    /// No RPC for long enough: end it in order.
    case idle
    case dead(String)
    /// Nothing that is sent arrives.
    case unanswered
  }

  /// How often it is seen whether what was sent was acknowledged, for each time that may last.
  private static let looks: UInt64 = 8

  /// What our PINGs carry, to tell their answers apart.
  static let keepalivePing: UInt64 = 0x6b65_6570_616c_6976
  static let shutdownPing: UInt64 = 0x7368_7574_646f_776e

  private let handshakeTimeout: UInt64
  let stallTimeout: UInt64
  private let keepalive: NGHTTP2Keepalive?
  private let lossTimeout: UInt64?
  private let maxIdle: UInt64?
  private let minPingInterval: UInt64?
  private let maxPingStrikes: Int

  private let beganAt: UInt64
  private var receivedAt: UInt64
  private var idleSince: UInt64
  private var pingSentAt: UInt64?
  private var lastSent: UInt64 = 0
  private var progressAt: UInt64
  private var pingReceivedAt: UInt64?
  private var pingStrikes = 0
  private var streamFramesSent: UInt64 = 0

  init(
    handshakeTimeout: Duration, stallTimeout: Duration, keepalive: NGHTTP2Keepalive?,
    lossTimeout: Duration? = nil, maxIdle: Duration? = nil, minPingInterval: Duration? = nil,
    maxPingStrikes: Int = 0, now: UInt64
  ) {
    self.handshakeTimeout = handshakeTimeout.nanoseconds
    self.stallTimeout = stallTimeout.nanoseconds
    self.keepalive = keepalive
    self.lossTimeout = lossTimeout?.nanoseconds
    self.maxIdle = maxIdle?.nanoseconds
    self.minPingInterval = minPingInterval?.nanoseconds
    self.maxPingStrikes = maxPingStrikes
    self.beganAt = now
    self.receivedAt = now
    self.idleSince = now
    self.progressAt = now
  }

  var looksForLoss: Bool { self.lossTimeout != nil }

  mutating func received(at now: UInt64) {
    self.receivedAt = now
  }

  mutating func receivedPong() {
    self.pingSentAt = nil
  }

  mutating func becameIdle(at now: UInt64) {
    self.idleSince = now
  }

  /// - Returns: false when the peer has sent too many PINGs for the little that was sent to it.
  mutating func receivedPing(at now: UInt64, streamFramesSent: UInt64) -> Bool {
    guard let minPingInterval = self.minPingInterval else { return true }
    defer { self.pingReceivedAt = now }
    if streamFramesSent != self.streamFramesSent {
      self.streamFramesSent = streamFramesSent
      self.pingStrikes = 0
      return true
    }
    if let last = self.pingReceivedAt, now - last < minPingInterval {
      self.pingStrikes += 1
    }
    return self.pingStrikes <= self.maxPingStrikes
  }

  mutating func check(_ facts: Facts, now: UInt64) -> Verdict {
    var next = UInt64.max

    if !facts.isReady {
      let deadline = self.beganAt + self.handshakeTimeout
      if now >= deadline { return .dead("no HTTP/2 preface and SETTINGS came in time") }
      next = min(next, deadline)
    }

    if facts.sent != self.lastSent || facts.backlog == 0 {
      self.lastSent = facts.sent
      self.progressAt = now
    } else {
      let deadline = self.progressAt + self.stallTimeout
      if now >= deadline { return .dead("the peer takes no more bytes") }
      next = min(next, deadline)
    }

    if facts.headersSince != 0 {
      let deadline = facts.headersSince + self.stallTimeout
      if now >= deadline { return .dead("a header block was never finished") }
      next = min(next, deadline)
    }

    if let lossTimeout = self.lossTimeout {
      if facts.unanswered >= lossTimeout { return .unanswered }
      next = min(next, now + lossTimeout / ConnectionHealth.looks)
    }

    if let maxIdle = self.maxIdle, facts.isReady, facts.openStreams == 0 {
      let deadline = self.idleSince + maxIdle
      if now >= deadline { return .idle }
      next = min(next, deadline)
    }

    if let keepalive = self.keepalive, facts.isReady {
      if let pingSentAt = self.pingSentAt {
        let deadline = pingSentAt + keepalive.timeout.nanoseconds
        if now >= deadline { return .dead("a PING was not answered") }
        next = min(next, deadline)
      } else if facts.openStreams > 0 || keepalive.withoutCalls {
        let due = self.receivedAt + keepalive.interval.nanoseconds
        if now >= due {
          self.pingSentAt = now
          return .ping(next: min(next, now + keepalive.timeout.nanoseconds))
        }
        next = min(next, due)
      }
    }
    return .fine(next: next)
  }
}

/// RPC handlers that run for one connection, also those whose stream is gone already.
final class HandlerLoad: Sendable {
  let running = Atomic<Int>(0)
}

public import GRPCCore

/// Limits and sizes of every connection, on either side. Each bounds what a peer can make this
/// process hold or do; the defaults suit connections among trusted and untrusted peers alike.
public struct NGHTTP2ConnectionConfig: Sendable, Hashable {
  /// Bytes a peer may send on one stream ahead of its reader; the memory one slow reader can cost.
  /// 65,535…2^31 − 1.
  public var streamWindowBytes = 1024 * 1024

  /// Bytes a peer may have under way on all streams of a connection together. Not a bound on
  /// memory: it is replenished as bytes arrive, so that a stream nobody reads does not stop the
  /// others. 65,535…2^31 − 1.
  public var connectionWindowBytes = 4 * 1024 * 1024

  /// Largest HTTP/2 frame accepted, in bytes. 16,384…16,777,215.
  public var maxFrameBytes = 64 * 1024

  /// Largest DATA frame sent, in bytes, if the peer accepts it.
  public var maxSendFrameBytes = 64 * 1024

  /// Largest message accepted, in bytes. A larger one ends its RPC with `resourceExhausted`.
  public var maxInboundMessageBytes = 4 * 1024 * 1024

  /// Largest message sent, in bytes. Writing a larger one throws `resourceExhausted`.
  public var maxOutboundMessageBytes = Int(Int32.max)

  /// Largest metadata accepted in one direction of an RPC, in bytes: names and values, and 32 for
  /// each pair. More ends the RPC with `resourceExhausted`.
  public var maxHeaderListBytes = 16 * 1024

  /// Bytes one stream holds that the peer has not taken yet before a writer is suspended; it goes on
  /// below half of it.
  public var writeBufferBytes = 256 * 1024

  /// How long a peer may leave sent bytes untaken, or a header block unfinished, before its
  /// connection is closed.
  public var stallTimeout: Duration = .seconds(30)

  /// TCP keepalive probes begin after this time without traffic. Whole seconds.
  public var tcpKeepaliveIdle: Duration = .seconds(20)

  /// The connection is given up when sent bytes or probes go unanswered for this long. Whole
  /// seconds.
  public var tcpTimeout: Duration = .seconds(20)

  /// SETTINGS parameters in one frame.
  public var maxSettingsEntries = 32

  /// Answers to PING and SETTINGS that may wait to be sent before the peer counts as flooding.
  public var maxOutboundAcknowledgements = 1000

  /// CONTINUATION frames in one header block.
  public var maxContinuations = 8

  public init() {}
}

/// Pings that find out whether a quiet peer is still there.
public struct NGHTTP2Keepalive: Sendable, Hashable {
  /// A PING is sent after this time without a byte from the peer. Servers of other makes object to
  /// less than 20 s, some to less than 5 min, and close the connection; the interval is then
  /// doubled, to 10 s at the least, until the server has been away.
  public var interval: Duration

  /// Without an answer for this long the connection is closed.
  public var timeout: Duration

  /// Whether to ping while no RPC is open.
  public var withoutCalls: Bool

  public init(interval: Duration, timeout: Duration = .seconds(20), withoutCalls: Bool = false) {
    self.interval = interval
    self.timeout = timeout
    self.withoutCalls = withoutCalls
  }
}

/// How a client spaces its attempts to connect.
public struct NGHTTP2Backoff: Sendable, Hashable {
  /// Before the first repetition.
  public var initial: Duration
  /// Each delay is this many times the one before.
  public var multiplier: Double
  /// No delay is longer, jitter apart.
  public var maximum: Duration
  /// Each delay, the first too, is changed at random by up to this part of itself, up or down.
  /// 0…1.
  public var jitter: Double

  public init(
    initial: Duration = .seconds(1), multiplier: Double = 1.6, maximum: Duration = .seconds(120),
    jitter: Double = 0.2
  ) {
    self.initial = initial
    self.multiplier = multiplier
    self.maximum = maximum
    self.jitter = jitter
  }
}

/// Configuration of a client transport.
public struct NGHTTP2ClientConfig: Sendable {
  /// Limits and sizes of the connection.
  public var connection = NGHTTP2ConnectionConfig()

  /// Spacing of attempts to connect.
  public var backoff = NGHTTP2Backoff()

  /// How long one attempt may take, until the server's SETTINGS have arrived.
  public var connectTimeout: Duration = .seconds(20)

  /// Pings on a quiet connection; `nil` leaves it to TCP keepalive.
  public var keepalive: NGHTTP2Keepalive? = nil

  /// The connection is given up when what was sent was sent again and the server's host has
  /// acknowledged nothing for this long; `nil` leaves it to `tcpTimeout`. Unlike that one it spares a
  /// server that takes nothing for a while: its host acknowledges.
  public var lossTimeout: Duration? = nil

  /// The `:authority` sent; `nil` = the target as written, `localhost` for a UNIX socket.
  public var authority: String? = nil

  /// The `user-agent` sent.
  public var userAgent = "grpc-swift-nghttp2/1.0"

  /// Timeouts, retries and limits by method, and the retry throttle.
  public var serviceConfig = ServiceConfig()

  /// What the transport's thread is called, for `ps` and the like; at most 15 bytes.
  public var threadName = "grpc-nghttp2"

  /// Told what happens to connections, for a log. Called on the transport's own thread: must
  /// return at once.
  public var onEvent: (@Sendable (NGHTTP2Event) -> Void)? = nil

  public init() {}
}

/// Configuration of a server transport.
public struct NGHTTP2ServerConfig: Sendable {
  /// Limits and sizes of each connection.
  public var connection = NGHTTP2ConnectionConfig()

  /// Connections held at once; further ones are closed as they are accepted.
  public var maxConnections = 4096

  /// RPCs a client may have open on one connection.
  public var maxConcurrentStreams = 256

  /// RST_STREAM frames a client may send per second on average, and at once. More closes its
  /// connection (opening and resetting streams costs a client nothing and a server much).
  public var maxResetsPerSecond = 100
  public var maxResetBurst = 500

  /// How long a new connection may take until its preface and SETTINGS have arrived.
  public var handshakeTimeout: Duration = .seconds(10)

  /// A connection without RPCs for this long is closed; `nil` = never.
  public var maxConnectionIdle: Duration? = .seconds(1800)

  /// PINGs a client may send that are closer together than ``minPingInterval``, counted anew
  /// whenever something is sent to it, before its connection is closed with ENHANCE_YOUR_CALM.
  public var maxPingStrikes = 2
  public var minPingInterval: Duration = .seconds(5)

  /// Pings that find out whether a quiet client is still there; `nil` leaves it to TCP keepalive.
  public var keepalive: NGHTTP2Keepalive? = nil

  /// How long RPCs may go on after a graceful shutdown began; then they are cut off. `nil` = as
  /// long as they like.
  public var shutdownGrace: Duration? = .seconds(30)

  /// Length of the queue of connections not yet accepted (the system's `somaxconn` bounds it too).
  public var backlog = 4096

  /// Permissions of a UNIX socket's file; `nil` = as the umask has it.
  public var unixSocketMode: UInt32? = nil

  /// What the transport's thread is called, for `ps` and the like; at most 15 bytes.
  public var threadName = "grpc-nghttp2"

  /// Told what happens to connections, for a log. Called on the transport's own thread: must
  /// return at once.
  public var onEvent: (@Sendable (NGHTTP2Event) -> Void)? = nil

  public init() {}
}

/// What happens to a transport's connections, for a log.
public enum NGHTTP2Event: Sendable {
  /// A connection is ready for RPCs.
  case connected(peer: String)
  /// A connection is over; `reason` is for people. `failure` is false for an orderly end.
  case disconnected(peer: String, reason: String, failure: Bool)
  /// Nothing that is sent to the server arrives (``NGHTTP2ClientConfig/lossTimeout``): the connection
  /// is about to be given up.
  case unanswered(peer: String)
  /// A client could not connect and tries again after `delay`.
  case connectFailed(target: String, reason: String, retryIn: Duration)
  /// A server closed a connection as it was accepted, or could not accept it.
  case refused(peer: String, reason: String)
}

/// Everything a node is told before it starts. Three settings have no useful default: `redis`,
/// `vendor`, and, where several nodes share a machine, `port`.
///
/// Read it with ``ConfigurationReader``, which checks every value and the laws between them; the
/// ranges below hold in what it returns.
public struct NodeConfiguration: Sendable, Equatable {
  /// TCP port for controllers; 0 = any free one.
  public var port: UInt16 = 5001
  /// Numeric address to listen on for controllers; `::` takes IPv4 and IPv6.
  public var bind = "::"
  /// Stable name of the node; `nil` = what it advertises. See ``nodeName(boundPort:hostname:)``.
  public var nodeID: String?
  /// Where peers reach the node; `nil` = the machine's name and the port. Port 0 = the bound one.
  public var advertise: HostPort?
  public var redis: RedisSetting
  public var vendor: VendorSetting
  /// Name of the cluster; several may share a Redis.
  public var cluster = "main"
  /// Where the other nodes of the cluster are listened to.
  public var peers: PeersSetting = .usual
  /// Where load balancers and other nodes connect from: they say whose connection it is.
  public var trustedProxies = Network.loopback
  /// f of the failsafe, 0 … 3; see Docs/adr/0011-ownership.md.
  public var tolerance = 0
  /// What the node keeps over its lives; `nil` = in `$STATE_DIRECTORY`, if that is set.
  public var stateFile: String?
  /// `nil` = the usual Unix socket for the bound port; see ``AdminSocket``.
  public var admin: AdminAddress?
  public var metrics: MetricsSetting = .usual
  /// Threads that serve controllers, 1 … 64; `nil` = one a core.
  public var ioThreads: Int?
  /// Controllers' connections at once, 1 … 1,000,000.
  public var connectionsMax = 100_000
  public var window = EventWindow()
  /// A controller's time to answer a PING, 100 ms … 10 min.
  public var t1: Duration = .seconds(15)
  /// From an event's commit to its acknowledgement at the latest, 1 ms … 1 min; less than t1.
  public var t2: Duration = .milliseconds(100)
  /// Silence after which a PING is sent, 100 ms … 1 h.
  public var t3: Duration = .seconds(20)
  /// Bytes of events on their way to the vendor app and not acknowledged, 64 KiB … 1 GiB.
  public var inFlightBytes = 8 << 20
  public var log: LogDestination = .auto
  public var logLevel: LogThreshold = .info
  /// A file that exists, with the bound ports in it, while the node serves.
  public var readyFile: String?
  /// Connections outlive the process; the service manager keeps them.
  public var parking = false
  /// Check configuration and connectivity, then exit.
  public var check = false
  /// Give back what an ended process of the node holds, then exit.
  public var release = false
  /// Plain TCP off loopback is the operator's decision.
  public var insecure = false

  public init(redis: RedisSetting, vendor: VendorSetting) {
    self.redis = redis
    self.vendor = vendor
  }

  /// Where peers reach the node once `boundPort` is bound on a machine named `hostname`.
  public func advertised(boundPort: UInt16, hostname: String) -> HostPort {
    var address = self.advertise ?? HostPort(host: hostname, port: 0)
    if address.port == 0 { address.port = boundPort }
    return address
  }

  /// The node's stable name: the configured one, else `host:port` as advertised.
  public func nodeName(boundPort: UInt16, hostname: String) -> String {
    self.nodeID ?? self.advertised(boundPort: boundPort, hostname: hostname).description
  }
}

/// The event window: k events may be unacknowledged, and every w are acknowledged together.
public struct EventWindow: Sendable, Hashable, CustomStringConvertible {
  /// 1 … 1,024.
  public var k: UInt16 = 64
  /// 1 … k.
  public var w: UInt16 = 16

  public init(k: UInt16 = 64, w: UInt16 = 16) {
    self.k = k
    self.w = w
  }

  public var description: String { "\(self.k)/\(self.w)" }

  /// Reads `k/w`.
  init(parsing text: String) throws(Objection) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let k = UInt16(parts[0]), let w = UInt16(parts[1]) else {
      throw Objection("is not two whole numbers with a slash between them")
    }
    guard (1...1_024).contains(k) else { throw Objection("has a k outside 1 … 1024") }
    guard (1...k).contains(w) else { throw Objection("has a w outside 1 … k") }
    self.init(k: k, w: w)
  }
}

/// Where log lines go.
public enum LogDestination: String, Sendable, CaseIterable {
  case journal, stderr
  /// The journal when standard error is connected to it, else standard error.
  case auto
}

/// The least grave lines that are logged.
public enum LogThreshold: String, Sendable, CaseIterable {
  case trace, debug, info, notice, warning, error, critical
}

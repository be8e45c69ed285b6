extension ConfigurationOption {
  /// Every setting, in the order of the help text.
  static let all: [ConfigurationOption] =
    essentials + identity + cluster + controllers + pipeline + operation

  private static let essentials: [ConfigurationOption] = [
    ConfigurationOption(
      name: "redis", form: .value("URL"), section: .essentials,
      summary: "Where the cluster keeps what its nodes share; memory: is one node on its own,"
        + " with nothing outside",
      allowed: "redis://[user:password@]host[:port][/database], rediss:// (TLS),"
        + " redis+sentinel://host,…/master[/database], redis+cluster://host,…, rediss+sentinel://,"
        + " rediss+cluster:// or memory:",
      isSecret: true,
      set: { (draft, text) throws(Objection) in draft.redis = try RedisSetting(parsing: text) },
      show: { $0.redis.description }),
    ConfigurationOption(
      name: "vendor", form: .value("URL"), section: .essentials,
      summary: "The vendor app that stores the events and sends the commands",
      allowed: "grpc://host:port",
      set: { (draft, text) throws(Objection) in draft.vendor = try VendorSetting(parsing: text) },
      show: { $0.vendor.description }),
    ConfigurationOption(
      name: "port", form: .value("PORT"), section: .essentials,
      summary: "TCP port for controllers", allowed: "0 … 65535 (0 = any free one)",
      standard: "5001",
      set: { (draft, text) throws(Objection) in
        draft.rest.port = try SettingValue.number(text, in: 0...UInt16.max)
      },
      show: { "\($0.port)" }),
  ]

  private static let identity: [ConfigurationOption] = [
    ConfigurationOption(
      name: "bind", form: .value("ADDRESS"), section: .identity,
      summary: "Address to listen on for controllers; :: takes IPv4 and IPv6",
      allowed: "a numeric IPv4 or IPv6 address", standard: "::",
      set: { (draft, text) throws(Objection) in
        guard NumericAddress(text) != nil else { throw Objection("is not a numeric address") }
        draft.rest.bind = text
      },
      show: { $0.bind }),
    ConfigurationOption(
      name: "node-id", form: .value("NAME"), section: .identity,
      summary: "Stable name of the node, unique in the cluster",
      allowed: "1 … 128 letters, digits and any of . - _ : [ ]", standard: "what it advertises",
      set: { (draft, text) throws(Objection) in
        guard (1...128).contains(text.utf8.count), text.utf8.allSatisfy(isNameByte) else {
          throw Objection("is not a name")
        }
        draft.rest.nodeID = text
      },
      show: { $0.nodeID ?? "what it advertises" }),
    ConfigurationOption(
      name: "advertise", form: .value("HOST:PORT"), section: .identity,
      summary: "Where other nodes reach this one",
      allowed: "host:port or [IPv6]:port (port 0 ="
        + " the one for controllers)",
      standard: "the machine's name and the port",
      set: { (draft, text) throws(Objection) in
        draft.rest.advertise = try HostPort(parsing: text)
      },
      show: { $0.advertise?.description ?? "the machine's name and the port" }),
    ConfigurationOption(
      name: "admin", form: .value("ADDRESS"), section: .identity,
      summary: "Where clusterctl reaches this node",
      allowed: "unix:/PATH (at most 107 bytes) or host:port",
      standard: "unix:/run/cluster-driver/PORT.sock",
      set: { (draft, text) throws(Objection) in draft.rest.admin = try AdminAddress(parsing: text)
      },
      show: { $0.admin?.description ?? "unix:/run/cluster-driver/PORT.sock" }),
    ConfigurationOption(
      name: "metrics", form: .value("HOST:PORT"), section: .identity,
      summary: "Where /metrics, /healthz and /readyz are served by HTTP",
      allowed: "a numeric address and a port (0 = any free one), or off",
      standard: "127.0.0.1 and the controllers' port + 4000",
      set: { (draft, text) throws(Objection) in
        draft.rest.metrics = try MetricsSetting(parsing: text)
      },
      show: { $0.metrics.description }),
  ]

  private static let cluster: [ConfigurationOption] = [
    ConfigurationOption(
      name: "cluster", form: .value("NAME"), section: .cluster,
      summary: "Name of the cluster; several may share a Redis",
      allowed: "1 … 128 letters, digits and any of . - _ : [ ]", standard: "main",
      set: { (draft, text) throws(Objection) in
        guard (1...128).contains(text.utf8.count), text.utf8.allSatisfy(isNameByte) else {
          throw Objection("is not a name")
        }
        draft.rest.cluster = text
      },
      show: { $0.cluster }),
    ConfigurationOption(
      name: "peers", form: .value("HOST:PORT"), section: .cluster,
      summary: "Where to listen for the other nodes of the cluster",
      allowed: "a numeric address and a port (0 = any free one)",
      standard: "127.0.0.1 and the controllers' port + 3000",
      set: { (draft, text) throws(Objection) in draft.rest.peers = try PeersSetting(parsing: text)
      },
      show: { $0.peers.description }),
    ConfigurationOption(
      name: "trusted-proxies", form: .value("NETWORKS"), section: .cluster,
      summary: "Where load balancers and the other nodes connect from; they say whose connection"
        + " it is (PROXY protocol 2)",
      allowed: "networks or addresses with commas between them, as in 10.0.0.0/24,::1, or none",
      standard: "127.0.0.0/8,::1",
      set: { (draft, text) throws(Objection) in
        draft.rest.trustedProxies = text == "none" ? [] : try Network.list(text)
      },
      show: {
        $0.trustedProxies.isEmpty
          ? "none" : $0.trustedProxies.map(\.description).joined(separator: ",")
      }),
    ConfigurationOption(
      name: "tolerance", form: .value("F"), section: .cluster,
      summary: "Nodes that may be lost together with Redis before the rest stops acting",
      allowed: "0 … 3, the same on all nodes", standard: "0",
      set: { (draft, text) throws(Objection) in
        draft.rest.tolerance = try SettingValue.number(text, in: 0...3)
      },
      show: { "\($0.tolerance)" }),
    ConfigurationOption(
      name: "state-file", form: .value("PATH"), section: .cluster,
      summary: "What the node keeps over a restart: who its peers are, which epochs were used",
      allowed: "a path", standard: "PORT.state in $STATE_DIRECTORY, if that is set",
      set: { (draft, text) throws(Objection) in
        draft.rest.stateFile = try SettingValue.path(text)
      },
      show: { $0.stateFile ?? "PORT.state in $STATE_DIRECTORY, if that is set" }),
  ]

  private static let controllers: [ConfigurationOption] = [
    ConfigurationOption(
      name: "io-threads", form: .value("N"), section: .controllers,
      summary: "Threads that serve controllers", allowed: "1 … 64, or auto (one a core)",
      standard: "auto",
      set: { (draft, text) throws(Objection) in
        draft.rest.ioThreads = text == "auto" ? nil : try SettingValue.number(text, in: 1...64)
      },
      show: { $0.ioThreads.map(String.init) ?? "auto" }),
    ConfigurationOption(
      name: "connections-max", form: .value("N"), section: .controllers,
      summary: "Controllers connected at once; further ones are refused",
      allowed: "1 … 1000000", standard: "100000",
      set: { (draft, text) throws(Objection) in
        draft.rest.connectionsMax = try SettingValue.number(text, in: 1...1_000_000)
      },
      show: { "\($0.connectionsMax)" }),
    ConfigurationOption(
      name: "window", form: .value("K/W"), section: .controllers,
      summary: "Events a controller may have unacknowledged, and after how many of them an"
        + " acknowledgement is sent at the latest",
      allowed: "k/w with k 1 … 1024 and w 1 … k", standard: "64/16",
      set: { (draft, text) throws(Objection) in draft.rest.window = try EventWindow(parsing: text)
      },
      show: { $0.window.description }),
    ConfigurationOption(
      name: "parking", form: .toggle, section: .controllers,
      summary:
        "Leave the connections to the next process of the unit when this one ends; the service"
        + " manager keeps them meanwhile",
      allowed: "true or false", standard: "false",
      set: { (draft, text) throws(Objection) in
        draft.rest.parking = try SettingValue.truth(text)
      },
      show: { "\($0.parking)" }),
    time(
      "t1", "How long a controller may take to answer a PING", .milliseconds(100)...(.seconds(600)),
      standard: .seconds(15), \.t1),
    time(
      "t2", "How long after its commit an event is acknowledged at the latest; less than t1",
      .milliseconds(1)...(.seconds(60)), standard: .milliseconds(100), \.t2),
    time(
      "t3", "Silence of a controller after which a PING is sent",
      .milliseconds(100)...(.seconds(3_600)), standard: .seconds(20), \.t3),
  ]

  private static let pipeline: [ConfigurationOption] = [
    ConfigurationOption(
      name: "in-flight-bytes", form: .value("SIZE"), section: .pipeline,
      summary: "Events on their way to the vendor app and not acknowledged; beyond it controllers"
        + " are made to wait",
      allowed: "64KiB … 1GiB", standard: "8MiB", isReloadable: true,
      set: { (draft, text) throws(Objection) in
        draft.rest.inFlightBytes = try SettingValue.bytes(text, in: (64 << 10)...(1 << 30))
      },
      show: { SettingValue.show(bytes: $0.inFlightBytes) })
  ]

  private static let operation: [ConfigurationOption] = [
    ConfigurationOption(
      name: "log", form: .value("WHERE"), section: .operation,
      summary: "Where log lines go; auto is the journal when standard error leads there",
      allowed: "journal, stderr or auto", standard: "auto",
      set: { (draft, text) throws(Objection) in
        draft.rest.log = try SettingValue.word(text, of: LogDestination.self)
      },
      show: { $0.log.rawValue }),
    ConfigurationOption(
      name: "log-level", form: .value("LEVEL"), section: .operation,
      summary: "The least grave lines to log",
      allowed: "trace, debug, info, notice, warning, error or critical", standard: "info",
      isReloadable: true,
      set: { (draft, text) throws(Objection) in
        draft.rest.logLevel = try SettingValue.word(text, of: LogThreshold.self)
      },
      show: { $0.logLevel.rawValue }),
    ConfigurationOption(
      name: "ready-file", form: .value("PATH"), section: .operation,
      summary: "A file to write once the node serves, with the ports it listens on",
      allowed: "a path", standard: "none",
      set: { (draft, text) throws(Objection) in
        draft.rest.readyFile = try SettingValue.path(text)
      },
      show: { $0.readyFile ?? "none" }),
    ConfigurationOption(
      name: "insecure", form: .toggle, section: .operation,
      summary: "Allow plain gRPC to and from other machines; for laboratories",
      allowed: "true or false", standard: "false",
      set: { (draft, text) throws(Objection) in
        draft.rest.insecure = try SettingValue.truth(text)
      },
      show: { "\($0.insecure)" }),
    ConfigurationOption(
      name: "check", form: .toggle, section: .operation,
      summary: "Check the configuration and that Redis and the vendor app can be reached, then"
        + " exit",
      allowed: "true or false", standard: "false", isInEnvironment: false,
      set: { (draft, text) throws(Objection) in draft.rest.check = try SettingValue.truth(text) },
      show: { "\($0.check)" }),
    ConfigurationOption(
      name: "release", form: .toggle, section: .operation,
      summary:
        "Give back what a process of this node that has ended still holds in the cluster, then"
        + " exit; refused while one lives",
      allowed: "true or false", standard: "false", isInEnvironment: false,
      set: { (draft, text) throws(Objection) in draft.rest.release = try SettingValue.truth(text) },
      show: { "\($0.release)" }),
  ]

  private static func time(
    _ name: String, _ summary: String, _ range: ClosedRange<Duration>, standard: Duration,
    _ path: any WritableKeyPath<NodeConfiguration, Duration> & Sendable
  ) -> ConfigurationOption {
    ConfigurationOption(
      name: name, form: .value("TIME"), section: .controllers, summary: summary,
      allowed: "\(SettingValue.show(range.lowerBound)) … \(SettingValue.show(range.upperBound))",
      standard: SettingValue.show(standard),
      set: { (draft, text) throws(Objection) in
        draft.rest[keyPath: path] = try SettingValue.duration(text, in: range)
      },
      show: { SettingValue.show($0[keyPath: path]) })
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      return true
    default:
      return ".-_:[]".utf8.contains(byte)
    }
  }
}

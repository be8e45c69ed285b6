/// Host and port of a server.
public struct RedisAddress: Sendable, Hashable, CustomStringConvertible {
  /// A name or a numeric address; IPv6 without its brackets.
  public let host: String
  /// 1…65,535.
  public let port: UInt16

  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// What a server names, or nil if that cannot be connected to.
  init?(named host: String?, _ port: Int64?) {
    guard let host, (1...255).contains(host.utf8.count),
      host.utf8.allSatisfy({ (33...126).contains($0) }),
      let port = port.flatMap({ UInt16(exactly: $0) }), port > 0
    else { return nil }
    self.init(host: host, port: port)
  }

  /// `host:port`, or `[IPv6]:port`.
  public var description: String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }
}

/// How the server that is spoken to is found.
public enum RedisPlace: Sendable, Hashable {
  /// It is always this one.
  case server(RedisAddress)
  /// It is whichever the sentinels hold for the master.
  case sentinels(RedisSentinels)
  /// It is whichever node of the cluster serves the link's slot
  /// (`RedisConnectionOptions.slotKey`).
  case cluster(RedisSeeds)
}

/// Redis Sentinels that watch over a master.
public struct RedisSentinels: Sendable, Hashable {
  /// How many may be named: each costs every link a connection.
  public static let countMax = 16

  /// 1…`countMax`.
  public let addresses: [RedisAddress]
  /// The name they know the master by.
  public let master: String
  /// Who we are to the sentinels, which have passwords of their own; nil = the default user.
  public let user: String?
  /// nil = they want none.
  public let password: String?

  /// There must be 1…`countMax` addresses.
  public init(
    _ addresses: [RedisAddress], master: String, user: String? = nil, password: String? = nil
  ) {
    precondition((1...Self.countMax).contains(addresses.count), "1 to 16 sentinels")
    self.addresses = addresses
    self.master = master
    self.user = user
    self.password = password
  }
}

/// Nodes of a Redis Cluster that are asked first; they name the others.
public struct RedisSeeds: Sendable, Hashable {
  /// How many may be named.
  public static let countMax = 16

  /// 1…`countMax`.
  public let addresses: [RedisAddress]

  /// There must be 1…`countMax` addresses.
  public init(_ addresses: [RedisAddress]) {
    precondition((1...Self.countMax).contains(addresses.count), "1 to 16 nodes of a cluster")
    self.addresses = addresses
  }
}

/// TLS 1.2 or later, with the server's certificate verified against CA and host. Paths of PEM
/// files; they are read when a link begins, and again after TLS has failed.
public struct RedisTLS: Sendable, Hashable {
  /// The CAs to trust; nil = those of the system.
  public let ca: String?
  /// Our own certificate and what leads from it to its CA; nil = none.
  public let certificate: String?
  /// Its private key, not encrypted; nil = it is in the certificate's file.
  public let key: String?

  public init(ca: String? = nil, certificate: String? = nil, key: String? = nil) {
    self.ca = ca
    self.certificate = certificate
    self.key = key
  }
}

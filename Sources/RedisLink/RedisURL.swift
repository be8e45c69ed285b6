/// Where Redis is and who we are to it:
///
///     redis://[user:password@]host[:port][/database]
///     redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/database]
///     redis+cluster://[user:password@]host[:port][,host[:port]…]
///
/// With `rediss` for `redis` all connections, the sentinels' too, are TLS. User and password are
/// those of the server, and of every node of a cluster. After a `?` may follow, joined by `&`: with TLS `ca=PATH`, `cert=PATH` and
/// `key=PATH` (see `RedisTLS`), with sentinels `sentinel-user=` and `sentinel-password=`.
public struct RedisURL: Sendable, Hashable {
  public let place: RedisPlace
  /// nil = the default user.
  public let user: String?
  public let password: String?
  /// 0 when the URL names none.
  public let database: Int
  /// nil = plain TCP.
  public let tls: RedisTLS?

  public init(
    _ place: RedisPlace, user: String? = nil, password: String? = nil, database: Int = 0,
    tls: RedisTLS? = nil
  ) {
    self.place = place
    self.user = user
    self.password = password
    self.database = database
    self.tls = tls
  }

  /// A single server.
  public init(
    host: String, port: UInt16 = 6379, user: String? = nil, password: String? = nil,
    database: Int = 0, tls: RedisTLS? = nil
  ) {
    self.init(
      .server(RedisAddress(host: host, port: port)), user: user, password: password,
      database: database, tls: tls)
  }

  /// Reads a URL. The error says what is wrong with it and what to write instead, and never repeats
  /// a password. No file is read.
  public init(parsing text: String) throws(RedisURLError) {
    self = try RedisURLParser.parse(text)
  }
}

extension RedisURL: CustomStringConvertible {
  /// The URL without its passwords, for people and logs.
  public var description: String {
    let who = password == nil ? "" : "\(user ?? ""):***@"
    var options: [String] = []
    let location: String
    switch place {
    case .server(let address): location = "://\(who)\(address)/\(database)"
    case .cluster(let seeds):
      location = "+cluster://\(who)" + seeds.addresses.map(\.description).joined(separator: ",")
    case .sentinels(let sentinels):
      let list = sentinels.addresses.map(\.description).joined(separator: ",")
      location = "+sentinel://\(who)\(list)/\(sentinels.master)/\(database)"
      if let user = sentinels.user { options.append("sentinel-user=\(user)") }
      if sentinels.password != nil { options.append("sentinel-password=***") }
    }
    if let tls {
      for (name, path) in [("ca", tls.ca), ("cert", tls.certificate), ("key", tls.key)] {
        if let path { options.append("\(name)=\(path)") }
      }
    }
    let scheme = tls == nil ? "redis" : "rediss"
    return scheme + location + (options.isEmpty ? "" : "?" + options.joined(separator: "&"))
  }
}

/// What is wrong with a Redis URL, and what to write instead.
public struct RedisURLError: Error, Sendable, Hashable, CustomStringConvertible {
  public let message: String

  init(_ message: String) {
    self.message = message
  }

  public var description: String { "Redis URL: \(message)" }
}

public import RedisLink

/// Where the node keeps what the cluster shares.
public enum RedisSetting: Sendable, Hashable, CustomStringConvertible {
  /// Within the process: one node, nothing outside, nothing kept over a restart.
  case memory
  case server(RedisURL)

  /// `memory:`, or the URL without its password.
  public var description: String {
    switch self {
    case .memory: return "memory:"
    case .server(let url): return url.description
    }
  }

  /// Reads `memory:` or any URL that `RedisURL` takes. What it throws never repeats a password.
  init(parsing text: String) throws(Objection) {
    if text == "memory:" {
      self = .memory
      return
    }
    do {
      self = .server(try RedisURL(parsing: text))
    } catch {
      throw Objection("cannot be used: \(error.message)")
    }
  }
}

/// Where the vendor app listens for gRPC, without TLS.
public struct VendorSetting: Sendable, Hashable, CustomStringConvertible {
  public var address: HostPort

  public init(address: HostPort) {
    self.address = address
  }

  public var description: String { "grpc://\(self.address)" }

  /// Reads `grpc://host:port`.
  init(parsing text: String) throws(Objection) {
    guard let (scheme, rest) = splitScheme(text) else {
      throw Objection("is not a URL")
    }
    switch scheme {
    case "grpc": break
    case "grpcs":
      throw Objection(
        "asks for grpcs://, which this build does not speak (use grpc:// to a TLS tunnel's end on"
          + " this machine)")
    default: throw Objection("has the unknown scheme \(scheme)://")
    }
    let authority = rest.hasSuffix("/") ? rest.dropLast() : rest
    self.address = try HostPort(parsing: String(authority))
    guard self.address.port != 0 else { throw Objection("has the port 0") }
  }
}

/// Where the node listens for its operator.
public enum AdminAddress: Sendable, Hashable, CustomStringConvertible {
  /// A Unix socket, by path; at most 107 bytes.
  case unix(String)
  case tcp(HostPort)

  public var description: String {
    switch self {
    case .unix(let path): return "unix:\(path)"
    case .tcp(let address): return address.description
    }
  }

  /// Whether only processes of this machine can reach it.
  public var isLocal: Bool {
    switch self {
    case .unix: return true
    case .tcp(let address): return address.isLoopback
    }
  }

  /// Reads `unix:PATH` or `host:port`.
  init(parsing text: String) throws(Objection) {
    guard text.hasPrefix("unix:") else {
      self = .tcp(try HostPort(parsing: text))
      return
    }
    let path = String(text.dropFirst("unix:".count))
    guard path.hasPrefix("/") else { throw Objection("does not name an absolute path") }
    guard path.utf8.count <= 107 else {
      throw Objection("has a path of \(path.utf8.count) bytes; the system allows sockets 107")
    }
    self = .unix(path)
  }
}

/// Where `/metrics`, `/healthz` and `/readyz` are served.
public enum MetricsSetting: Sendable, Hashable, CustomStringConvertible {
  case off
  /// The controllers' port + 4,000 on 127.0.0.1.
  case usual
  /// A numeric address; port 0 = any free one.
  case at(HostPort)

  public var description: String {
    switch self {
    case .off: return "off"
    case .usual: return "127.0.0.1:PORT+4000"
    case .at(let address): return address.description
    }
  }

  /// Where to listen when controllers are served on `port`, the port that was bound. The usual
  /// port does not exist above 61,535: then it is any free one. `nil` = nowhere.
  public func address(controllerPort port: UInt16) -> HostPort? {
    switch self {
    case .off: return nil
    case .usual: return HostPort(host: "127.0.0.1", port: port <= 61_535 ? port + 4_000 : 0)
    case .at(let address): return address
    }
  }

  /// Reads `off` or `address:port`; `localhost` stands for 127.0.0.1.
  init(parsing text: String) throws(Objection) {
    if text == "off" {
      self = .off
      return
    }
    var address = try HostPort(parsing: text)
    if address.host == "localhost" { address.host = "127.0.0.1" }
    guard NumericAddress(address.host) != nil else {
      throw Objection("has a name where a numeric address is needed")
    }
    self = .at(address)
  }
}

/// Where the other nodes of the cluster are listened to.
public enum PeersSetting: Sendable, Hashable, CustomStringConvertible {
  /// The controllers' port + 3,000 on 127.0.0.1: for nodes that share a machine.
  case usual
  /// A numeric address; port 0 = any free one.
  case at(HostPort)

  public var description: String {
    switch self {
    case .usual: return "127.0.0.1:PORT+3000"
    case .at(let address): return address.description
    }
  }

  /// Where to listen when controllers are served on `port`. The usual port does not exist above
  /// 62,535: then it is any free one.
  public func address(controllerPort port: UInt16) -> HostPort {
    switch self {
    case .usual: return HostPort(host: "127.0.0.1", port: port <= 62_535 ? port + 3_000 : 0)
    case .at(let address): return address
    }
  }

  /// Whether only this machine reaches it.
  public var isLocal: Bool {
    switch self {
    case .usual: return true
    case .at(let address): return address.isLoopback
    }
  }

  /// Reads `address:port`; `localhost` stands for 127.0.0.1.
  init(parsing text: String) throws(Objection) {
    var address = try HostPort(parsing: text)
    if address.host == "localhost" { address.host = "127.0.0.1" }
    guard NumericAddress(address.host) != nil else {
      throw Objection("has a name where a numeric address is needed")
    }
    self = .at(address)
  }
}

/// `scheme://rest`, the scheme in lower case.
private func splitScheme(_ text: String) -> (scheme: String, rest: Substring)? {
  guard let colon = text.firstIndex(of: ":") else { return nil }
  let after = text[colon...].dropFirst()
  guard after.hasPrefix("//"), colon != text.startIndex else { return nil }
  return (text[..<colon].lowercased(), after.dropFirst(2))
}

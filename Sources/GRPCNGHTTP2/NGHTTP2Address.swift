/// Where a server listens, or what a client connects to.
public enum NGHTTP2Address: Sendable, Hashable {
  /// A TCP endpoint. `host` is a name, an IPv4 or an IPv6 literal (without brackets); for a server
  /// an empty host means all addresses of the machine. `port` is 0…65,535; a server given 0 lets
  /// the system choose (see ``NGHTTP2ServerTransport/listeningAddress``).
  case tcp(host: String, port: Int)

  /// A UNIX domain socket, by path; at most 107 bytes.
  case unix(String)

  /// Reads `host:port`, `[IPv6]:port` or `unix:PATH`.
  ///
  /// - Returns: `nil` when the text is none of these or the port is not a number of 0…65,535.
  public init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let path = text.dropFirst("unix:".count)
      guard !path.isEmpty else { return nil }
      self = .unix(String(path))
      return
    }
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.first == "[" && host.last == "]" {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil  // an IPv6 literal needs its brackets
    }
    self = .tcp(host: String(host), port: Int(port))
  }
}

extension NGHTTP2Address: CustomStringConvertible {
  /// `host:port`, `[IPv6]:port` or `unix:PATH`; ``init(_:)`` reads it back.
  public var description: String {
    switch self {
    case .tcp(let host, let port):
      return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path):
      return "unix:\(path)"
    }
  }

  /// What `:authority` says when nothing else is configured.
  var authority: String {
    switch self {
    case .tcp: return self.description
    case .unix: return "localhost"
    }
  }
}

/// Where a Redis server is and who we are to it: `redis://[user:password@]host[:port][/db]`.
public struct RedisURL: Sendable, Hashable {
  /// A name or a numeric address; IPv6 without its brackets.
  public let host: String
  /// 1…65,535; 6379 when the URL names none.
  public let port: UInt16
  /// nil = the default user.
  public let user: String?
  public let password: String?
  /// 0 when the URL names none.
  public let database: Int

  public init(
    host: String, port: UInt16 = 6379, user: String? = nil, password: String? = nil,
    database: Int = 0
  ) {
    self.host = host
    self.port = port
    self.user = user
    self.password = password
    self.database = database
  }

  /// Reads a URL. The error says what is wrong with it and what to write instead, and never repeats
  /// the password.
  public init(parsing text: String) throws(RedisURLError) {
    guard let mark = text.firstRange(of: "://") else {
      throw RedisURLError(
        "it has no scheme: write redis://host:port/database, as in redis://127.0.0.1:6379/0")
    }
    try Self.checkScheme(text[..<mark.lowerBound].lowercased())

    var rest = text[mark.upperBound...]
    if rest.contains("?") || rest.contains("#") {
      throw RedisURLError(
        "options after ? or # are not known: write redis://[user:password@]host[:port][/database]"
          + " (and ? or # inside a password as %3F or %23)")
    }
    (user, password) = try Self.takeCredentials(&rest)
    database = try Self.takeDatabase(&rest)
    (host, port) = try Self.readAddress(rest)
  }

  private static func checkScheme(_ scheme: String) throws(RedisURLError) {
    switch scheme {
    case "redis": return
    case "rediss":
      throw RedisURLError(
        "this build does not speak TLS to Redis (rediss://): use redis:// over a network or a"
          + " tunnel that you trust")
    case "redis+sentinel":
      throw RedisURLError(
        "this build does not speak to Sentinel (redis+sentinel://): give the address of the"
          + " server itself as redis://host:port")
    default:
      throw RedisURLError("the scheme \(scheme):// is not known: use redis://")
    }
  }

  /// Up to the last `@`, so that one that should have been written %40 does no harm.
  private static func takeCredentials(
    _ rest: inout Substring
  ) throws(RedisURLError) -> (user: String?, password: String?) {
    guard let at = rest.lastIndex(of: "@") else { return (nil, nil) }
    let credentials = rest[..<at]
    rest = rest[rest.index(after: at)...]
    guard let colon = credentials.firstIndex(of: ":") else {
      throw RedisURLError(
        "a user without a password: write user:password@, or :password@ for the default user")
    }
    let user = try decode(credentials[..<colon])
    let password = try decode(credentials[credentials.index(after: colon)...])
    if password.isEmpty {
      throw RedisURLError(
        "the password is empty: leave out everything up to the @ if there is none")
    }
    return (user.isEmpty ? nil : user, password)
  }

  private static func takeDatabase(_ rest: inout Substring) throws(RedisURLError) -> Int {
    guard let slash = rest.firstIndex(of: "/") else { return 0 }
    let path = rest[rest.index(after: slash)...]
    rest = rest[..<slash]
    if path.isEmpty { return 0 }
    guard path.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int32(path) else {
      throw RedisURLError("the database \"\(path)\" is not a number: write /0 … /15, or nothing")
    }
    return Int(number)
  }

  private static func readAddress(
    _ text: Substring
  ) throws(RedisURLError) -> (host: String, port: UInt16) {
    var host = text
    var portText: Substring = "6379"
    if text.first == "[" {
      guard let bracket = text.firstIndex(of: "]") else {
        throw RedisURLError("the IPv6 address has no closing ]: write redis://[::1]:6379")
      }
      host = text[text.index(after: text.startIndex)..<bracket]
      let after = text[text.index(after: bracket)...]
      if after.first == ":" {
        portText = after.dropFirst()
      } else if !after.isEmpty {
        throw RedisURLError("after the ] comes \"\(after)\" where :port was expected")
      }
    } else if let colon = text.firstIndex(of: ":") {
      host = text[..<colon]
      portText = text[text.index(after: colon)...]
      if portText.contains(":") {
        throw RedisURLError("an IPv6 address goes in brackets: write redis://[::1]:6379")
      }
    }
    if host.isEmpty || host.contains(where: { $0.isWhitespace || $0 == "\0" }) {
      throw RedisURLError("it names no host: write redis://host:port")
    }
    guard portText.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(portText),
      port > 0
    else {
      throw RedisURLError("the port \"\(portText)\" is not one of 1 … 65535")
    }
    return (String(host), port)
  }

  private static func decode(_ text: Substring) throws(RedisURLError) -> String {
    var bytes: [UInt8] = []
    var rest = Substring(text).utf8
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = rest.prefix(2)
      guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
      else {
        throw RedisURLError(
          "a % in user or password must be followed by two hexadecimal digits: write % as %25")
      }
      rest = rest.dropFirst(2)
      bytes.append(value)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

extension RedisURL: CustomStringConvertible {
  /// The URL without the password, for people and logs.
  public var description: String {
    let who = password == nil ? "" : "\(user ?? ""):***@"
    let place = host.contains(":") ? "[\(host)]" : host
    return "redis://\(who)\(place):\(port)/\(database)"
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

/// Reads Redis URLs. Pure.
enum RedisURLParser {
  private struct Scheme {
    enum Kind: String {
      case server = ""
      case sentinel = "+sentinel"
      case cluster = "+cluster"
    }

    var kind: Kind
    var isTLS: Bool

    var name: String { (isTLS ? "rediss" : "redis") + kind.rawValue }
    var optionNames: [String] {
      (isTLS ? ["ca", "cert", "key"] : [])
        + (kind == .sentinel ? ["sentinel-user", "sentinel-password"] : [])
    }
  }

  static func parse(_ text: String) throws(RedisURLError) -> RedisURL {
    guard let mark = text.firstRange(of: "://") else {
      throw RedisURLError(
        "it has no scheme: write redis://host:port/database, as in redis://127.0.0.1:6379/0")
    }
    let scheme = try scheme(text[..<mark.lowerBound].lowercased())
    var rest = text[mark.upperBound...]
    let options = try takeOptions(&rest, scheme)
    let (user, password) = try takeCredentials(&rest)
    let tls =
      scheme.isTLS
      ? RedisTLS(ca: options["ca"], certificate: options["cert"], key: options["key"]) : nil
    if tls?.key != nil, tls?.certificate == nil {
      throw RedisURLError("key= without cert=: a key is of no use without its certificate")
    }
    let place: RedisPlace
    let database: Int
    switch scheme.kind {
    case .sentinel: (place, database) = try sentinels(rest, options)
    case .cluster: (place, database) = (try cluster(rest), 0)
    case .server:
      database = try takeDatabase(&rest)
      if rest.contains(",") {
        throw RedisURLError(
          "\(scheme.name):// names one server: for several sentinels write"
            + " redis+sentinel://host,host,host/master, for the nodes of a cluster"
            + " redis+cluster://host,host,host")
      }
      place = .server(try address(rest, standardPort: "6379", form: "redis://host:port"))
    }
    return RedisURL(place, user: user, password: password, database: database, tls: tls)
  }

  private static func scheme(_ text: String) throws(RedisURLError) -> Scheme {
    switch text {
    case "redis": return Scheme(kind: .server, isTLS: false)
    case "rediss": return Scheme(kind: .server, isTLS: true)
    case "redis+sentinel": return Scheme(kind: .sentinel, isTLS: false)
    case "rediss+sentinel": return Scheme(kind: .sentinel, isTLS: true)
    case "redis+cluster": return Scheme(kind: .cluster, isTLS: false)
    case "rediss+cluster": return Scheme(kind: .cluster, isTLS: true)
    default:
      throw RedisURLError(
        "the scheme \(text):// is not known: use redis://, redis+sentinel:// or redis+cluster://,"
          + " with TLS rediss://, rediss+sentinel:// or rediss+cluster://")
    }
  }

  private static func takeOptions(
    _ rest: inout Substring, _ scheme: Scheme
  ) throws(RedisURLError) -> [String: String] {
    guard let mark = rest.firstIndex(where: { $0 == "?" || $0 == "#" }) else { return [:] }
    let text = rest[rest.index(after: mark)...]
    // What comes before an @ may be part of a password and is not repeated.
    if rest[mark] == "#" || text.contains("@") {
      throw RedisURLError(
        "a # is not known in it, and what follows a ? are options: write ? # and @ as %3F %23 and"
          + " %40 inside user, password and options")
    }
    rest = rest[..<mark]
    var options: [String: String] = [:]
    for part in text.split(separator: "&") {
      let name = String(part.prefix { $0 != "=" })
      guard scheme.optionNames.contains(name) else {
        let known = scheme.optionNames.joined(separator: ", ")
        throw RedisURLError(
          "among its options \"\(name)\" is not known"
            + (known.isEmpty ? ": \(scheme.name):// has none" : "; \(scheme.name):// has \(known)")
            + " (and a ? inside a password is written %3F)")
      }
      let value = try decode(part.dropFirst(name.count + 1))
      if value.isEmpty || value.utf8.contains(0) {
        throw RedisURLError("the option \(name)= is empty or holds a %00: leave it out")
      }
      if options.updateValue(value, forKey: name) != nil {
        throw RedisURLError("the option \(name)= is given twice")
      }
    }
    return options
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

  private static func sentinels(
    _ text: Substring, _ options: [String: String]
  ) throws(RedisURLError) -> (RedisPlace, Int) {
    let form = "redis+sentinel://host,host,host/master"
    guard let slash = text.firstIndex(of: "/") else {
      throw RedisURLError("it does not name the master: write \(form)")
    }
    var path = text[text.index(after: slash)...]
    let name = path.prefix { $0 != "/" }
    path = path[name.endIndex...]
    let database = try takeDatabase(&path)
    let master = try decode(name)
    guard !master.isEmpty, master.utf8.allSatisfy({ (33...126).contains($0) }) else {
      throw RedisURLError("the name of the master is missing or holds blanks: write \(form)")
    }
    let addresses = try addresses(
      text[..<slash], standardPort: "26379", form: form, atMost: RedisSentinels.countMax,
      each: "a sentinel")
    if options["sentinel-user"] != nil, options["sentinel-password"] == nil {
      throw RedisURLError("sentinel-user= without sentinel-password=: give both, or neither")
    }
    let sentinels = RedisSentinels(
      addresses, master: master, user: options["sentinel-user"],
      password: options["sentinel-password"])
    return (.sentinels(sentinels), database)
  }

  private static func cluster(_ text: Substring) throws(RedisURLError) -> RedisPlace {
    let list = text.prefix { $0 != "/" }
    if text.endIndex > list.endIndex, text[list.endIndex...] != "/" {
      throw RedisURLError(
        "a Redis Cluster has no databases, and its masters no names: leave out"
          + " \"\(text[list.endIndex...])\"")
    }
    return .cluster(
      RedisSeeds(
        try addresses(
          list, standardPort: "6379", form: "redis+cluster://host,host,host",
          atMost: RedisSeeds.countMax, each: "a node of the cluster")))
  }

  private static func addresses(
    _ text: Substring, standardPort: Substring, form: String, atMost most: Int, each: String
  ) throws(RedisURLError) -> [RedisAddress] {
    var addresses: [RedisAddress] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      addresses.append(try address(part, standardPort: standardPort, form: form))
    }
    guard addresses.count <= most, Set(addresses).count == addresses.count else {
      throw RedisURLError("it names \(each) twice, or more than \(most): name each once")
    }
    return addresses
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

  private static func address(
    _ text: Substring, standardPort: Substring, form: String
  ) throws(RedisURLError) -> RedisAddress {
    var host = text
    var portText = standardPort
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
      throw RedisURLError("it names no host: write \(form)")
    }
    guard portText.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(portText),
      port > 0
    else {
      throw RedisURLError("the port \"\(portText)\" is not one of 1 … 65535")
    }
    return RedisAddress(host: String(host), port: port)
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
          "a % must be followed by two hexadecimal digits: write % itself as %25")
      }
      rest = rest.dropFirst(2)
      bytes.append(value)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

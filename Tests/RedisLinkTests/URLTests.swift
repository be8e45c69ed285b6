import RedisLink
import Testing

@Suite struct URLs {
  @Test("every part of a URL is read, and those left out have their defaults")
  func parts() throws {
    #expect(try RedisURL(parsing: "redis://h") == RedisURL(host: "h"))
    #expect(try RedisURL(parsing: "REDIS://h:7000/") == RedisURL(host: "h", port: 7000))
    #expect(try RedisURL(parsing: "redis://h/15") == RedisURL(host: "h", database: 15))
    #expect(
      try RedisURL(parsing: "redis://:p@h") == RedisURL(host: "h", password: "p"))
    #expect(
      try RedisURL(parsing: "redis://ann:p%40%3Aw@h:1/2")
        == RedisURL(host: "h", port: 1, user: "ann", password: "p@:w", database: 2))
    #expect(
      try RedisURL(parsing: "redis://[::1]:7/3") == RedisURL(host: "::1", port: 7, database: 3))
    #expect(try RedisURL(parsing: "redis://[::1]") == RedisURL(host: "::1"))
    #expect(
      try RedisURL(parsing: "redis://u:a@b@h") == RedisURL(host: "h", user: "u", password: "a@b"))
    #expect(try RedisURL(parsing: "rediss://h") == RedisURL(host: "h", tls: RedisTLS()))
    #expect(
      try RedisURL(parsing: "rediss://:p@h:1/2?ca=/a%20b&cert=/c&key=/k")
        == RedisURL(
          host: "h", port: 1, password: "p", database: 2,
          tls: RedisTLS(ca: "/a b", certificate: "/c", key: "/k")))
  }

  @Test("sentinels are read with their own port and password, and the name of the master")
  func sentinels() throws {
    let two = [RedisAddress(host: "a", port: 26379), RedisAddress(host: "::1", port: 7)]
    #expect(
      try RedisURL(parsing: "redis+sentinel://a,[::1]:7/m")
        == RedisURL(.sentinels(RedisSentinels(two, master: "m"))))
    let text = "rediss+sentinel://u:p@a,[::1]:7/m/3?sentinel-user=s&sentinel-password=q%26&ca=/c"
    let url = try RedisURL(parsing: text)
    #expect(
      url
        == RedisURL(
          .sentinels(RedisSentinels(two, master: "m", user: "s", password: "q&")), user: "u",
          password: "p", database: 3, tls: RedisTLS(ca: "/c")))
    #expect(
      "\(url)"
        == "rediss+sentinel://u:***@a:26379,[::1]:7/m/3?sentinel-user=s&sentinel-password=***&ca=/c"
    )
  }

  @Test("the nodes of a cluster are read with the server's port, and have no database")
  func cluster() throws {
    let two = [RedisAddress(host: "a", port: 6379), RedisAddress(host: "::1", port: 7)]
    #expect(
      try RedisURL(parsing: "redis+cluster://a,[::1]:7") == RedisURL(.cluster(RedisSeeds(two))))
    let url = try RedisURL(parsing: "rediss+cluster://u:p@a,[::1]:7/?ca=/c")
    #expect(
      url
        == RedisURL(
          .cluster(RedisSeeds(two)), user: "u", password: "p", tls: RedisTLS(ca: "/c")))
    #expect("\(url)" == "rediss+cluster://u:***@a:6379,[::1]:7?ca=/c")
  }

  @Test(
    "a URL that cannot be used is refused with a word that says why",
    arguments: [
      ("localhost:6379", "scheme"), ("", "scheme"), ("http://h", "http"),
      ("rediss://h?key=/k", "cert="), ("rediss://h?ca=", "empty"),
      ("rediss://h?ca=a&ca=b", "twice"),
      ("rediss://h?name=x", "ca, cert, key"), ("redis://h?ca=/x", "redis:// has none"),
      ("redis://h1,h2", "sentinels"), ("redis://h1,h2", "redis+cluster://"),
      ("redis+cluster://a/0", "no databases"), ("redis+cluster://a,b/doors", "no names"),
      ("redis+cluster://a,a:6379", "twice"), ("redis+cluster://a,,b", "host"),
      ("redis+cluster://a?sentinel-user=u", "has none"), ("redis+clusters://a", "not known"),
      ("redis+cluster://\((0...16).map { "h\($0)" }.joined(separator: ","))", "16"),
      ("redis+sentinel://a,b", "master"),
      ("redis+sentinel://a,b/", "master"), ("redis+sentinel://a,,b/m", "host"),
      ("redis+sentinel://a,a:26379/m", "twice"), ("redis+sentinel://a/m/x", "database"),
      ("redis+sentinel://a/m?ca=/x", "sentinel-user"),
      ("redis+sentinel://a/m?sentinel-user=u", "sentinel-password"),
      ("redis+sentinel://\((0...16).map { "h\($0)" }.joined(separator: ","))/m", "16"),
      ("redis://", "host"),
      ("redis://:6379", "host"), ("redis://h:0", "port"), ("redis://h:70000", "port"),
      ("redis://h:", "port"), ("redis://h:+1", "port"), ("redis://h/x", "database"),
      ("redis://h/-1", "database"), ("redis://h/1/2", "database"), ("redis://::1", "brackets"),
      ("redis://[::1", "]"), ("redis://[::1]x", "]"), ("redis://u@h", "password"),
      ("redis://u:@h", "password"), ("redis://:%zz@h", "%25"), ("redis://:%4@h", "%25"),
      ("redis://h?db=1", "options"), ("redis://a b", "host"),
    ])
  func refused(text: String, word: String) {
    do {
      let url = try RedisURL(parsing: text)
      Issue.record("taken as \(url)")
    } catch {
      #expect(error.message.contains(word), "\(error)")
    }
  }

  @Test("neither a URL's description nor its error shows the password")
  func redacted() throws {
    let url = try RedisURL(parsing: "redis://ann:secret@h/1")
    #expect("\(url)" == "redis://ann:***@h:6379/1")
    let tls = "rediss://ann:***@[::1]:6379/0?ca=/ca&cert=/c"
    #expect("\(try RedisURL(parsing: "rediss://ann:secret@[::1]?cert=/c&ca=/ca"))" == tls)
    for text in [
      "redis://ann:secret@h:x", "redis://ann:secret@h/x", "redis://ann:secret@",
      "redis://ann:?secret@h", "redis://ann:#secret@h", "rediss://h?ca=x&secret@h",
      "redis+sentinel://h?sentinel-password=secret",
    ] {
      do {
        _ = try RedisURL(parsing: text)
        Issue.record("taken: \(text)")
      } catch {
        #expect(!"\(error)".contains("secret"))
      }
    }
  }
}

import RedisLink
import Testing

@testable import ClusterDriver

@Suite("Values of settings")
struct SettingValueTests {
  @Test("memory: and Redis URLs are taken, and shown without the password")
  func redis() throws {
    #expect(try RedisSetting(parsing: "memory:") == .memory)
    let setting = try RedisSetting(parsing: "redis://ops:secret@r1/2")
    #expect(
      setting == .server(RedisURL(host: "r1", user: "ops", password: "secret", database: 2)))
    #expect(setting.description == "redis://ops:***@r1:6379/2")
    let found = try RedisSetting(
      parsing: "rediss+sentinel://ops:secret@s1,s2/doors?ca=/ca.pem&sentinel-password=hidden")
    #expect(
      found.description
        == "rediss+sentinel://ops:***@s1:26379,s2:26379/doors/0?sentinel-password=***&ca=/ca.pem")
    let cluster = try RedisSetting(parsing: "redis+cluster://ops:secret@r1,r2:7000")
    #expect(cluster.description == "redis+cluster://ops:***@r1:6379,r2:7000")
  }

  @Test("what is no Redis URL is refused", arguments: ["", "memory", "redis://", "http://r1"])
  func badRedis(text: String) {
    #expect(throws: Objection.self) { try RedisSetting(parsing: text) }
  }

  @Test("what is shown of a time or a size can be read again")
  func roundTrips() throws {
    let times: [Duration] = [
      .milliseconds(0), .milliseconds(1), .milliseconds(1_500), .seconds(1), .seconds(60),
      .seconds(90), .seconds(7_200),
    ]
    for time in times {
      let shown = SettingValue.show(time)
      #expect(try SettingValue.duration(shown, in: .zero...(.seconds(10_000))) == time)
    }
    for size in [0, 1, 1_023, 1_024, 1_025, 8 << 20, 1 << 30] {
      let shown = SettingValue.show(bytes: size)
      #expect(try SettingValue.bytes(shown, in: 0...(1 << 30)) == size)
    }
  }

  @Test("numbers too long for any type are out of range, not a crash")
  func longNumbers() {
    let long = String(repeating: "9", count: 400)
    #expect(throws: Objection("is outside 1 … 64")) {
      try SettingValue.number(long, in: 1...64)
    }
    #expect(throws: Objection.self) {
      try SettingValue.duration(long + "s", in: .zero...(.seconds(1)))
    }
    #expect(throws: Objection.self) {
      try SettingValue.duration("999999999999h", in: .zero...(.seconds(1)))
    }
    #expect(throws: Objection.self) { try SettingValue.bytes(long + "g", in: 0...1) }
  }

  @Test("the usual metrics port is the controllers' + 4000, or any free one above 61535")
  func usualMetricsPort() {
    #expect(MetricsSetting.usual.address(controllerPort: 61_535)?.port == 65_535)
    #expect(MetricsSetting.usual.address(controllerPort: 61_536)?.port == 0)
    #expect(MetricsSetting.off.address(controllerPort: 1) == nil)
  }

  @Test("a word one slip away is suggested, a far one is not")
  func suggestions() {
    #expect(editDistance("prot", "port") == 1)
    #expect(editDistance("", "port") == 4)
    #expect(editDistance("kitten", "sitting") == 3)
    #expect(suggestion(for: "--prot", among: ["--port", "--redis"]) == "; did you mean --port?")
    #expect(suggestion(for: "--quiet", among: ["--port", "--redis"]).isEmpty)
  }

  @Test("a quoted value cannot break the line it stands in")
  func quoting() {
    #expect(quoted("a\"b\n\u{1B}[0m") == #""a\"b\x0a\x1b[0m""#)
    #expect(quoted(String(repeating: "x", count: 500)).count == 203)
  }
}

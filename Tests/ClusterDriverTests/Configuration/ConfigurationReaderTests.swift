import Testing

@testable import ClusterDriver

@Suite("Configuration")
struct ConfigurationReaderTests {
  static let enough = ["--redis", "memory:", "--vendor", "grpc://127.0.0.1:7001"]

  static func read(
    _ arguments: [String] = [], _ environment: [String: String] = [:],
    files: [String: String] = [:]
  ) throws(ConfigurationError) -> NodeInvocation {
    try ConfigurationReader(arguments: arguments, environment: environment) { path in files[path] }
      .read()
  }

  static func configuration(
    _ arguments: [String] = [], _ environment: [String: String] = [:],
    files: [String: String] = [:]
  ) throws -> NodeConfiguration {
    guard case .run(let configuration, _) = try read(arguments, environment, files: files) else {
      throw ConfigurationError(problems: ["not a run"])
    }
    return configuration
  }

  static func problems(
    _ arguments: [String] = [], _ environment: [String: String] = [:],
    files: [String: String] = [:]
  ) -> [String] {
    do {
      _ = try read(arguments, environment, files: files)
      return []
    } catch {
      return error.problems
    }
  }

  @Test("two settings suffice, and the others have the documented defaults")
  func defaults() throws {
    let configuration = try Self.configuration(Self.enough)
    #expect(
      configuration
        == NodeConfiguration(
          redis: .memory,
          vendor: VendorSetting(address: HostPort(host: "127.0.0.1", port: 7001))))
    #expect(configuration.port == 5001)
    #expect(configuration.window == EventWindow(k: 64, w: 16))
    #expect(configuration.metrics.address(controllerPort: 5001)?.description == "127.0.0.1:9001")
  }

  @Test("what help calls a default is the default")
  func helpTellsTheDefaults() throws {
    let plain = try Self.configuration(Self.enough)
    for option in ConfigurationOption.all {
      // These are words, not values.
      guard let standard = option.standard,
        !["node-id", "advertise", "peers", "state-file", "admin", "metrics", "ready-file"].contains(
          option.name)
      else { continue }
      let variable = option.isInEnvironment ? [option.variable: standard] : [:]
      #expect(try Self.configuration(Self.enough, variable) == plain, "\(option.name)")
      #expect(option.show(plain) == standard, "\(option.name)")
    }
  }

  @Test("a flag goes before the environment, and that before the .env file")
  func precedence() throws {
    let files = [".env": "CLUSTER_DRIVER_PORT=1\nCLUSTER_DRIVER_BIND=127.0.0.1\nOTHER=x\n"]
    let environment = ["CLUSTER_DRIVER_PORT": "2", "PATH": "/bin"]
    #expect(try Self.configuration(Self.enough, files: files).port == 1)
    #expect(try Self.configuration(Self.enough, environment, files: files).port == 2)
    let all = try Self.configuration(Self.enough + ["--port", "3"], environment, files: files)
    #expect(all.port == 3)
    #expect(all.bind == "127.0.0.1")
  }

  @Test("each setting can be given as a flag, in either form, and as a variable")
  func everySettingEverywhere() throws {
    for (name, value) in Self.unusual {
      let option = try #require(ConfigurationOption.all.first { $0.name == name })
      let plain = try Self.configuration(Self.enough)
      let joined = try Self.configuration(Self.enough + ["\(option.flag)=\(value)"])
      #expect(joined != plain, "\(name)")
      if option.form != .toggle {
        #expect(try Self.configuration(Self.enough + [option.flag, value]) == joined, "\(name)")
      } else {
        #expect(try Self.configuration(Self.enough + [option.flag]) == joined, "\(name)")
      }
      if option.isInEnvironment, name != "redis", name != "vendor" {
        #expect(try Self.configuration(Self.enough, [option.variable: value]) == joined, "\(name)")
      }
      // What is shown can be given again.
      #expect(
        try Self.configuration(Self.enough + ["\(option.flag)=\(option.show(joined))"])
          == joined, "\(name)")
    }
    #expect(Self.unusual.count == ConfigurationOption.all.count)
  }

  /// A value for every setting that is not its default.
  static let unusual = [
    ("redis", "redis://10.0.0.5:6380/3"), ("vendor", "grpc://localhost:7002"), ("port", "0"),
    ("bind", "::1"), ("node-id", "host-1:5001"), ("advertise", "[2001:db8::1]:5001"),
    ("cluster", "north"), ("peers", "[::1]:0"), ("tolerance", "3"),
    ("trusted-proxies", "10.0.0.0/24,2001:db8::1"), ("state-file", "/tmp/state"),
    ("admin", "unix:/run/x.sock"), ("metrics", "[::1]:0"), ("io-threads", "3"),
    ("connections-max", "1000000"), ("window", "1024/1"), ("parking", "true"), ("t1", "1m"),
    ("t2", "20ms"), ("t3", "1h"), ("in-flight-bytes", "64KiB"), ("log", "stderr"),
    ("log-level", "trace"), ("ready-file", "/tmp/ready"), ("insecure", "true"), ("check", "true"),
    ("release", "true"),
  ]

  @Test("an empty variable counts as not set")
  func emptyVariable() throws {
    #expect(try Self.configuration(Self.enough, ["CLUSTER_DRIVER_PORT": ""]).port == 5001)
    let files = [".env": "CLUSTER_DRIVER_PORT=\n"]
    #expect(try Self.configuration(Self.enough, files: files).port == 5001)
  }

  @Test("of a flag given twice the last one holds")
  func twice() throws {
    #expect(try Self.configuration(Self.enough + ["--port", "1", "--port=2"]).port == 2)
    #expect(try !Self.configuration(Self.enough + ["--insecure", "--insecure=no"]).insecure)
  }

  @Test("--env-file takes the place of .env and must exist")
  func environmentFile() throws {
    let files = [".env": "CLUSTER_DRIVER_PORT=1", "/etc/x.env": "export CLUSTER_DRIVER_BIND=::1"]
    let read = try Self.configuration(Self.enough + ["--env-file", "/etc/x.env"], files: files)
    #expect(read.port == 5001)
    #expect(read.bind == "::1")
    #expect(
      Self.problems(Self.enough + ["--env-file=/none"]) == [
        """
        --env-file "/none" does not exist; name an existing file, leave it out, or write \
        --env-file=-/none for one that may be missing
        """
      ])
  }

  @Test("of several files the later ones go before, and one named with a - may be missing")
  func environmentFiles() throws {
    let files = [
      "/a.env": "CLUSTER_DRIVER_PORT=1\nCLUSTER_DRIVER_BIND=::1", "/b.env": "CLUSTER_DRIVER_PORT=2",
    ]
    let read = try Self.configuration(
      Self.enough + ["--env-file=-/a.env", "--env-file", "-/none", "--env-file", "/b.env"],
      files: files)
    #expect(read.port == 2)
    #expect(read.bind == "::1")
  }

  @Test("a .env file that cannot be read is an error, not an empty file")
  func unreadableFile() {
    let reader = ConfigurationReader(arguments: Self.enough, environment: [:]) {
      _ throws(ConfigurationReader.FileProblem) in
      throw ConfigurationReader.FileProblem(why: "permission denied")
    }
    #expect(throws: ConfigurationError(problems: [".env cannot be read: permission denied"])) {
      try reader.read()
    }
  }

  @Test("help and version go before everything else")
  func helpAndVersion() throws {
    #expect(try Self.read(["--port", "x", "--help"]) == .help(ConfigurationHelp.text))
    #expect(try Self.read(["-h"]) == .help(ConfigurationHelp.text))
    #expect(try Self.read(["--version", "--nonsense"]) == .version)
  }

  @Test("help names every setting and keeps to 100 columns")
  func help() {
    for option in ConfigurationOption.all {
      #expect(ConfigurationHelp.text.contains("  \(option.flag)"))
    }
    for line in ConfigurationHelp.text.split(separator: "\n") {
      #expect(line.count <= 100, "\(line)")
    }
  }

  @Test("the settings in force are told with where they came from, and without the password")
  func settingsInForce() throws {
    let files = [".env": "\nCLUSTER_DRIVER_REDIS=redis://ops:geheim@r1/2\n"]
    guard
      case .run(_, let settings) = try Self.read(
        ["--vendor=grpc://localhost:1"], ["CLUSTER_DRIVER_PORT": "5002"], files: files)
    else {
      Issue.record("not a run")
      return
    }
    let told = Dictionary(uniqueKeysWithValues: settings.map { ($0.name, $0) })
    #expect(told["redis"]?.value == "redis://ops:***@r1:6379/2")
    #expect(told["redis"]?.origin == "CLUSTER_DRIVER_REDIS in .env line 2")
    #expect(told["port"]?.origin == "CLUSTER_DRIVER_PORT")
    #expect(told["vendor"]?.origin == "--vendor")
    #expect(told["bind"]?.origin == "default")
    #expect(settings.count == ConfigurationOption.all.count)
  }

  @Test("the node's name is the configured one, else what it advertises with the bound port")
  func nodeName() throws {
    var configuration = try Self.configuration(Self.enough)
    #expect(configuration.nodeName(boundPort: 40001, hostname: "h1") == "h1:40001")
    configuration.advertise = HostPort(host: "2001:db8::1", port: 5001)
    #expect(configuration.nodeName(boundPort: 40001, hostname: "h1") == "[2001:db8::1]:5001")
    configuration.nodeID = "gate"
    #expect(configuration.nodeName(boundPort: 40001, hostname: "h1") == "gate")
  }
}

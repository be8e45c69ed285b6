import Testing

@testable import ClusterDriver

private let redisAllowed =
  "redis://[user:password@]host[:port][/database], rediss:// (TLS),"
  + " redis+sentinel://host,…/master[/database], redis+cluster://host,…, rediss+sentinel://,"
  + " rediss+cluster:// or memory:"

/// What a wrong configuration is answered with: where the value is from, the value, why, what to do.
@Suite("Configuration errors")
struct ConfigurationErrorTests {
  typealias Reader = ConfigurationReaderTests

  @Test(
    "a bad value is told with its origin, why, and what is allowed",
    arguments: [
      (
        "--port=70000",
        "--port: \"70000\" is outside 0 … 65535; allowed: 0 … 65535 (0 = any free one)"
      ),
      ("--port=x", "--port: \"x\" is not a whole number; allowed: 0 … 65535 (0 = any free one)"),
      ("--port=-1", "--port: \"-1\" is not a whole number; allowed: 0 … 65535 (0 = any free one)"),
      ("--port=", "--port: \"\" is not a whole number; allowed: 0 … 65535 (0 = any free one)"),
      (
        "--bind=localhost",
        "--bind: \"localhost\" is not a numeric address; allowed: a numeric IPv4 or IPv6 address"
      ),
      (
        "--node-id=a b",
        "--node-id: \"a b\" is not a name; allowed: 1 … 128 letters, digits and any of . - _ : [ ]"
      ),
      (
        "--advertise=::1:5001",
        "--advertise: \"::1:5001\" is not clear: an IPv6 address needs brackets, as in [::1]:5001;"
          + " allowed: host:port or [IPv6]:port (port 0 = the one for controllers)"
      ),
      (
        "--advertise=gate",
        "--advertise: \"gate\" has no port; allowed: host:port or [IPv6]:port (port 0 = the one"
          + " for controllers)"
      ),
      (
        "--admin=unix:run/x",
        "--admin: \"unix:run/x\" does not name an absolute path; allowed: unix:/PATH (at most 107"
          + " bytes) or host:port"
      ),
      (
        "--metrics=gate:9001",
        "--metrics: \"gate:9001\" has a name where a numeric address is needed; allowed: a numeric"
          + " address and a port (0 = any free one), or off"
      ),
      (
        "--io-threads=65",
        "--io-threads: \"65\" is outside 1 … 64; allowed: 1 … 64, or auto (one a core)"
      ),
      (
        "--connections-max=0",
        "--connections-max: \"0\" is outside 1 … 1000000; allowed: 1 … 1000000"
      ),
      (
        "--window=64",
        "--window: \"64\" is not two whole numbers with a slash between them; allowed: k/w with k"
          + " 1 … 1024 and w 1 … k"
      ),
      (
        "--window=8/9",
        "--window: \"8/9\" has a w outside 1 … k; allowed: k/w with k 1 … 1024 and w 1 … k"
      ),
      ("--t1=15", "--t1: \"15\" has no unit (ms, s, m, h); allowed: 100ms … 10m"),
      ("--t1=15d", "--t1: \"15d\" has an unknown unit (use ms, s, m or h); allowed: 100ms … 10m"),
      ("--t1=1h", "--t1: \"1h\" is outside 100ms … 10m; allowed: 100ms … 10m"),
      (
        "--t3=s", "--t3: \"s\" is not a whole number with a unit (ms, s, m, h); allowed: 100ms … 1h"
      ),
      (
        "--in-flight-bytes=2GiB",
        "--in-flight-bytes: \"2GiB\" is outside 64KiB … 1GiB; allowed: 64KiB … 1GiB"
      ),
      (
        "--log=syslog",
        "--log: \"syslog\" is none of the words it can be; allowed: journal, stderr or auto"
      ),
      (
        "--insecure=maybe",
        "--insecure: \"maybe\" is neither true nor false; allowed: true or false"
      ),
      (
        "--vendor=grpcs://v:1",
        "--vendor: \"grpcs://v:1\" asks for grpcs://, which this build does not speak (use grpc://"
          + " to a TLS tunnel's end on this machine); allowed: grpc://host:port"
      ),
      (
        "--vendor=127.0.0.1:1",
        "--vendor: \"127.0.0.1:1\" is not a URL; allowed: grpc://host:port"
      ),
      (
        "--redis=rediss://r1?key=/k",
        "--redis: (not shown) cannot be used: key= without cert=: a key is of no use without its"
          + " certificate; allowed: \(redisAllowed)"
      ),
      (
        "--redis=redis+sentinel://s1?sentinel-password=geheim",
        "--redis: (not shown) cannot be used: it does not name the master: write"
          + " redis+sentinel://host,host,host/master; allowed: \(redisAllowed)"
      ),
      (
        "--redis=redis+cluster://r1/1",
        "--redis: \"redis+cluster://r1/1\" cannot be used: a Redis Cluster has no databases, and its"
          + " masters no names: leave out \"/1\"; allowed: \(redisAllowed)"
      ),
      (
        "--redis=redis://u:secret@r1/x",
        "--redis: (not shown) cannot be used: the database \"x\" is not a number: write /0 … /15, or"
          + " nothing; allowed: \(redisAllowed)"
      ),
      ("--prot=1", "\"--prot\" is not a known flag; did you mean --port?, see --help"),
      ("--colour=1", "\"--colour\" is not a known flag, see --help"),
      ("5001", "\"5001\" is not a flag; every setting begins with --, see --help"),
      (
        "--t2=15s",
        "--t2: 15s is not less than t1 (15s); acknowledgements must come before a"
          + " controller would give the connection up"
      ),
    ])
  func badValue(argument: String, message: String) {
    #expect(Reader.problems(Reader.enough + [argument]) == [message])
  }

  @Test("the origin is told as a variable, or as a line of a file")
  func origins() {
    #expect(
      Reader.problems(Reader.enough, ["CLUSTER_DRIVER_PORT": "x"]) == [
        "CLUSTER_DRIVER_PORT: \"x\" is not a whole number; allowed: 0 … 65535 (0 = any free one)"
      ])
    let files = [".env": "# ports\n\nCLUSTER_DRIVER_PORT=x"]
    #expect(
      Reader.problems(Reader.enough, files: files) == [
        "CLUSTER_DRIVER_PORT in .env line 3: \"x\" is not a whole number; allowed: 0 … 65535"
          + " (0 = any free one)"
      ])
  }

  @Test("an unknown CLUSTER_DRIVER_ variable is an error with a suggestion")
  func unknownVariable() {
    #expect(
      Reader.problems(Reader.enough, ["CLUSTER_DRIVER_PROT": "1"]) == [
        "CLUSTER_DRIVER_PROT: no setting has this name; did you mean CLUSTER_DRIVER_PORT?"
      ])
    // Asks for something and exits: not a setting of a service.
    #expect(Reader.problems(Reader.enough, ["CLUSTER_DRIVER_CHECK": "1"]).count == 1)
    #expect(Reader.problems(Reader.enough, ["CLUSTER_DRIVERS": "1"]).isEmpty)
  }

  @Test("what must be given is asked for, once, and all problems come together")
  func missing() {
    let problems = Reader.problems(["--port", "x"])
    #expect(problems.count == 3)
    #expect(problems.contains { $0.hasPrefix("no --redis (or CLUSTER_DRIVER_REDIS)") })
    #expect(problems.contains { $0.hasPrefix("no --vendor (or CLUSTER_DRIVER_VENDOR)") })
    #expect(Reader.problems(["--redis=x", "--vendor=y"]).count == 2)
  }

  @Test("a flag without its value does not swallow the next flag")
  func valueForgotten() {
    #expect(
      Reader.problems(Reader.enough + ["--port", "--insecure"]) == [
        "--port needs a value; allowed: 0 … 65535 (0 = any free one)"
      ])
    #expect(Reader.problems(Reader.enough + ["--env-file"]) == ["--env-file needs a value: a path"])
  }

  @Test("plain gRPC off loopback is refused without --insecure, and says what to do")
  func insecure() throws {
    let remote = ["--redis=memory:", "--vendor=grpc://10.0.0.5:7001"]
    let refused = Reader.problems(remote)
    #expect(refused.count == 1)
    #expect(
      refused[0].hasPrefix("--vendor: grpc://10.0.0.5:7001 is on another machine")
        && refused[0].contains("--insecure"))
    #expect(try Reader.configuration(remote + ["--insecure"]).insecure)

    let admin = Reader.problems(
      Reader.enough, ["CLUSTER_DRIVER_ADMIN": "0.0.0.0:7000"])
    #expect(admin.count == 1)
    #expect(admin[0].hasPrefix("CLUSTER_DRIVER_ADMIN: 0.0.0.0:7000 can be reached from other"))
    for local in ["localhost:1", "127.0.3.4:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
      #expect(Reader.problems(Reader.enough + ["--admin=\(local)"]).isEmpty)
    }
  }
}

import Election
import RedisLink
import Testing

@testable import ClusterDriver

@Suite("As what a node joins its cluster")
struct MembershipTests {
  private static func settings(
    environment: [String: String] = [:], _ change: (inout NodeConfiguration) -> Void = { _ in }
  ) throws -> ClusterMember.Settings {
    let url = RedisURL(host: "10.0.0.2", port: 6379)
    var configuration = NodeConfiguration(
      redis: .server(url), vendor: VendorSetting(address: HostPort(host: "localhost", port: 1)))
    change(&configuration)
    return try configuration.membership(
      of: "a", incarnation: 7, redis: url, boundPort: 5001, hostname: "gate",
      environment: environment)
  }

  @Test("peers reach it where it listens, or, where that is everywhere, where it says that it is")
  func peers() throws {
    #expect(try Self.settings().peersBind == HostPort(host: "127.0.0.1", port: 8001))
    #expect(try Self.settings().peersHost == "127.0.0.1")
    for everywhere in ["0.0.0.0", "::"] {
      let settings = try Self.settings {
        $0.peers = .at(HostPort(host: everywhere, port: 9000))
        $0.advertise = HostPort(host: "10.0.0.7", port: 0)
      }
      #expect(settings.peersHost == "10.0.0.7")
      #expect(settings.status.controllersAt == "10.0.0.7:5001")
    }
    let settings = try Self.settings { $0.peers = .at(HostPort(host: "10.1.0.7", port: 9000)) }
    #expect(settings.peersHost == "10.1.0.7")
    #expect(settings.status.controllersAt == "gate:5001")
  }

  @Test("what it keeps is where it is told, else where the service manager has made a place")
  func stateFile() throws {
    #expect(try Self.settings().stateFile == nil)
    let environment = ["STATE_DIRECTORY": "/var/lib/cluster-driver:/var/lib/other"]
    #expect(
      try Self.settings(environment: environment).stateFile
        == "/var/lib/cluster-driver/5001.state")
    #expect(
      try Self.settings(environment: environment) { $0.stateFile = "/tmp/x" }.stateFile == "/tmp/x")
  }

  @Test("peers on other machines are listened to only where that was allowed")
  func insecure() {
    func problems(_ flags: [String]) -> [String] {
      let reader = ConfigurationReader(
        arguments: ["--redis", "redis://h", "--vendor", "grpc://localhost:1"] + flags,
        environment: [:], readFile: { _ in nil })
      do {
        _ = try reader.read()
        return []
      } catch {
        return error.problems.map { "\($0)" }
      }
    }
    #expect(problems(["--peers", "127.0.0.1:8001"]).isEmpty)
    #expect(problems(["--peers", "10.0.0.7:8001", "--insecure"]).isEmpty)
    let refused = problems(["--peers", "10.0.0.7:8001"])
    #expect(refused.count == 1 && refused[0].contains("--insecure"))
  }
}

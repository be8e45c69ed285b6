import ArgumentParser
import DriverProtocol
import GRPCNGHTTP2
import Testing

@testable import clusterctl

@Suite("What is typed")
struct SendTests {
  private func command(_ line: String) throws -> Clusterdriver_V1_Command {
    try ActionArguments(Send.parse(line.split(separator: " ").map(String.init)))
      .command(now: 1_000_000)
  }

  @Test("unlock is urgent and has a deadline, ten seconds unless said otherwise")
  func unlock() throws {
    let plain = try command("12345 unlock --door 2")
    #expect(plain.serial == 12345)
    #expect(plain.lane == .urgent)
    #expect(plain.notAfterMs == 1_010_000)
    #expect(plain.unlock.door == 2)
    #expect(plain.id.count == 16)
    let full = try command("1 unlock --door 65535 --within 5s --duration 3s --lane normal")
    #expect(full.notAfterMs == 1_005_000)
    #expect(full.unlock.durationMs == 3_000)
    #expect(full.lane == .normal)
    #expect(try command("12345 unlock --door 2").id != plain.id)
  }

  @Test("the other actions become their messages")
  func others() throws {
    #expect(try command("1 door-mode --door 3 --mode locked").setDoorMode.mode == .locked)
    let pulse = try command("1 output --output 4 --state pulse --duration 500ms").setOutput
    #expect(pulse.output == 4 && pulse.state == .pulse && pulse.pulseMs == 500)
    #expect(try command("1 reboot --delay 5s").reboot.delayMs == 5_000)
    #expect(try command("1 set-clock").action == .setClock(.init()))
    #expect(try command("1 status").action == .queryStatus(.init()))
    #expect(try command("1 status").notAfterMs == 0)
    let raw = try command("1 raw --code 99 --body 00ffA0 --id 000102030405060708090a0b0c0d0e0f")
    #expect(Array(raw.raw.body) == [0, 255, 160] && raw.raw.code == 99)
    #expect(Array(raw.id) == Array(0...15))
  }

  @Test(
    "what is missing, wrong or too much is refused with its reason",
    arguments: [
      ("1 open", "“open” is no action"),
      ("1 unlock", "unlock needs --door N"),
      ("1 unlock --door 0", "unlock needs --door N"),
      ("1 unlock --door 65536", "unlock needs --door N"),
      ("1 unlock --door 1 --mode locked", "unlock has no --mode"),
      ("1 door-mode --door 1 --mode ajar", "--mode card|locked|unlocked"),
      ("1 output --output 1 --state pulse", "--duration"),
      ("1 raw --code 1 --body 0", "hexadecimal"),
      ("1 raw --code 1 --body +1", "hexadecimal"),
      ("1 status --lane slow", "urgent, normal or bulk"),
      ("1 status --id abcd", "32 hexadecimal digits"),
    ])
  func refused(line: String, reason: String) {
    #expect {
      try command(line)
    } throws: { error in
      "\(error)".contains(reason) || Send.message(for: error).contains(reason)
    }
  }

  @Test("the common options may stand before the command")
  func leadingOptions() {
    #expect(
      Clusterctl.optionsLast(["--admin", "unix:/a", "-f", "json", "--insecure", "list", "x"])
        == ["list", "x", "--admin", "unix:/a", "-f", "json", "--insecure"])
    #expect(Clusterctl.optionsLast(["--admin=h:1", "list"]) == ["list", "--admin=h:1"])
    #expect(Clusterctl.optionsLast(["list", "--admin", "h:1"]) == ["list", "--admin", "h:1"])
    #expect(Clusterctl.optionsLast(["--admin"]) == ["--admin"])
    #expect(Clusterctl.optionsLast(["--help"]) == ["--help"])
  }

  @Test("every status has its exit status")
  func exits() {
    let all: [Clusterdriver_V1_CommandStatus] = [.done, .refused, .expired, .offline, .superseded]
    #expect(all.map { Send.exit(for: $0).rawValue } == [0, 1, 3, 4, 6])
  }

  @Test("the node asked is the named one, else the one that is there; several are a question")
  func sockets() throws {
    let named = try Sockets.address(
      admin: "unix:/a.sock", environment: ["CLUSTER_DRIVER_ADMIN": "h:1"],
      found: { _ in ["/b.sock"] })
    #expect(named == .unix("/a.sock"))
    let fromEnvironment = try Sockets.address(
      admin: nil, environment: ["CLUSTER_DRIVER_ADMIN": "h:1"], found: { _ in [] })
    #expect(fromEnvironment == .tcp(host: "h", port: 1))
    let found = try Sockets.address(admin: nil, environment: [:], found: { _ in ["/b.sock"] })
    #expect(found == .unix("/b.sock"))
    for (admin, paths, reason) in [
      ("nonsense", [], "which is no address"), (nil, [], "is a node running"),
      (nil, ["/a.sock", "/b.sock"], "say which"),
    ] as [(String?, [String], String)] {
      #expect {
        try Sockets.address(admin: admin, environment: [:], found: { _ in paths })
      } throws: { "\($0)".contains(reason) }
    }
  }
}

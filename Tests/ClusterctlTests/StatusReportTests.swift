import DriverProtocol
import Foundation
import SwiftProtobuf
import Testing

@testable import clusterctl

@Suite("A controller's status")
struct StatusReportTests {
  /// 65 s; doors 1 (card, open), 2 (unlocked mode, unlocked), 3 (no mode); outputs off, on.
  static let body: [UInt8] = [0, 0, 0, 65, 0, 3, 0b0101, 0b1011, 0, 0, 2, 0, 1]

  @Test("the answer to status is read as the protocol lays it out")
  func layout() throws {
    let report = try #require(StatusReport(Self.body))
    #expect(report.uptimeSeconds == 65)
    #expect(
      report.doors == [
        .init(number: 1, mode: "card", isOpen: true, isUnlocked: false),
        .init(number: 2, mode: "unlocked", isOpen: false, isUnlocked: true),
        .init(number: 3, mode: "unknown", isOpen: false, isUnlocked: false),
      ])
    #expect(report.outputs == [false, true])
    #expect(StatusReport(Self.body + [9, 9]) == report)
  }

  @Test("an answer cut short anywhere is none")
  func short() {
    for count in 0..<Self.body.count { #expect(StatusReport(Self.body.prefix(count)) == nil) }
    #expect(StatusReport([0, 0, 0, 1, 255, 255, 1]) == nil)
  }

  @Test("people see doors and outputs in words, programs as values beside the bytes")
  func shown() {
    var command = Clusterdriver_V1_Command()
    command.action = .queryStatus(.init())
    var result = Clusterdriver_V1_CommandResult()
    result.status = .done
    result.body = Data(Self.body)
    let pretty = Send.shown(result, of: command, pretty: true)
    #expect(pretty["up"] == .text("65 s"))
    #expect(pretty["door 1"] == .text("open, locked (mode card)"))
    #expect(pretty["door 2"] == .text("closed, unlocked (mode unlocked)"))
    #expect(pretty["output 2"] == .text("on"))
    #expect(pretty["body"] == .null)
    let json = Value.record(Send.shown(result, of: command, pretty: false)).json(indent: nil)
    #expect(
      json.hasSuffix(
        #""uptime_s": 65, "doors": [{"door": 1, "mode": "card", "open": true, "unlocked": false}, "#
          + #"{"door": 2, "mode": "unlocked", "open": false, "unlocked": true}, "#
          + #"{"door": 3, "mode": "unknown", "open": false, "unlocked": false}], "#
          + #""outputs": [{"output": 1, "on": false}, {"output": 2, "on": true}]}"#))
    #expect(json.contains(#""body": "00000041000305"#))
    command.action = .reboot(.init())
    #expect(Send.shown(result, of: command, pretty: true)["up"] == .null)
  }
}

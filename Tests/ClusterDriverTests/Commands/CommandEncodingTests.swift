import DriverProtocol
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Command encoding")
struct CommandEncodingTests {
  typealias Command = Clusterdriver_V1_Command

  static let id: [UInt8] = (1...16).map { UInt8($0) }

  static func command(_ change: (inout Command) -> Void) -> Command {
    var command = Command()
    command.id = .init(bytes: Self.id)
    command.serial = 42
    command.notAfterMs = 1_700_000_000_000
    change(&command)
    return command
  }

  static func code(_ change: (inout Command) -> Void) throws -> (UInt16, [UInt8]) {
    let encoded = try CommandEncoding.encode(Self.command(change)).get()
    return (encoded.code, encoded.body)
  }

  static func complaint(_ change: (inout Command) -> Void) -> String {
    switch CommandEncoding.encode(Self.command(change)) {
    case .success: return ""
    case .failure(let refusal): return refusal.detail
    }
  }

  @Test("each action has the code and the body of the protocol's table")
  func layouts() throws {
    let unlock = try Self.code {
      $0.unlock = .with {
        $0.door = 0x0102
        $0.durationMs = 5000
      }
    }
    #expect(unlock == (1, [1, 2, 0, 0, 0, 0, 0x13, 0x88]))
    let mode = try Self.code {
      $0.setDoorMode = .with {
        $0.door = 3
        $0.mode = .unlocked
      }
    }
    #expect(mode == (2, [0, 3, 3, 0]))
    let answer = try Self.code {
      $0.answerAccess = .with {
        $0.logEpoch = 7
        $0.seq = 0x0102_0304_0506_0708
        $0.door = 9
        $0.reason = 2
      }
    }
    #expect(answer == (3, [0, 0, 0, 7, 0, 9, 2, 2, 1, 2, 3, 4, 5, 6, 7, 8]))
    let output = try Self.code {
      $0.setOutput = .with {
        $0.output = 65_535
        $0.state = .pulse
        $0.pulseMs = 256
      }
    }
    #expect(output == (4, [255, 255, 2, 0, 0, 0, 1, 0]))
    let clock = try Self.code { $0.setClock = .with { $0.timeMs = 258 } }
    #expect(clock == (5, [0, 0, 0, 0, 0, 0, 1, 2]))
    #expect(try Self.code { $0.queryStatus = .init() } == (6, []))
    #expect(try Self.code { $0.reboot = .with { $0.delayMs = 60_000 } } == (7, [0, 0, 0xEA, 0x60]))
    let raw = try Self.code {
      $0.raw = .with {
        $0.code = 999
        $0.body = .init(bytes: [1, 2])
      }
    }
    #expect(raw == (999, [1, 2]))
  }

  @Test("an unset lane is the normal one; the others keep their order of precedence")
  func lanes() throws {
    for (lane, number) in [
      (Clusterdriver_V1_Lane.unspecified, 1), (.urgent, 0), (.normal, 1), (.bulk, 2),
    ] {
      let encoded = try CommandEncoding.encode(
        Self.command {
          $0.lane = lane
          $0.queryStatus = .init()
        }
      ).get()
      #expect(encoded.lane == UInt8(number))
    }
  }

  @Test("a clock of 0 is the node's at the moment of sending")
  func nodeClock() throws {
    let encoded = try CommandEncoding.encode(Self.command { $0.setClock = .init() }).get()
    #expect(encoded.carriesNodeTime)
    #expect(CommandEncoding.clockBody(utcMs: 1) == [0, 0, 0, 0, 0, 0, 0, 1])
  }

  @Test("what must be carried out now or never has a deadline, also as a raw code")
  func deadlines() {
    let actions: [(inout Command) -> Void] = [
      { $0.unlock = .with { $0.door = 1 } },
      {
        $0.setOutput = .with {
          $0.output = 1
          $0.state = .on
        }
      },
      {
        $0.answerAccess = .with {
          $0.door = 1
          $0.seq = 1
          $0.grant = true
        }
      },
      { $0.raw = .with { $0.code = 1 } },
    ]
    for action in actions {
      #expect(Self.complaint(action) == "")
      #expect(
        Self.complaint {
          action(&$0)
          $0.notAfterMs = 0
        }.contains("not_after_ms"))
    }
    #expect(
      Self.complaint {
        $0.queryStatus = .init()
        $0.notAfterMs = 0
      } == "")
  }

  @Test("values out of range are refused with the field's name")
  func ranges() {
    let wrong: [(String, (inout Command) -> Void)] = [
      ("unlock.door", { $0.unlock = .with { $0.door = 0 } }),
      ("unlock.door", { $0.unlock = .with { $0.door = 65_536 } }),
      (
        "unlock.duration_ms",
        {
          $0.unlock = .with {
            $0.door = 1
            $0.durationMs = 3_600_001
          }
        }
      ),
      ("set_door_mode.mode", { $0.setDoorMode = .with { $0.door = 1 } }),
      ("set_output.state", { $0.setOutput = .with { $0.output = 1 } }),
      (
        "set_output.pulse_ms",
        {
          $0.setOutput = .with {
            $0.output = 1
            $0.state = .pulse
          }
        }
      ),
      (
        "set_output.pulse_ms",
        {
          $0.setOutput = .with {
            $0.output = 1
            $0.state = .on
            $0.pulseMs = 1
          }
        }
      ),
      ("answer_access.seq", { $0.answerAccess = .with { $0.door = 1 } }),
      (
        "answer_access.reason",
        {
          $0.answerAccess = .with {
            $0.door = 1
            $0.seq = 1
            $0.reason = 4
          }
        }
      ),
      ("reboot.delay_ms", { $0.reboot = .with { $0.delayMs = 60_001 } }),
      ("raw.code", { $0.raw = .with { $0.code = 0 } }),
      ("raw.code", { $0.raw = .with { $0.code = 65_536 } }),
      (
        "raw.body",
        {
          $0.raw = .with {
            $0.code = 9
            $0.body = .init(bytes: .init(repeating: 0, count: 4001))
          }
        }
      ),
      ("no action", { _ in }),
      (
        "lane 9",
        {
          $0.lane = .UNRECOGNIZED(9)
          $0.queryStatus = .init()
        }
      ),
      (
        "serial",
        {
          $0.serial = 0
          $0.queryStatus = .init()
        }
      ),
      (
        "serial",
        {
          $0.serial = .max
          $0.queryStatus = .init()
        }
      ),
      (
        "id must",
        {
          $0.id = .init(bytes: [1])
          $0.queryStatus = .init()
        }
      ),
      (
        "id must",
        {
          $0.id = .init(bytes: .init(repeating: 0, count: 16))
          $0.queryStatus = .init()
        }
      ),
    ]
    for (field, change) in wrong {
      let complaint = Self.complaint(change)
      #expect(complaint.contains(field), "\(complaint)")
    }
  }

  @Test("an id is written as UUIDs are, and keeps its bytes")
  func ids() throws {
    let id = try #require(CommandID(Self.id))
    #expect(id.bytes == Self.id)
    #expect(id.description == "01020304-0506-0708-090a-0b0c0d0e0f10")
  }
}

@Suite("Published commands")
struct CommandPayloadTests {
  static let json = """
    {"id": "AQIDBAUGBwgJCgsMDQ4PEA==", "notAfterMs": "1700000000000", "unlock": {"door": 1}}
    """

  @Test("proto3 JSON and binary protobuf are told apart and mean the same")
  func forms() throws {
    let fromJSON = try CommandPayload.decode(Array(Self.json.utf8), channel: 42).get()
    var command = CommandEncodingTests.command { $0.unlock = .with { $0.door = 1 } }
    command.serial = 0
    let fromBinary = try CommandPayload.decode(command.serializedBytes(), channel: 42).get()
    #expect(fromJSON == fromBinary)
    #expect(fromJSON.serial == 42)
    #expect(fromJSON.id.bytes == CommandEncodingTests.id)
    let blank = try CommandPayload.decode(Array("  \n\(Self.json)".utf8), channel: 42).get()
    #expect(blank == fromJSON)
  }

  @Test("a serial that is not the channel's is refused under the command's id")
  func otherSerial() {
    var command = CommandEncodingTests.command { $0.unlock = .with { $0.door = 1 } }
    command.serial = 43
    guard case .failure(let refusal) = CommandPayload.decode(command.wireBytes(), channel: 42)
    else { return #expect(Bool(false)) }
    #expect(refusal.id?.bytes == CommandEncodingTests.id)
    #expect(refusal.detail.contains("43"))
  }

  @Test("a misspelt field is refused, and the id found all the same")
  func misspelt() {
    let text = Self.json.replacing("notAfterMs", with: "notAfter")
    guard case .failure(let refusal) = CommandPayload.decode(Array(text.utf8), channel: 42)
    else { return #expect(Bool(false)) }
    #expect(refusal.id?.bytes == CommandEncodingTests.id)
    #expect(refusal.detail.contains("JSON"))
  }

  @Test("garbage and oversize payloads have no id and say what they are")
  func garbage() {
    for (payload, word) in [
      ([UInt8]("hello".utf8), "binary protobuf"), ([UInt8]("{".utf8), "JSON"), ([], "id must"),
      ([UInt8](repeating: 0x0A, count: 16 * 1024 + 1), "limit"),
    ] {
      guard case .failure(let refusal) = CommandPayload.decode(payload, channel: 42)
      else { return #expect(Bool(false)) }
      #expect(refusal.id == nil)
      #expect(refusal.detail.contains(word), "\(refusal.detail)")
    }
  }

  @Test("random bytes never do worse than being refused")
  func randomBytes() {
    var random = SplitMix64(seed: 7)
    for _ in 0..<20_000 {
      var payload = (0..<Int.random(in: 0...64, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      if Bool.random(using: &random) { payload.insert(UInt8(ascii: "{"), at: 0) }
      _ = CommandPayload.decode(payload, channel: 42)
    }
  }

  @Test("a channel is a serial in plain decimal digits and nothing else")
  func channels() {
    #expect(CommandPayload.serial(channel: "12345") == 12345)
    #expect(CommandPayload.serial(channel: "18446744073709551614") == UInt64.max - 1)
    for wrong in [
      "", "0", "012", "+1", "-1", "1 ", "x", "18446744073709551615", "99999999999999999999",
    ] {
      #expect(CommandPayload.serial(channel: wrong) == nil, "\(wrong)")
    }
  }

  @Test("an unlock whose deadline is hours away is not carried out: a clock is wrong")
  func tooFarAhead() {
    let now = Moment(uptime: .now, utcMs: 1_700_000_000_000)
    for (seconds, code, isBelieved) in [
      (3600, CommandEncoding.Code.unlock, true),
      (3601, CommandEncoding.Code.unlock, false),
      (86_403, CommandEncoding.Code.setOutput, false),
      (86_403, CommandEncoding.Code.answerAccess, false),
      (86_403, CommandEncoding.Code.setDoorMode, true),
    ] as [(UInt64, UInt16, Bool)] {
      let command = ControllerCommand(
        id: CommandID(high: 1, low: 1), serial: 42, lane: 0,
        notAfterMs: now.utcMs + seconds * 1000, code: code, body: [])
      var given = command
      if !isBelieved { given.notAfterMs = ControllerCommand.notAfterPast }
      #expect(command.believed(at: now) == given)
    }
  }
}

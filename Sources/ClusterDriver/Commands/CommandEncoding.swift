import DriverProtocol

/// From the command as people and programs write it to the one a controller takes: code and body of
/// Docs/PROTOCOL.md, "Codes".
enum CommandEncoding {
  /// Why a command cannot be carried out as it stands: what, and what to do.
  struct Refusal: Error, Sendable, Equatable {
    var id: CommandID?
    var serial: UInt64
    var detail: String
  }

  /// Codes of Docs/PROTOCOL.md.
  enum Code {
    static let unlock: UInt16 = 1
    static let setDoorMode: UInt16 = 2
    static let answerAccess: UInt16 = 3
    static let setOutput: UInt16 = 4
    static let setClock: UInt16 = 5
    static let queryStatus: UInt16 = 6
    static let reboot: UInt16 = 7
    static let beginConfiguration: UInt16 = 16
    static let chunkConfiguration: UInt16 = 17
    static let commitConfiguration: UInt16 = 18
  }

  static let bodyMax = 4_000
  private static let durationMaxMs: UInt32 = 3_600_000
  private static let rebootDelayMaxMs: UInt32 = 60_000

  /// - Parameters:
  ///   - channel: the serial the command came in for, when the place it came from names one; the
  ///     command's own may then be 0, and must not be another.
  ///   - given: likewise its id; the command's own may then be empty.
  static func encode(
    _ command: Clusterdriver_V1_Command, channel: UInt64? = nil, id given: CommandID? = nil
  ) -> Result<ControllerCommand, Refusal> {
    let id = given ?? CommandID(command.id)
    var serial = command.serial
    do throws(Complaint) {
      if let channel {
        if serial != 0 && serial != channel {
          throw
            "serial \(serial) does not agree with channel \(channel); leave it out or make them the same"
        }
        serial = channel
      }
      if let given, !command.id.isEmpty, CommandID(command.id) != given {
        throw "its id does not agree with \(given), under which it was posted; leave it out"
      }
      guard let id else {
        throw "id must be 16 bytes, not all 0 (a random UUID), not \(command.id.count) bytes"
      }
      guard serial >= 1 && serial < UInt64.max else {
        throw "serial must be 1 to 18446744073709551614"
      }
      if let sequence = try Self.sequence(command, id: id, serial: serial) {
        return .success(sequence)
      }
      let lane = try Self.lane(command.lane)
      let action = try Self.action(command.action)
      if Self.needsDeadline(action.code) && command.notAfterMs == 0 {
        throw """
        not_after_ms must be set for unlock, output and answer commands: a door that opens late \
        is worse than one that stays shut
        """
      }
      return .success(
        ControllerCommand(
          id: id, serial: serial, lane: lane, notAfterMs: command.notAfterMs, code: action.code,
          body: action.body, carriesNodeTime: action.carriesNodeTime))
    } catch {
      return .failure(Refusal(id: id, serial: serial, detail: error.text))
    }
  }

  /// The body of "set clock" at this moment.
  static func clockBody(utcMs: UInt64) -> [UInt8] {
    var body = BigEndianBytes()
    body.append(utcMs)
    return body.bytes
  }

  /// Commands whose effect is wanted now or not at all.
  static func needsDeadline(_ code: UInt16) -> Bool {
    [Code.unlock, Code.answerAccess, Code.setOutput].contains(code)
  }

  struct Complaint: Error, ExpressibleByStringInterpolation {
    var text: String
    init(stringLiteral value: String) { self.text = value }
  }

  private struct Action {
    var code: UInt16
    var body: [UInt8] = []
    var carriesNodeTime = false
  }

  static func lane(_ lane: Clusterdriver_V1_Lane) throws(Complaint) -> UInt8 {
    switch lane {
    case .urgent: return 0
    case .unspecified, .normal: return 1
    case .bulk: return 2
    case .UNRECOGNIZED(let number):
      throw "lane \(number) is unknown; use URGENT (1), NORMAL (2) or BULK (3)"
    }
  }

  private static func action(
    _ action: Clusterdriver_V1_Command.OneOf_Action?
  ) throws(Complaint) -> Action {
    var body = BigEndianBytes()
    switch action {
    case .unlock(let unlock):
      body.append(try Self.number(unlock.door, of: "unlock.door"))
      body.append(UInt16(0))
      body.append(try Self.duration(unlock.durationMs, of: "unlock.duration_ms"))
      return Action(code: Code.unlock, body: body.bytes)
    case .setDoorMode(let change):
      body.append(try Self.number(change.door, of: "set_door_mode.door"))
      body.append(try Self.mode(change.mode))
      body.append(UInt8(0))
      return Action(code: Code.setDoorMode, body: body.bytes)
    case .answerAccess(let answer):
      return Action(code: Code.answerAccess, body: try Self.answerBody(answer))
    case .setOutput(let output):
      return Action(code: Code.setOutput, body: try Self.outputBody(output))
    case .setClock(let clock):
      body.append(clock.timeMs)
      return Action(
        code: Code.setClock, body: body.bytes, carriesNodeTime: clock.timeMs == 0)
    case .queryStatus:
      return Action(code: Code.queryStatus)
    case .reboot(let reboot):
      guard reboot.delayMs <= Self.rebootDelayMaxMs else {
        throw "reboot.delay_ms must be at most 60000, not \(reboot.delayMs)"
      }
      body.append(reboot.delayMs)
      return Action(code: Code.reboot, body: body.bytes)
    case .raw(let raw):
      guard let code = UInt16(exactly: raw.code), code > 0 else {
        throw "raw.code must be 1 to 65535, not \(raw.code)"
      }
      guard raw.body.count <= Self.bodyMax else {
        throw "raw.body must be at most 4000 bytes, not \(raw.body.count)"
      }
      return Action(code: code, body: [UInt8](raw.body))
    case .list, .configuration:
      throw "a sequence has steps, and no code of its own"
    case nil:
      throw
        "no action is set; name one of unlock, set_door_mode, answer_access, set_output, set_clock, query_status, reboot, list, configuration, raw"
    }
  }

  private static func answerBody(
    _ answer: Clusterdriver_V1_AnswerAccess
  ) throws(Complaint) -> [UInt8] {
    guard answer.seq > 0 else { throw "answer_access.seq must be the request's, from 1" }
    guard answer.reason <= 3 else {
      throw "answer_access.reason must be 0 to 3, not \(answer.reason)"
    }
    var body = BigEndianBytes()
    body.append(answer.logEpoch)
    body.append(try Self.number(answer.door, of: "answer_access.door"))
    body.append(UInt8(answer.grant ? 1 : 2))
    body.append(UInt8(answer.reason))
    body.append(answer.seq)
    return body.bytes
  }

  private static func outputBody(
    _ output: Clusterdriver_V1_SetOutput
  ) throws(Complaint) -> [UInt8] {
    let state: UInt8
    switch output.state {
    case .off: state = 0
    case .on: state = 1
    case .pulse: state = 2
    case .unspecified, .UNRECOGNIZED:
      throw "set_output.state must be OFF (1), ON (2) or PULSE (3)"
    }
    if state == 2 {
      guard output.pulseMs >= 1 && output.pulseMs <= Self.durationMaxMs else {
        throw "set_output.pulse_ms must be 1 to 3600000 for a pulse, not \(output.pulseMs)"
      }
    } else {
      guard output.pulseMs == 0 else {
        throw "set_output.pulse_ms goes with state PULSE only; leave it out"
      }
    }
    var body = BigEndianBytes()
    body.append(try Self.number(output.output, of: "set_output.output"))
    body.append(state)
    body.append(UInt8(0))
    body.append(output.pulseMs)
    return body.bytes
  }

  private static func mode(_ mode: Clusterdriver_V1_DoorMode) throws(Complaint) -> UInt8 {
    switch mode {
    case .card: return 1
    case .locked: return 2
    case .unlocked: return 3
    case .unspecified, .UNRECOGNIZED:
      throw "set_door_mode.mode must be CARD (1), LOCKED (2) or UNLOCKED (3)"
    }
  }

  private static func number(_ value: UInt32, of field: String) throws(Complaint) -> UInt16 {
    guard let number = UInt16(exactly: value), number > 0 else {
      throw "\(field) must be 1 to 65535, not \(value)"
    }
    return number
  }

  private static func duration(_ value: UInt32, of field: String) throws(Complaint) -> UInt32 {
    guard value <= Self.durationMaxMs else {
      throw "\(field) must be at most 3600000, not \(value)"
    }
    return value
  }
}

/// Integers in network byte order, one after the other.
struct BigEndianBytes {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { self.bytes.append(contentsOf: $0) }
  }
}

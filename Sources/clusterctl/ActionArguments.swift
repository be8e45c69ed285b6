internal import ArgumentParser
internal import DriverProtocol
internal import Foundation

/// Turns what was typed after `send` into a command.
struct ActionArguments {
  private let typed: Send

  init(_ typed: Send) { self.typed = typed }

  private enum Names: String, CaseIterable {
    case unlock
    case doorMode = "door-mode"
    case output
    case setClock = "set-clock"
    case status, reboot, raw
  }

  /// The command, with a random id when none was given. Throws a `ValidationError` that says what is
  /// missing, wrong or too much.
  func command(now: UInt64) throws -> Clusterdriver_V1_Command {
    guard let name = Names(rawValue: typed.action) else {
      throw ValidationError(
        "“\(typed.action)” is no action; there are "
          + Names.allCases.map(\.rawValue).joined(separator: ", "))
    }
    var command = Clusterdriver_V1_Command()
    command.id = try commandID()
    command.serial = typed.serial
    command.lane = try lane(for: name)
    command.action = try action(name)
    if let within = typed.within ?? defaultWithin(name) {
      command.notAfterMs = now + within.milliseconds
    }
    return command
  }

  private func commandID() throws -> Data {
    guard let text = typed.id else {
      return Data((0..<16).map { _ in UInt8.random(in: .min ... .max) })
    }
    guard let bytes = Hex.bytes(text), bytes.count == 16 else {
      throw ValidationError("--id is 32 hexadecimal digits, not “\(text)”")
    }
    return Data(bytes)
  }

  private func defaultWithin(_ name: Names) -> DurationArgument? {
    name == .unlock || name == .output ? DurationArgument(argument: "10s") : nil
  }

  private func lane(for name: Names) throws -> Clusterdriver_V1_Lane {
    switch typed.lane {
    case nil: name == .unlock || name == .output ? .urgent : .normal
    case "urgent": .urgent
    case "normal": .normal
    case "bulk": .bulk
    case let other?:
      throw ValidationError("--lane is urgent, normal or bulk, not “\(other)”")
    }
  }

  private func action(_ name: Names) throws -> Clusterdriver_V1_Command.OneOf_Action {
    try refuseOthers(name)
    switch name {
    case .unlock:
      var unlock = Clusterdriver_V1_Unlock()
      unlock.door = try number(typed.door, "--door", max: 65_535)
      unlock.durationMs = UInt32(clamping: typed.duration?.milliseconds ?? 0)
      return .unlock(unlock)
    case .doorMode:
      var mode = Clusterdriver_V1_SetDoorMode()
      mode.door = try number(typed.door, "--door", max: 65_535)
      mode.mode = try choice(
        typed.mode, "--mode", ["card": .card, "locked": .locked, "unlocked": .unlocked])
      return .setDoorMode(mode)
    case .output:
      var output = Clusterdriver_V1_SetOutput()
      output.output = try number(typed.output, "--output", max: 65_535)
      output.state = try choice(typed.state, "--state", ["off": .off, "on": .on, "pulse": .pulse])
      output.pulseMs = UInt32(clamping: typed.duration?.milliseconds ?? 0)
      if output.state == .pulse && output.pulseMs == 0 {
        throw ValidationError("--state pulse needs its length: --duration 500ms")
      }
      return .setOutput(output)
    case .setClock: return .setClock(.init())
    case .status: return .queryStatus(.init())
    case .reboot:
      var reboot = Clusterdriver_V1_Reboot()
      reboot.delayMs = UInt32(clamping: typed.delay?.milliseconds ?? 0)
      return .reboot(reboot)
    case .raw:
      var raw = Clusterdriver_V1_RawAction()
      raw.code = try number(typed.code, "--code", max: 65_535)
      guard let body = Hex.bytes(typed.body ?? ""), body.count <= 4_000 else {
        throw ValidationError("--body is up to 4,000 bytes in hexadecimal, two digits each")
      }
      raw.body = Data(body)
      return .raw(raw)
    }
  }

  private func number(_ value: UInt32?, _ name: String, max: UInt32) throws -> UInt32 {
    guard let value, value >= 1, value <= max else {
      throw ValidationError("\(typed.action) needs \(name) N, 1 to \(max)")
    }
    return value
  }

  private func choice<T>(
    _ text: String?, _ name: String, _ choices: KeyValuePairs<String, T>
  ) throws -> T {
    if let found = choices.first(where: { $0.key == text }) { return found.value }
    throw ValidationError(
      "\(typed.action) needs \(name) " + choices.map(\.key).joined(separator: "|"))
  }

  /// An option that this action does not have would be ignored in silence; say so instead.
  private func refuseOthers(_ name: Names) throws {
    let given: [(String, Bool, [Names])] = [
      ("--door", typed.door != nil, [.unlock, .doorMode]),
      ("--output", typed.output != nil, [.output]),
      ("--mode", typed.mode != nil, [.doorMode]),
      ("--state", typed.state != nil, [.output]),
      ("--duration", typed.duration != nil, [.unlock, .output]),
      ("--delay", typed.delay != nil, [.reboot]),
      ("--code", typed.code != nil, [.raw]),
      ("--body", typed.body != nil, [.raw]),
    ]
    for (option, isGiven, owners) in given where isGiven && !owners.contains(name) {
      throw ValidationError("\(typed.action) has no \(option)")
    }
  }
}

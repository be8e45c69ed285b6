import CSCP
import DriverProtocol
import Election

/// Commands between nodes as they travel (driver_peer.proto). What can't be read is nil.
enum CommandWire {
  // MARK: Commands

  static func message(_ batch: PassBatch) -> Clusterdriver_V1_PeerCommands {
    var message = Clusterdriver_V1_PeerCommands()
    message.asked = batch.to.name
    message.commands = batch.commands.map { passed in
      var command = Clusterdriver_V1_PeerCommand()
      command.id = .init(bytes: passed.command.id.bytes)
      command.serial = passed.command.serial
      command.lane = CommandWire.lanes[Int(passed.command.lane)]
      command.notAfterMs = passed.command.notAfterMs
      command.code = UInt32(passed.command.code)
      command.body = .init(bytes: passed.command.body)
      command.carriesNodeTime = passed.command.carriesNodeTime
      command.wasSent = passed.wasSent
      command.shared = passed.isShared
      command.tellAgain = passed.tellAgain
      return command
    }
    return message
  }

  static func commands(_ message: Clusterdriver_V1_PeerCommands) -> [PassedCommand]? {
    guard message.commands.count <= PassBatch.commandsMax else { return nil }
    var commands: [PassedCommand] = []
    commands.reserveCapacity(message.commands.count)
    for command in message.commands {
      guard let passed = self.command(command) else { return nil }
      commands.append(passed)
    }
    return commands
  }

  private static let lanes = [Clusterdriver_V1_Lane.urgent, .normal, .bulk]

  private static func command(_ message: Clusterdriver_V1_PeerCommand) -> PassedCommand? {
    guard let id = CommandID(message.id),
      message.serial >= Serial.lowest.rawValue, message.serial <= Serial.highest.rawValue,
      let lane = self.lanes.firstIndex(of: message.lane),
      let code = UInt16(exactly: message.code), code > 0,
      message.body.count <= CSCP_COMMAND_BODY_MAX
    else { return nil }
    return PassedCommand(
      command: ControllerCommand(
        id: id, serial: message.serial, lane: UInt8(lane), notAfterMs: message.notAfterMs,
        code: code, body: [UInt8](message.body), carriesNodeTime: message.carriesNodeTime),
      wasSent: message.wasSent, isShared: message.shared, tellAgain: message.tellAgain)
  }

  // MARK: Answers

  static func message(_ answers: [PassAnswer]) -> Clusterdriver_V1_PeerCommandsAnswer {
    var message = Clusterdriver_V1_PeerCommandsAnswer()
    message.answers = answers.map { answer in
      var message = Clusterdriver_V1_PeerCommandAnswer()
      switch answer {
      case .taken: message.taken = Clusterdriver_V1_PeerCommandTaken()
      case .ended(let result): message.ended = Clusterdriver_V1_CommandResult(result)
      case .notMine(let owner): message.notMine.owner = owner?.name ?? ""
      case .busy: message.busy = Clusterdriver_V1_PeerCommandBusy()
      }
      return message
    }
    return message
  }

  static func answers(_ message: Clusterdriver_V1_PeerCommandsAnswer) -> [PassAnswer]? {
    var answers: [PassAnswer] = []
    for answer in message.answers {
      switch answer.answer {
      case .taken: answers.append(.taken)
      case .ended(let result):
        guard let finished = FinishedCommand(result) else { return nil }
        answers.append(.ended(finished))
      case .notMine(let other):
        answers.append(.notMine(other.owner.isEmpty ? nil : NodeID(other.owner)))
      case .busy: answers.append(.busy)
      case nil: return nil
      }
    }
    return answers
  }
}

extension FinishedCommand {
  /// As a peer tells it.
  init?(_ result: Clusterdriver_V1_CommandResult) {
    guard let id = CommandID(result.id), let number = UInt8(exactly: result.status.rawValue),
      let status = CommandStatus(rawValue: number)
    else { return nil }
    self.init(
      id: id, serial: result.serial, door: .peer, status: status, reason: result.reason,
      index: result.index, body: [UInt8](result.body), detail: result.detail, atMs: result.atMs,
      elapsedUs: result.elapsedUs)
  }
}

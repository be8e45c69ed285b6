import DriverProtocol

/// Command sequences, checked as a whole: from the message to a command with its steps.
extension CommandEncoding {
  static let listMax = 256
  static let listBytesMax = 65_536
  static let configurationBytesMax = 1 << 20

  /// Nil: it is no sequence.
  static func sequence(
    _ command: Clusterdriver_V1_Command, id: CommandID, serial: UInt64
  ) throws(Complaint) -> ControllerCommand? {
    let content: SequenceContent
    var lane = try Self.lane(command.lane)
    switch command.action {
    case .list(let list):
      content = try Self.list(list, of: command, id: id, serial: serial)
    case .configuration(let configuration):
      guard [.unspecified, .bulk].contains(command.lane) else {
        throw "a configuration goes in the lane BULK; leave lane out"
      }
      lane = 2
      let bytes = [UInt8](configuration.content)
      guard (1...Self.configurationBytesMax).contains(bytes.count) else {
        throw
          "configuration.content must have 1 to \(Self.configurationBytesMax) bytes, not \(bytes.count)"
      }
      content = .configuration(ControllerConfiguration(bytes))
    default:
      return nil
    }
    return ControllerCommand(
      id: id, serial: serial, lane: lane, notAfterMs: command.notAfterMs, code: 0, body: [],
      sequence: content)
  }

  private static func list(
    _ list: Clusterdriver_V1_CommandList, of sequence: Clusterdriver_V1_Command, id: CommandID,
    serial: UInt64
  ) throws(Complaint) -> SequenceContent {
    guard (1...Self.listMax).contains(list.commands.count) else {
      throw "list.commands must be 1 to \(Self.listMax) commands, not \(list.commands.count)"
    }
    guard list.done <= list.commands.count else {
      throw "list.done is \(list.done), of \(list.commands.count) commands"
    }
    var steps: [ControllerCommand] = []
    var bytes = 0
    for (index, command) in list.commands.enumerated() {
      let place = "list.commands[\(index)]"
      guard command.id.isEmpty, command.serial == 0, command.lane == .unspecified else {
        throw "\(place) has an id, serial or lane of its own; leave them out, they are the list's"
      }
      switch command.action {
      case .list, .configuration:
        throw "\(place) is a sequence itself; there are none within a list"
      default: break
      }
      var step = command
      step.id = .init(bytes: id.step(UInt32(index)).bytes)
      step.serial = serial
      step.lane = sequence.lane
      let deadlines = [command.notAfterMs, sequence.notAfterMs].filter { $0 != 0 }
      step.notAfterMs = deadlines.min() ?? 0
      switch Self.encode(step) {
      case .success(let encoded):
        steps.append(encoded)
        bytes += encoded.body.count
      case .failure(let refusal):
        throw "\(place): \(refusal.detail)"
      }
    }
    guard bytes <= Self.listBytesMax else {
      throw
        "the bodies of list.commands have \(bytes) bytes together; the limit is \(Self.listBytesMax)"
    }
    return .list(steps, done: Int(list.done))
  }

  /// Of doors behind which nobody keeps a sequence until it has ended.
  static func single(
    _ result: Result<ControllerCommand, Refusal>
  ) -> Result<ControllerCommand, Refusal> {
    guard case .success(let command) = result, command.sequence != nil else { return result }
    return .failure(
      Refusal(
        id: command.id, serial: command.serial, detail: CommandDetail.sequenceByOtherDoor))
  }
}

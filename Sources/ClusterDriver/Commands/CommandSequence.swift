import CSCP

/// What a command sequence consists of. The sequence itself is a command, with an id, a deadline and one
/// result; its steps are commands of their own, whose ids follow from its.
enum SequenceContent: Sendable, Equatable {
  /// In order. So many are done by the word of whoever holds the sequence.
  case list([ControllerCommand], done: Int)
  case configuration(ControllerConfiguration)

  /// So many of a list are done, or more.
  mutating func resume(at done: Int) {
    guard case .list(let commands, let before) = self else { return }
    self = .list(commands, done: min(max(done, before), commands.count))
  }

  /// Commands, or bytes.
  var total: Int {
    switch self {
    case .list(let commands, _): commands.count
    case .configuration(let configuration): configuration.bytes.count
    }
  }

  /// About what it takes to hold, in bytes.
  var cost: Int {
    switch self {
    case .list(let commands, _): commands.reduce(0) { $0 + $1.body.count + 128 }
    case .configuration(let configuration): configuration.bytes.count
    }
  }
}

/// The bytes of a configuration, and the digest by which controllers know it.
struct ControllerConfiguration: Sendable, Equatable {
  let bytes: [UInt8]
  /// The first 16 bytes of their SHA-256.
  let digest: [UInt8]

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    self.digest = ControllerConfiguration.digest(of: bytes)
  }

  static func digest(of bytes: [UInt8]) -> [UInt8] {
    var sum = cscp_digest()
    cscp_digest_begin(&sum)
    bytes.withUnsafeBytes {
      if let start = $0.baseAddress { cscp_digest_add(&sum, start, $0.count) }
    }
    return [UInt8](unsafeUninitializedCapacity: Int(CSCP_DIGEST_SIZE)) { room, count in
      cscp_digest_get(&sum, room.baseAddress!)
      count = Int(CSCP_DIGEST_SIZE)
    }
  }
}

/// How far a sequence has come.
struct SequenceStanding: Sendable, Equatable {
  var id: CommandID
  var serial: UInt64
  /// Commands done, or bytes the controller has; and of how many.
  var done: Int
  var total: Int
  /// ms UTC.
  var atMs: UInt64
}

extension CommandID {
  /// The id of a step of the sequence that this one names: the same for whoever carries it out, so that
  /// the controller recognises a step that another node has given it.
  func step(_ index: UInt32, round: UInt32 = 0) -> CommandID {
    var text = BigEndianBytes()
    text.append(self.high)
    text.append(self.low)
    text.append(round)
    text.append(index)
    let digest = ControllerConfiguration.digest(of: text.bytes)
    let words = stride(from: 0, to: 16, by: 8).map { at in
      digest[at..<at + 8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    }
    return CommandID(high: words[0], low: words[1])
  }
}

extension ControllerCommand {
  private static func transfer(
    _ code: UInt16, of sequence: ControllerCommand, index: UInt32, round: UInt32, body: [UInt8]
  ) -> ControllerCommand {
    ControllerCommand(
      id: sequence.id.step(index, round: round), serial: sequence.serial, lane: sequence.lane,
      notAfterMs: sequence.notAfterMs, code: code, body: body)
  }

  static func begin(
    _ configuration: ControllerConfiguration, of sequence: ControllerCommand, round: UInt32
  ) -> ControllerCommand {
    var body = BigEndianBytes()
    body.append(UInt32(configuration.bytes.count))
    return self.transfer(
      CommandEncoding.Code.beginConfiguration, of: sequence, index: .max, round: round,
      body: configuration.digest + body.bytes)
  }

  static func chunk(
    _ range: Range<Int>, of configuration: ControllerConfiguration, of sequence: ControllerCommand,
    round: UInt32
  ) -> ControllerCommand {
    var offset = BigEndianBytes()
    offset.append(UInt32(range.lowerBound))
    var body = configuration.digest
    body.reserveCapacity(configuration.digest.count + 4 + range.count)
    body += offset.bytes
    body += configuration.bytes[range]
    return self.transfer(
      CommandEncoding.Code.chunkConfiguration, of: sequence, index: UInt32(range.lowerBound),
      round: round, body: body)
  }

  static func commit(
    _ configuration: ControllerConfiguration, of sequence: ControllerCommand, round: UInt32
  ) -> ControllerCommand {
    var command = self.transfer(
      CommandEncoding.Code.commitConfiguration, of: sequence, index: .max - 1, round: round,
      body: configuration.digest)
    // A former owner may have given it before.
    command.mayHaveBeenSent = true
    return command
  }
}

import DriverProtocol
import SwiftProtobuf

/// A command as it is published on a controller's Redis channel: proto3 JSON or binary protobuf of
/// `clusterdriver.v1.Command`. JSON begins with `{`, which no binary message of any kind can
/// (it would be the start of a group, which proto3 does not have).
enum CommandPayload {
  static let bytesMax = 16 * 1024

  /// A channel is the serial in decimal digits; nil for anything else.
  static func serial(channel: some StringProtocol) -> UInt64? {
    guard let first = channel.utf8.first, first != UInt8(ascii: "0"),
      channel.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
      let serial = UInt64(channel), serial < UInt64.max
    else { return nil }
    return serial
  }

  /// - Parameter given: the id, where the place it came from names one.
  static func decode(
    _ payload: [UInt8], channel: UInt64, id given: CommandID? = nil
  ) -> Result<ControllerCommand, CommandEncoding.Refusal> {
    guard payload.count <= Self.bytesMax else {
      return .failure(
        CommandEncoding.Refusal(
          id: given, serial: channel,
          detail: "a payload of \(payload.count) bytes; the limit is \(Self.bytesMax)"))
    }
    let isJSON = payload.first { !Self.isBlank($0) } == UInt8(ascii: "{")
    do {
      let command = try isJSON ? Self.json(payload, strict: true) : Self.binary(payload)
      return CommandEncoding.encode(command, channel: channel, id: given)
    } catch {
      // Whoever sent it waits for a result if it has an id that can be read all the same.
      let id =
        given
        ?? (isJSON ? (try? Self.json(payload, strict: false)).flatMap { CommandID($0.id) } : nil)
      return .failure(
        CommandEncoding.Refusal(
          id: id, serial: channel,
          detail: """
            not a Command in \(isJSON ? "proto3 JSON" : "binary protobuf"): \(error)
            """))
    }
  }

  private static func json(
    _ payload: [UInt8], strict: Bool
  ) throws -> Clusterdriver_V1_Command {
    var options = JSONDecodingOptions()
    options.ignoreUnknownFields = !strict
    options.messageDepthLimit = 8
    return try Clusterdriver_V1_Command(jsonUTF8Bytes: payload, options: options)
  }

  private static func binary(_ payload: [UInt8]) throws -> Clusterdriver_V1_Command {
    try Clusterdriver_V1_Command(serializedBytes: payload)
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D
  }
}

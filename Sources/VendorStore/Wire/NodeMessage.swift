public import DriverProtocol
internal import GRPCCore
internal import SwiftProtobuf

/// A `DriverMessage`, with its events as rows.
public struct NodeMessage: Sendable {
  public enum Content: Sendable {
    case hello(Clusterdriver_V1_Hello)
    case events(EventRows)
    case results([Clusterdriver_V1_CommandResult])
    case statuses([Clusterdriver_V1_ControllerStatus])
    case progress([Clusterdriver_V1_SequenceProgress])
  }

  public var number: UInt64
  public var content: Content
}

/// Reads a `DriverMessage`. Throws INVALID_ARGUMENT, with the reason, for what a node must not send.
struct NodeMessageDeserializer: MessageDeserializer {
  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> NodeMessage {
    try bytes.withUnsafeBytes { raw in
      do {
        return try decode(raw)
      } catch let error as WireError {
        throw RPCError(code: .invalidArgument, message: "DriverMessage refused: \(error.what).")
      } catch let error as RPCError {
        throw error
      } catch {
        throw RPCError(
          code: .invalidArgument, message: "DriverMessage cannot be read.", cause: error)
      }
    }
  }

  private func decode(_ raw: UnsafeRawBufferPointer) throws -> NodeMessage {
    var number: UInt64 = 0
    var content: NodeMessage.Content?
    var reader = WireReader(raw)
    while !reader.isAtEnd {
      let (field, type) = try reader.tag()
      switch (field, type) {
      case (1, .varint):
        number = try reader.varint()
      case (2, .bytes):
        content = .hello(try Clusterdriver_V1_Hello(serializedBytes: Array(reader.bytes())))
      case (3, .bytes):
        content = .events(try EventRows(eventBatch: reader.bytes()))
      case (4, .bytes):
        let results = try Clusterdriver_V1_CommandResults(serializedBytes: Array(reader.bytes()))
        for result in results.results { try result.check() }
        content = .results(results.results)
      case (5, .bytes):
        let statuses = try Clusterdriver_V1_ControllerStatuses(
          serializedBytes: Array(reader.bytes()))
        for status in statuses.statuses { try status.check() }
        content = .statuses(statuses.statuses)
      case (6, .bytes):
        let progress = try Clusterdriver_V1_SequenceProgresses(
          serializedBytes: Array(reader.bytes()))
        for sequence in progress.sequences { try sequence.check() }
        content = .progress(progress.sequences)
      default:
        try reader.skip(type)
      }
    }
    guard let content else {
      // To acknowledge what was not understood would be to lose it.
      throw WireError(
        what: "message \(number) has no content that this vendor app knows; "
          + "is the node newer than the vendor app?")
    }
    return NodeMessage(number: number, content: content)
  }
}

extension Clusterdriver_V1_CommandResult {
  fileprivate func check() throws(WireError) {
    guard id.count == 16 else {
      throw WireError(what: "a result's id has \(id.count) bytes, not 16")
    }
    guard body.count <= 1_024, detail.utf8.count <= 4_096 else {
      throw WireError(what: "a result of controller \(serial) is too long")
    }
    guard (1...5).contains(status.rawValue) else {
      throw WireError(what: "status \(status.rawValue) of a result is not known")
    }
  }
}

extension Clusterdriver_V1_SequenceProgress {
  fileprivate func check() throws(WireError) {
    guard id.count == 16 else {
      throw WireError(what: "a sequence's id has \(id.count) bytes, not 16")
    }
    guard done <= total else {
      throw WireError(what: "a sequence of controller \(serial) has done \(done) of \(total)")
    }
  }
}

extension Clusterdriver_V1_ControllerStatus {
  fileprivate func check() throws(WireError) {
    guard serial != 0, serial != .max else {
      throw WireError(what: "\(serial) is not a serial number (1 to 2^64-2)")
    }
    guard state == .online || state == .offline else {
      throw WireError(what: "state \(state.rawValue) of controller \(serial) is not known")
    }
    guard
      peer.utf8.count <= 256, model.utf8.count <= 256, firmware.utf8.count <= 256,
      reason.utf8.count <= 1_024
    else { throw WireError(what: "a text in the status of controller \(serial) is too long") }
  }
}

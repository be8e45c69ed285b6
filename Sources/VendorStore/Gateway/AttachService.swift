internal import DriverProtocol
internal import GRPCCore
internal import Logging
internal import SwiftProtobuf

/// Faults to commit on purpose, for testing nodes.
public enum Misbehaviour: Sendable {
  /// Acknowledges numbers that were never sent.
  case ackFuture
  /// Sends bytes that are no message.
  case garbage
  /// Commits, and does not say so.
  case dropAcks
}

/// `DriverGateway`: takes what nodes send.
///
/// Registered by hand, for a deserializer of its own: the generated one makes an object per event.
struct AttachService: RegistrableRPCService {
  struct Desks: Sendable {
    var roster: NodeRoster
    var directory: ControllerDirectory
    var commands: CommandDesk
    var access: AccessDesk
    var counters: Counters
    var queue: CommitQueue
    var store: any EventStore
  }

  /// Bytes a stream may have taken in but not committed.
  var budget: Int
  /// The bytes in flight to ask nodes for; 0 = leave it to them.
  var flowBytes: UInt64
  var misbehaviour: Misbehaviour?
  var desks: Desks
  var logger: Logger

  func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
    router.registerHandler(
      forMethod: Clusterdriver_V1_DriverGateway.Method.Attach.descriptor,
      deserializer: NodeMessageDeserializer(),
      serializer: OutgoingSerializer()
    ) { request, context in
      StreamingServerResponse(metadata: [:]) { writer in
        let session = AttachSession(service: self, peer: context.remotePeer)
        try await session.run(request.messages, writer)
        return [:]
      }
    }
  }
}

/// What goes out: a message, or bytes that are none.
enum Outgoing: Sendable {
  case message(Clusterdriver_V1_VendorMessage)
  case garbage

  init(_ message: Clusterdriver_V1_VendorMessage, _ misbehaviour: Misbehaviour?) {
    self = .message(message)
    guard let misbehaviour, case .ack = message.content else { return }
    var message = message
    switch misbehaviour {
    case .ackFuture:
      message.ack.through &+= 1_000_000
      self = .message(message)
    case .garbage:
      self = .garbage
    case .dropAcks:
      // A hint that changes nothing stands in for it.
      message.flow = Clusterdriver_V1_FlowHint()
      self = .message(message)
    }
  }
}

private struct OutgoingSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ outgoing: Outgoing) throws -> Bytes {
    switch outgoing {
    case .message(let message):
      let bytes: [UInt8] = try message.serializedBytes()
      return Bytes(bytes)
    case .garbage:
      return Bytes(repeating: 0xFF, count: 16)
    }
  }
}

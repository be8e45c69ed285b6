import CSCP
import DriverProtocol

extension Clusterdriver_V1_ControllerStatus {
  /// From a message of kind CONNECTED or DISCONNECTED.
  init(_ message: UnsafePointer<cscp_message>) {
    self.init()
    self.serial = message.pointee.serial
    self.atMs = message.pointee.at_ms
    self.ownerEpoch = message.pointee.owner_epoch
    self.sessionID = message.pointee.session_id
    guard message.pointee.kind == CSCP_MSG_CONNECTED.rawValue else {
      self.state = .offline
      self.reason = message.reasonName
      return
    }
    self.state = .online
    self.peer = message.bodyText
    self.model = withUnsafeBytes(of: message.pointee.model) {
      String(decoding: $0.prefix(Int(message.pointee.n_model)), as: UTF8.self)
    }
    self.firmware = withUnsafeBytes(of: message.pointee.firmware) {
      String(decoding: $0.prefix(Int(message.pointee.n_firmware)), as: UTF8.self)
    }
    self.logEpoch = message.pointee.log_epoch
    self.oldestSeq = message.pointee.oldest_seq
    self.lastSeq = message.pointee.through_seq
    self.ackedSeq = message.pointee.acked_seq
    self.capacity = message.pointee.capacity
  }
}

extension UnsafePointer<cscp_message> {
  /// As in Docs/PROTOCOL.md, "Reasons".
  var reasonName: String {
    String(cString: cscp_reason_name(cscp_reason(rawValue: self.pointee.reason)))
  }

  /// The body of kinds that have text in it: where the peer is.
  var bodyText: String {
    String(
      decoding: UnsafeBufferPointer(start: self.pointee.body, count: Int(self.pointee.n_body)),
      as: UTF8.self)
  }
}

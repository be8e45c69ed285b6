import CSCP
import DriverProtocol
import SwiftProtobuf

extension Clusterdriver_V1_CommandResult {
  init(_ finished: FinishedCommand) {
    self.init()
    self.id = .init(bytes: finished.id.bytes)
    self.serial = finished.serial
    self.status = Clusterdriver_V1_CommandStatus(rawValue: Int(finished.status.rawValue))!
    self.reason = finished.reason
    self.index = finished.index
    self.body = .init(bytes: finished.body)
    self.detail = finished.detail
    self.atMs = finished.atMs
    self.elapsedUs = finished.elapsedUs
  }
}

extension CommandMachine.Event {
  /// What the controller layer says about a command: kinds COMMAND and RESULT.
  init?(_ message: UnsafePointer<cscp_message>) {
    let bytes = withUnsafeBytes(of: message.pointee.id) { [UInt8]($0) }
    guard let id = CommandID(bytes) else { return nil }
    let connection = message.pointee.connection
    if message.pointee.kind == CSCP_MSG_RESULT.rawValue {
      guard let status = CommandStatus(rawValue: message.pointee.status) else { return nil }
      let body = UnsafeBufferPointer(
        start: message.pointee.body, count: Int(message.pointee.n_body))
      let isRefused = status == .refused
      self = .result(
        id, status: status, reason: isRefused ? message.pointee.reason : 0,
        index: isRefused ? message.pointee.index : 0, body: [UInt8](body))
      return
    }
    switch UInt32(message.pointee.status) {
    case CSCP_COMMAND_SENT.rawValue: self = .sent(id, connection: connection)
    case CSCP_COMMAND_EXPIRED.rawValue: self = .expired(id)
    case CSCP_COMMAND_UNSENT.rawValue: self = .unsent(id, connection: connection)
    default: return nil
    }
  }
}

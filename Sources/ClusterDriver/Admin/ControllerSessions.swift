internal import CSCP
internal import DriverProtocol
internal import SwiftProtobuf

extension Clusterdriver_V1_NodeController {
  /// A session as the controller layer tells it.
  init(_ session: cscp_session_info) {
    self.init()
    self.status = .with { status in
      status.serial = session.serial
      status.state = .online
      status.atMs = session.connected_at_ms
      status.ownerEpoch = session.owner_epoch
      status.sessionID = session.session_id
      status.peer = text(of: session.peer)
      status.model = text(of: session.model)
      status.firmware = text(of: session.firmware)
      status.logEpoch = session.log_epoch
      status.lastSeq = session.hello_last_seq
      status.ackedSeq = session.acked_seq
      status.capacity = session.capacity
    }
    self.receivedSeq = session.received_seq
    self.ackedSeq = session.acked_seq
    let newest = max(session.received_seq, session.hello_last_seq)
    self.backlog = newest > session.acked_seq ? newest - session.acked_seq : 0
    self.commandsPending = session.commands_pending
    self.idleMs = session.idle_ms
  }
}

/// The text in an array of `char` that ends at its first NUL.
private func text<Chars>(of chars: Chars) -> String {
  withUnsafeBytes(of: chars) { bytes in
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}

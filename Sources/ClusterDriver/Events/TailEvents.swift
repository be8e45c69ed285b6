import CSCP
import DriverProtocol
import SwiftProtobuf

extension TailHub {
  /// Offers the events among these messages. For when somebody watches: it makes a value of each.
  func offer(_ messages: UnsafePointer<cscp_message>, _ count: Int) {
    var events: [Clusterdriver_V1_Event] = []
    for index in 0..<count {
      if let event = Clusterdriver_V1_Event(messages + index) { events.append(event) }
    }
    if !events.isEmpty { self.offer(events) }
  }
}

extension Clusterdriver_V1_Event {
  /// Nil for a message that is no record of a log.
  init?(_ message: UnsafePointer<cscp_message>) {
    switch message.pointee.kind {
    case CSCP_MSG_EVENT.rawValue, CSCP_MSG_LOG_GAP.rawValue, CSCP_MSG_LOG_RESET.rawValue: break
    default: return nil
    }
    // By way of the encoder, so that what a watcher sees is what the vendor app gets.
    var encoder = EventBatchEncoder(capacity: 4096)
    encoder.append(message)
    guard
      let decoded = try? Clusterdriver_V1_DriverMessage(serializedBytes: encoder.finish(number: 0)),
      let event = decoded.events.events.first
    else { return nil }
    self = event
  }
}

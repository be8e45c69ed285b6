internal import DriverProtocol
internal import GRPCCore

/// Checks the order of a node's messages: Hello first and once, then numbers without holes from the
/// one Hello named. Pure; says what is wrong in words for the node's log.
struct MessageOrder {
  private enum State {
    case beforeHello
    case expecting(UInt64)
  }

  private var state = State.beforeHello

  /// The last number seen; 0 when there was none.
  private(set) var last: UInt64 = 0

  /// Takes the message in; throws the status to end the stream with.
  mutating func take(_ message: NodeMessage) throws(RPCError) {
    switch (state, message.content) {
    case (.beforeHello, .hello(let hello)):
      guard message.number == 0 else {
        throw .invalid("Hello carries number \(message.number); it is not numbered")
      }
      guard (1...255).contains(hello.nodeID.utf8.count), hello.version.utf8.count <= 64 else {
        throw .invalid("Hello's node_id must have 1 to 255 bytes and its version at most 64")
      }
      guard hello.nextNumber > 0 else {
        throw .invalid("Hello's next_number is 0; numbers begin at 1")
      }
      state = .expecting(hello.nextNumber)
    case (.beforeHello, _):
      throw .invalid("the first message of a stream must be Hello")
    case (.expecting, .hello):
      throw .invalid("a second Hello; a node that begins again opens a new stream")
    case (.expecting, .events(let events)) where message.number == 0:
      guard events.rows.allSatisfy({ $0.flags.contains(.advisory) }) else {
        throw .invalid("a batch without a number has events that are not advisory copies")
      }
    case (.expecting(let expected), _):
      try check(message.number, expected)
      last = expected
      state = .expecting(expected &+ 1)
    }
  }

  private func check(_ number: UInt64, _ expected: UInt64) throws(RPCError) {
    if number == expected { return }
    if number == 0 { throw .invalid("results, statuses and progress must carry a number") }
    let kind = number > expected ? "a hole: what is between was not received" : "going back"
    throw RPCError(
      code: .failedPrecondition,
      message: "Message \(number) came where \(expected) was due, \(kind). "
        + "Attach again and send from the first number that was not acknowledged.")
  }
}

extension RPCError {
  static func invalid(_ what: String) -> RPCError {
    RPCError(code: .invalidArgument, message: "DriverMessage refused: \(what).")
  }
}

/// A connection beside the link's own, to one who knows the server: what is said goes out as the
/// socket takes it, and every reply is handed on. Whose it is decides what either means, and closes
/// it after a failure.
///
/// Belongs to the thread of a loop.
final class SideLine {
  let wire: Wire
  private let input: UnsafeMutableRawBufferPointer
  private var out = OutputBuffer()
  private var reader: ReplyReader?

  /// `input` is room to read into, which lines may share.
  init(wire: Wire, input: UnsafeMutableRawBufferPointer) {
    self.wire = wire
    self.input = input
  }

  /// The transport is there: says the first words. Limits are those of a reply.
  func begin(
    _ bytes: [UInt8], bytesMax: Int, elementsMax: Int, keepAliveSeconds: Int32
  ) throws(RedisFailure) {
    wire.keepAlive(idleSeconds: keepAliveSeconds)
    out = OutputBuffer()
    reader = try ReplyReader(bytesMax: bytesMax, elementsMax: elementsMax)
    try say(bytes)
  }

  func say(_ bytes: [UInt8]) throws(RedisFailure) {
    out.append(bytes)
    try flush()
  }

  /// Sends what waits, as far as the socket takes it.
  func flush() throws(RedisFailure) {
    guard wire.isOpen else { return }
    try out.flush(to: wire)
    wire.watch(hasOutput: out.unsent > 0)
  }

  /// Reads what is there. `heard` is told of every piece, `take` of every reply; either may close
  /// this line.
  func receive(
    heard: () -> Void, take: (RedisValue) throws(RedisFailure) -> Void
  ) throws(RedisFailure) {
    // Some pieces, then others get their turn.
    for _ in 0..<4 where wire.isOpen {
      let count = try wire.receive(into: input)
      if count == 0 { break }
      heard()
      guard let reader else { break }
      try reader.feed(UnsafeRawBufferPointer(start: input.baseAddress, count: count))
      while self.reader === reader, let value = try reader.next() { try take(value) }
    }
    if wire.isOpen { wire.watch(hasOutput: out.unsent > 0) }
  }

  func close(isLate: Bool) {
    wire.close(isLate: isLate)
    reader = nil
  }
}

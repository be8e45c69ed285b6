/// Bytes on their way to a socket, with the positions that tell what has left.
struct OutputBuffer {
  private var bytes: [UInt8] = []
  private var head = 0
  /// Bytes appended, and bytes the socket has taken, since the connection began.
  private(set) var written: UInt64 = 0
  private(set) var sent: UInt64 = 0

  var unsent: Int { bytes.count - head }

  mutating func append(_ more: [UInt8]) {
    bytes.append(contentsOf: more)
    written += UInt64(more.count)
  }

  /// Counts bytes as taken by the socket.
  mutating func take(_ count: Int) {
    sent += UInt64(count)
    head += count
    if head == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= 1 << 20)
      head = 0
    } else if head >= 1 << 16, head * 2 >= bytes.count {
      bytes.removeFirst(head)
      head = 0
    }
  }

  /// Sends what the connection takes now.
  mutating func flush(to wire: Wire) throws(RedisFailure) {
    while unsent > 0 {
      let result = bytes.withUnsafeBytes { all in
        Result { () throws(RedisFailure) in
          try wire.send(UnsafeRawBufferPointer(rebasing: all[head...]))
        }
      }
      let count = try result.get()
      if count == 0 { return }
      take(count)
    }
  }
}

internal import GRPCCore
internal import Glibc
internal import Synchronization

/// Finds messages in a stream's body bytes. Belongs to one reading task at a time.
final class InboundReader: @unchecked Sendable {
  enum Item {
    case metadata(Metadata)
    case message([UInt8])
    case end(StreamCore.End)
  }

  private let core: StreamCore
  private let maxMessageBytes: Int
  private let windowBytes: Int
  private let claimed = Atomic<Bool>(false)

  private var buffer: [UInt8] = []
  private var offset = 0
  // The prefix being read: flag and length, 5 bytes.
  private var prefix: (UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 0, 0, 0, 0)
  private var prefixCount = 0
  // The message being read, when it did not come in one piece.
  private var partial: [UInt8] = []
  private var missing = -1
  private var hasEnded = false

  init(core: StreamCore, maxMessageBytes: Int, windowBytes: Int) {
    self.core = core
    self.maxMessageBytes = maxMessageBytes
    self.windowBytes = windowBytes
  }

  /// A stream can be iterated once: true for the first who asks.
  func claim() -> Bool {
    !self.claimed.exchange(true, ordering: .relaxed)
  }

  /// The next item when ``nextMessage()`` has none; nil after the end was given out.
  func next(isFirst: Bool) async throws -> Item? {
    guard isFirst else {
      throw RPCError(code: .internalError, message: "A stream can be iterated only once.")
    }
    while !self.hasEnded {
      self.recycle()
      switch self.core.take(into: &self.buffer) {
      case .metadata(let metadata):
        return .metadata(metadata)
      case .bytes:
        if let message = try self.nextMessage() { return .message(message) }
      case .end(let end):
        self.hasEnded = true
        if case .failed = end { return .end(end) }
        guard self.prefixCount == 0, self.missing < 0 else {
          // A status that says why is worth more than the observation that a message is cut off.
          if case .status(let status, _) = end, status.code != .ok { return .end(end) }
          throw RPCError(
            code: .internalError, message: "The stream ended in the middle of a message.")
        }
        return .end(end)
      case .nothing:
        try await self.core.waitForInbound(
          wanted: max(1, min(self.missing, self.windowBytes / 4)))
      }
    }
    return nil
  }

  /// Empties the buffer for the next exchange; a large one is not kept when little comes.
  private func recycle() {
    if self.buffer.capacity > 64 * 1024 && self.buffer.count < self.buffer.capacity / 8 {
      self.buffer = []
    } else {
      self.buffer.removeAll(keepingCapacity: true)
    }
    self.offset = 0
  }

  /// The next message, if it has come whole.
  func nextMessage() throws -> [UInt8]? {
    if self.missing < 0 {
      if self.hasEnded { return nil }
      guard let prefix = self.readPrefix() else { return nil }
      let length = prefix.length
      guard prefix.flag == 0 && length <= self.maxMessageBytes else {
        throw self.refusal(of: prefix)
      }
      if self.buffer.count - self.offset >= length {
        let message = self.slice(length)
        self.offset += length
        return message
      }
      self.missing = length
      self.partial = []
      // What the peer announces is believed only up to its window: no more can be on its way.
      self.partial.reserveCapacity(min(length, self.windowBytes))
    }
    let step = min(self.missing, self.buffer.count - self.offset)
    self.buffer.withUnsafeBytes {
      self.partial.append(
        contentsOf: UnsafeRawBufferPointer(rebasing: $0[self.offset...].prefix(step)))
    }
    self.offset += step
    self.missing -= step
    guard self.missing == 0 else { return nil }
    self.missing = -1
    defer { self.partial = [] }
    return self.partial
  }

  private func slice(_ length: Int) -> [UInt8] {
    guard length > 0 else { return [] }
    return self.buffer.withUnsafeBytes { source in
      [UInt8](unsafeUninitializedCapacity: length) { into, count in
        memcpy(into.baseAddress!, source.baseAddress! + self.offset, length)
        count = length
      }
    }
  }

  private struct Prefix {
    var flag: UInt8
    var length: Int
  }

  /// The next message's prefix, once all five bytes of it are there.
  private func readPrefix() -> Prefix? {
    let available = self.buffer.count - self.offset
    if available == 0 { return nil }
    if available >= 5 && self.prefixCount == 0 {
      let at = self.offset
      self.offset = at + 5
      return self.buffer.withUnsafeBytes { bytes in
        Prefix(
          flag: bytes[at],
          length: Int(
            UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt32.self))))
      }
    }
    let wanted = 5 - self.prefixCount
    let step = min(wanted, available)
    self.buffer.withUnsafeBytes { source in
      withUnsafeMutableBytes(of: &self.prefix) { prefix in
        for i in 0..<step { prefix[self.prefixCount + i] = source[self.offset + i] }
      }
    }
    self.offset += step
    self.prefixCount += step
    guard self.prefixCount == 5 else { return nil }
    self.prefixCount = 0

    let (flag, a, b, c, d) = self.prefix
    return Prefix(flag: flag, length: Int(a) << 24 | Int(b) << 16 | Int(c) << 8 | Int(d))
  }

  /// Why a message with this prefix is not taken.
  private func refusal(of prefix: Prefix) -> RPCError {
    self.hasEnded = true
    switch prefix.flag {
    case 0:
      return RPCError(
        code: .resourceExhausted,
        message: """
          A message of \(prefix.length) bytes came; the limit is \(self.maxMessageBytes) bytes \
          (maxInboundMessageBytes).
          """)
    case 1:
      return RPCError(
        code: .internalError, message: "A message is compressed; only identity was offered.")
    default:
      return RPCError(
        code: .internalError,
        message: "A message begins with \(prefix.flag) where its compression flag (0 or 1) belongs."
      )
    }
  }
}

/// What a client iterates: metadata, messages, status.
///
/// Not one generic type for both roles: it is called through existentials, and only concrete types
/// are then compiled to direct code.
struct ClientInbound: AsyncSequence, Sendable {
  typealias Element = RPCResponsePart<[UInt8]>
  typealias Failure = any Error

  let reader: InboundReader

  func makeAsyncIterator() -> Iterator {
    Iterator(reader: self.reader, isFirst: self.reader.claim())
  }

  struct Iterator: AsyncIteratorProtocol {
    let reader: InboundReader
    let isFirst: Bool

    mutating func next() async throws -> Element? {
      try await self.next(isolation: nil)
    }

    mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Element? {
      // Most messages are there already: no suspension, no further call.
      if self.isFirst, let message = try self.reader.nextMessage() { return .message(message) }
      switch try await self.reader.next(isFirst: self.isFirst) {
      case .metadata(let metadata): return .metadata(metadata)
      case .message(let message): return .message(message)
      case .end(.status(let status, let metadata)): return .status(status, metadata)
      case .end(.failed(let error)): throw error
      case .end(.halfClosed), nil: return nil
      }
    }
  }
}

/// What a server's handler iterates: metadata, messages.
struct ServerInbound: AsyncSequence, Sendable {
  typealias Element = RPCRequestPart<[UInt8]>
  typealias Failure = any Error

  let reader: InboundReader

  func makeAsyncIterator() -> Iterator {
    Iterator(reader: self.reader, isFirst: self.reader.claim())
  }

  struct Iterator: AsyncIteratorProtocol {
    let reader: InboundReader
    let isFirst: Bool

    mutating func next() async throws -> Element? {
      try await self.next(isolation: nil)
    }

    mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Element? {
      if self.isFirst, let message = try self.reader.nextMessage() { return .message(message) }
      switch try await self.reader.next(isFirst: self.isFirst) {
      case .metadata(let metadata): return .metadata(metadata)
      case .message(let message): return .message(message)
      case .end(.failed(let error)): throw error
      case .end(.halfClosed), .end(.status), nil: return nil
      }
    }
  }
}

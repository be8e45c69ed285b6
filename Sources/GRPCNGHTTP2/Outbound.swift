internal import CHTTP2
internal import GRPCCore

/// Frames messages outside any lock and hands them over in bulk.
private struct OutboundBatch: ~Copyable {
  private var chain = CH2Chain()
  private let core: StreamCore
  private let maxMessageBytes: Int
  /// Handed over when this much is together: a DATA frame or two.
  private static var step: Int { 64 * 1024 }

  init(core: StreamCore, maxMessageBytes: Int) {
    self.core = core
    self.maxMessageBytes = maxMessageBytes
  }

  deinit {
    var chain = self.chain
    ch2_chain_clear(&chain)
  }

  /// - Returns: whether it is time to flush.
  mutating func add(_ message: [UInt8]) throws -> Bool {
    try checkSize(message, self.maxMessageBytes)
    try StreamCore.append(message, to: &self.chain)
    return self.chain.n_bytes >= Self.step
  }

  mutating func flush() async throws {
    guard self.chain.n_bytes > 0 else { return }
    if try self.core.write(&self.chain) == .full { try await self.core.waitForRoom() }
  }
}

private func checkSize(_ message: [UInt8], _ limit: Int) throws {
  guard message.count <= limit else {
    throw RPCError(
      code: .resourceExhausted,
      message: """
        A message of \(message.count) bytes is not sent; the limit is \(limit) bytes \
        (maxOutboundMessageBytes).
        """)
  }
}

/// A client's request, written.
struct ClientWriter: ClosableRPCWriterProtocol {
  typealias Element = RPCRequestPart<[UInt8]>

  let core: StreamCore
  let head: HeaderBlock
  let maxMessageBytes: Int

  func write(_ element: Element) async throws {
    switch element {
    case .metadata(let metadata):
      var head = self.head
      try head.add(metadata)
      try self.core.writeHead(head)
    case .message(let message):
      try checkSize(message, self.maxMessageBytes)
      if try self.core.write(message) == .full { try await self.core.waitForRoom() }
    }
  }

  func write(contentsOf elements: some Sequence<Element>) async throws {
    // GRPCCore passes arrays: they are walked directly instead of through the protocol.
    let parts = (elements as? [Element]) ?? Array(elements)
    var batch = OutboundBatch(core: self.core, maxMessageBytes: self.maxMessageBytes)
    for part in parts {
      if case .message(let message) = part {
        if try batch.add(message) { try await batch.flush() }
      } else {
        try await batch.flush()
        try await self.write(part)
      }
    }
    try await batch.flush()
  }

  func finish() async {
    // An error means that the RPC is over, which its reader is told.
    try? self.core.finish(trailers: nil, instead: nil)
  }

  func finish(throwing error: any Error) async {
    self.core.abandon(
      HTTP2ErrorCode.cancel, unlessEnded: false, because: error as? RPCError)
  }
}

/// A server's response, written.
struct ServerWriter: ClosableRPCWriterProtocol {
  typealias Element = RPCResponsePart<[UInt8]>

  let core: StreamCore
  let maxMessageBytes: Int

  func write(_ element: Element) async throws {
    switch element {
    case .metadata(let metadata):
      var head = ResponseHead.begin()
      try head.add(metadata)
      try self.core.writeHead(head)
    case .message(let message):
      try checkSize(message, self.maxMessageBytes)
      if try self.core.write(message) == .full { try await self.core.waitForRoom() }
    case .status(let status, let metadata):
      try self.core.finish(
        trailers: ResponseHead.trailers(status, metadata),
        instead: ResponseHead.everything(status, metadata))
    }
  }

  func write(contentsOf elements: some Sequence<Element>) async throws {
    // GRPCCore passes arrays: they are walked directly instead of through the protocol.
    let parts = (elements as? [Element]) ?? Array(elements)
    var batch = OutboundBatch(core: self.core, maxMessageBytes: self.maxMessageBytes)
    for part in parts {
      if case .message(let message) = part {
        if try batch.add(message) { try await batch.flush() }
      } else {
        try await batch.flush()
        try await self.write(part)
      }
    }
    try await batch.flush()
  }

  func finish() async {
    // Without a status the response is broken off, not ended.
    if !self.core.isOutboundEnded {
      self.core.abandon(HTTP2ErrorCode.internalError, unlessEnded: false)
    }
  }

  func finish(throwing error: any Error) async {
    await self.finish()
  }
}

/// The header blocks of a response.
enum ResponseHead {
  /// Longest status message sent, in bytes before encoding: trailers must fit any peer's limit.
  private static let maxMessageBytes = 2048

  static func begin(status: String = "200") -> HeaderBlock {
    var head = HeaderBlock()
    head.add(":status", status)
    head.add("content-type", "application/grpc")
    return head
  }

  static func trailers(_ status: Status, _ metadata: Metadata) -> HeaderBlock {
    var block = HeaderBlock()
    self.add(status, metadata, to: &block)
    return block
  }

  /// A response that is nothing but its status ("trailers-only").
  static func everything(_ status: Status, _ metadata: Metadata) -> HeaderBlock {
    var block = self.begin()
    self.add(status, metadata, to: &block)
    return block
  }

  /// An answer to what is not gRPC.
  static func http(_ status: String) -> HeaderBlock {
    var block = HeaderBlock()
    block.add(":status", status)
    return block
  }

  private static func add(_ status: Status, _ metadata: Metadata, to block: inout HeaderBlock) {
    block.add("grpc-status", "\(status.code.rawValue)")
    if !status.message.isEmpty {
      var message = status.message
      if message.utf8.count > self.maxMessageBytes {
        message = String(decoding: message.utf8.prefix(self.maxMessageBytes), as: UTF8.self)
      }
      block.add("grpc-message", PercentEncoding.encode(message))
    }
    // What cannot be carried is left out: losing the status over it would be worse.
    var complete = block
    if (try? complete.add(metadata)) != nil {
      block = complete
      return
    }
    for pair in metadata {
      var one = block
      if (try? one.add(Metadata(CollectionOfOne(pair)))) != nil { block = one }
    }
  }
}

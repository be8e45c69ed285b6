import GRPCCore

/// Messages that are encoded already go to the transport as they are.
struct RawMessageSerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes {
    // Every transport of ours has arrays for its bytes; then nothing is copied.
    if let bytes = message as? Bytes { return bytes }
    return Bytes(message)
  }
}

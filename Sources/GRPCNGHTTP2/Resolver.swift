internal import CHTTP2
internal import Glibc

/// Addresses, found and written.
enum Resolver {
  enum Outcome: @unchecked Sendable {
    case found([CH2Address])
    case failed(String)
  }

  /// Blocks as long as the system's resolver does.
  static func addresses(of target: NGHTTP2Address, passive: Bool) -> Outcome {
    switch target {
    case .unix(let path):
      var address = CH2Address()
      let result = ch2_address_unix(path, &address)
      guard result == 0 else { return .failed("\(target): \(Errno(result))") }
      return .found([address])
    case .tcp(let host, let port):
      guard let port = UInt16(exactly: port) else {
        return .failed("\(target): a port is a number of 0…65535")
      }
      var addresses: UnsafeMutablePointer<CH2Address>?
      var count = 0
      let result = ch2_resolve(host, port, passive, &addresses, &count)
      if result > 0 { return .failed("\(target): \(String(cString: ch2_resolve_text(result)))") }
      guard result == 0, let addresses else { return .failed("\(target): \(Errno(result))") }
      defer { free(addresses) }
      return .found(Array(UnsafeBufferPointer(start: addresses, count: count)))
    }
  }

  /// "ipv4:127.0.0.1:5001" and the like.
  static func text(_ address: CH2Address) -> String {
    var address = address
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CH2_ADDRESS_TEXT_MAX)) {
      ch2_address_text(&address, $0.baseAddress!)
      return String(cString: $0.baseAddress!)
    }
  }

  static func localText(_ fd: Int32) -> String {
    var address = CH2Address()
    return ch2_local_address(fd, &address) == 0 ? self.text(address) : "unknown"
  }
}

extension CH2Limits {
  init(_ config: NGHTTP2ConnectionConfig, server: NGHTTP2ServerConfig?) {
    func clamp(_ value: Int, _ range: ClosedRange<UInt32>) -> UInt32 {
      min(max(UInt32(clamping: value), range.lowerBound), range.upperBound)
    }
    let windows = UInt32(65_535)...UInt32(Int32.max)
    self.init()
    self.stream_window_bytes = clamp(config.streamWindowBytes, windows)
    self.connection_window_bytes = clamp(config.connectionWindowBytes, windows)
    self.max_frame_bytes = clamp(config.maxFrameBytes, 16_384...16_777_215)
    self.max_send_frame_bytes = clamp(config.maxSendFrameBytes, 16_384...16_777_215)
    self.max_header_list_bytes = clamp(config.maxHeaderListBytes, 1024...16_777_216)
    self.max_settings_entries = clamp(config.maxSettingsEntries, 8...65_535)
    self.max_outbound_acks = clamp(config.maxOutboundAcknowledgements, 1...1_000_000)
    self.max_continuations = clamp(config.maxContinuations, 1...65_535)
    self.max_concurrent_streams = clamp(server?.maxConcurrentStreams ?? 0, 0...UInt32(Int32.max))
    self.reset_burst = clamp(server?.maxResetBurst ?? 1000, 1...UInt32(Int32.max))
    self.reset_per_second = clamp(server?.maxResetsPerSecond ?? 1000, 1...UInt32(Int32.max))
  }
}

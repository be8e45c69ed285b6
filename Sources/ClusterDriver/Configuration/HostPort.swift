internal import Glibc

/// A host and a port, as in `host:port` and `[IPv6]:port`.
///
/// `host` is a name or a numeric address without brackets; it is not looked up here. `port` is
/// 0 … 65,535, where 0 means "any free one" to whoever listens.
public struct HostPort: Sendable, Hashable, CustomStringConvertible {
  public var host: String
  public var port: UInt16

  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Reads `host:port` or `[IPv6]:port`; throws what is wrong with it.
  init(parsing text: String) throws(Objection) {
    guard let colon = text.lastIndex(of: ":") else {
      throw Objection("has no port")
    }
    var host = text[..<colon]
    if host.hasPrefix("[") && host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      guard NumericAddress(String(host))?.isIPv6 == true else {
        throw Objection("has something else than an IPv6 address in its brackets")
      }
    } else if host.contains(":") {
      throw Objection("is not clear: an IPv6 address needs brackets, as in [::1]:5001")
    }
    guard let port = UInt16(text[text.index(after: colon)...]) else {
      throw Objection("has a port that is not a number of 0 … 65535")
    }
    guard !host.isEmpty else { throw Objection("has no host before the colon") }
    guard host.utf8.count <= 253, host.utf8.allSatisfy(HostPort.isHostByte) else {
      throw Objection("has a host that is neither a name nor an address")
    }
    self.init(host: String(host), port: port)
  }

  /// Whether only this machine can be meant.
  public var isLoopback: Bool {
    self.host == "localhost" || NumericAddress(self.host)?.isLoopback == true
  }

  public var description: String {
    self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
  }

  private static func isHostByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"),
      UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "%"):
      return true
    default:
      return false
    }
  }
}

/// A numeric IPv4 or IPv6 address.
struct NumericAddress: Equatable {
  /// 4 or 16 bytes, in network byte order.
  let bytes: [UInt8]

  var isIPv6: Bool { self.bytes.count == 16 }

  /// 127.0.0.0/8, ::1, and the former written as IPv6.
  var isLoopback: Bool {
    if !self.isIPv6 { return self.bytes[0] == 127 }
    if self.bytes == [UInt8](repeating: 0, count: 15) + [1] { return true }
    return self.bytes[..<12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF] && self.bytes[12] == 127
  }

  /// `nil` when the text is not a numeric address.
  init?(_ text: String) {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 {
      self.bytes = Array(bytes[..<4])
    } else if inet_pton(AF_INET6, text, &bytes) == 1 {
      self.bytes = bytes
    } else {
      return nil
    }
  }
}

/// Addresses that share their first bits: `10.0.0.0/24`, `2001:db8::/32`, or one address alone.
public struct Network: Sendable, Hashable, CustomStringConvertible {
  /// 16 bytes, in network byte order; IPv4 is mapped (::ffff:0:0/96).
  public let address: [UInt8]
  /// 0 … 128, of those 16 bytes.
  public let prefixBits: UInt8
  public let description: String

  /// Reads `address/bits` or `address`.
  init(parsing text: String) throws(Objection) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let numeric = NumericAddress(String(parts[0])) else {
      throw Objection("has \"\(text)\", which is no network (as 10.0.0.0/24) and no address")
    }
    let own = numeric.isIPv6 ? 128 : 32
    var bits = own
    if parts.count == 2 {
      guard let given = Int(parts[1]), (0...own).contains(given) else {
        throw Objection("has \"\(text)\", whose prefix is not 0 … \(own)")
      }
      bits = given
    }
    self.address =
      numeric.isIPv6
      ? numeric.bytes : [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + numeric.bytes
    self.prefixBits = UInt8(bits + 128 - own)
    self.description = text
  }

  /// A list with commas.
  static func list(_ text: String) throws(Objection) -> [Network] {
    var networks: [Network] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      networks.append(try Network(parsing: String(part)))
    }
    guard networks.count <= 64 else { throw Objection("has more than 64 networks") }
    return networks
  }

  /// This machine: what balancers and nodes on it come from.
  static let loopback: [Network] = {
    do { return try Network.list("127.0.0.0/8,::1") } catch { preconditionFailure("\(error)") }
  }()
}

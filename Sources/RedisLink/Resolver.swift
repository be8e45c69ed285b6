internal import CSystem

/// What a name came to.
enum Resolution: Sendable {
  case addresses([csys_address])
  case failed(RedisFailure)
}

/// Names are resolved on a thread that lives as long as that takes, since the system's resolver
/// blocks for as long as it likes; numeric addresses at once.
enum Resolver {
  static func numeric(_ place: RedisAddress) -> Resolution? {
    var address = csys_address()
    return csys_address_parse(place.host, place.port, &address) == 0 ? .addresses([address]) : nil
  }

  static func start(_ place: RedisAddress, then tell: @escaping @Sendable (Resolution) -> Void)
    throws(RedisFailure)
  {
    try startThread("redis-resolve") { tell(resolve(place)) }
  }

  private static func resolve(_ place: RedisAddress) -> Resolution {
    var addresses = [csys_address](repeating: csys_address(), count: 8)
    let found = csys_address_resolve(place.host, place.port, &addresses, addresses.count)
    if found < 0 { return .failed(.unresolvable(host: place.host, errno: Int32(-found))) }
    return .addresses(Array(addresses.prefix(Int(found))))
  }
}

/// Runs `body` on a thread of its own.
func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) throws(RedisFailure) {
  final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  let start = Unmanaged.passRetained(Start(body))
  let result = csys_thread_start(
    name, { Unmanaged<Start>.fromOpaque($0!).takeRetainedValue().body() }, start.toOpaque(), nil)
  if result < 0 {
    start.release()
    throw .system(doing: "starting a thread", errno: -result)
  }
}

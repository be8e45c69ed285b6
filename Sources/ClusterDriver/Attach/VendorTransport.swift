import GRPCNGHTTP2
import Synchronization

/// The transport to the vendor app, and what it says of its connection.
struct VendorTransport {
  let transport: NGHTTP2ClientTransport
  let events: Events

  /// Passes on what the transport reports to whoever is made after it.
  final class Events: Sendable {
    private let handler = Mutex<(@Sendable (NGHTTP2Event) -> Void)?>(nil)

    func handle(by handler: @escaping @Sendable (NGHTTP2Event) -> Void) {
      self.handler.withLock { $0 = handler }
    }

    fileprivate func happened(_ event: NGHTTP2Event) {
      self.handler.withLock { $0 }?(event)
    }
  }

  init(_ setting: VendorSetting) throws {
    let events = Events()
    var config = NGHTTP2ClientConfig()
    config.userAgent = "cluster-driver/\(NodeVersion.current)"
    config.threadName = "vendor"
    config.connectTimeout = .seconds(1)
    config.backoff = NGHTTP2Backoff(
      initial: .milliseconds(100), multiplier: 2, maximum: .milliseconds(500), jitter: 0.3)
    // TCP's own pauses between two attempts would last as long again as the break did. A vendor app that only takes
    // nothing is given longer.
    config.lossTimeout = .milliseconds(600)
    config.connection.tcpTimeout = .seconds(5)
    // One to which nothing is sent at present is to be known to be gone as well.
    config.connection.tcpKeepaliveIdle = .seconds(1)
    // Finds a vendor app that hangs with its machine; one that is only slow answers pings.
    config.keepalive = NGHTTP2Keepalive(interval: .seconds(20), timeout: .seconds(10))
    config.onEvent = { events.happened($0) }
    self.events = events
    self.transport = try NGHTTP2ClientTransport(
      target: .tcp(host: setting.address.host, port: Int(setting.address.port)), config: config)
  }
}

extension NGHTTP2Event {
  /// Why there is no connection, if this says so.
  var failure: String? {
    switch self {
    case .connectFailed(let target, let reason, _): return "\(target): \(reason)"
    case .connected, .disconnected, .refused, .unanswered: return nil
    }
  }
}

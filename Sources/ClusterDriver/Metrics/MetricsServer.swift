internal import CMetricsHTTP
internal import Glibc

/// Serves `/metrics`, `/healthz` and `/readyz` by HTTP, on a thread of its own, until it is freed.
final class MetricsServer {
  /// Why it could not be started: for people, with what to do.
  struct Failure: Error, Equatable, CustomStringConvertible {
    let code: CInt
    let description: String
  }

  /// What a peer can hold.
  struct Limits: Equatable {
    /// Connections at once, 1 … 1,024; further ones wait to be accepted.
    var connectionsMax: UInt32 = 32
    /// Of a request, 2,048 ….
    var requestBytesMax: UInt32 = 16_384
    /// From accept to the end of the answer, in ms, 10 ….
    var deadlineMs: UInt32 = 10_000
  }

  struct Page: Equatable {
    var status: UInt32
    var contentType: String
    var body: String
  }

  /// What was bound.
  let address: HostPort
  private let server: OpaquePointer
  private let context: Unmanaged<Context>

  private final class Context {
    let source: any MetricsSource

    init(source: any MetricsSource) {
      self.source = source
    }
  }

  /// Binds `address`, which is numeric; port 0 takes any free one.
  init(
    address: HostPort, limits: Limits = Limits(), source: any MetricsSource
  ) throws(Failure) {
    let context = Unmanaged.passRetained(Context(source: source))
    var server: OpaquePointer?
    let result = address.host.withCString { (host) -> CInt in
      var config = metrics_http_config()
      metrics_http_config_init(&config)
      config.address = host
      config.port = address.port
      config.connections_max = limits.connectionsMax
      config.request_bytes_max = limits.requestBytesMax
      config.deadline_ms = limits.deadlineMs
      return metrics_http_new(&config, MetricsServer.answer, context.toOpaque(), &server)
    }
    guard result >= 0, let server else {
      context.release()
      throw MetricsServer.failure(address, code: -result)
    }
    self.context = context
    self.server = server
    self.address = HostPort(host: address.host, port: metrics_http_port(server))
  }

  deinit {
    metrics_http_free(self.server)
    self.context.release()
  }

  /// What a path shows; `nil` = no such page.
  static func page(_ path: String, of source: any MetricsSource) -> Page? {
    let plain = "text/plain; charset=utf-8"
    switch path {
    case "/metrics":
      return Page(
        status: 200, contentType: PrometheusText.contentType,
        body: MetricsPage.render(source.metrics()))
    case "/healthz":
      switch source.health() {
      case .alive: return Page(status: 200, contentType: plain, body: "alive\n")
      case .stuck(let what): return Page(status: 503, contentType: plain, body: "\(what)\n")
      }
    case "/readyz":
      switch source.readiness() {
      case .ready: return Page(status: 200, contentType: plain, body: "ready\n")
      case .notReady(let why): return Page(status: 503, contentType: plain, body: "\(why)\n")
      }
    default:
      return nil
    }
  }

  private static let answer: metrics_http_answer = { context, path, reply in
    guard let context else { return }
    let source = Unmanaged<Context>.fromOpaque(context).takeUnretainedValue().source
    guard let page = MetricsServer.page(String(cString: path), of: source) else { return }
    // Out of memory it stays a 404, and the scrape fails as it should.
    Array(page.body.utf8).withUnsafeBytes { body in
      guard let bytes = body.baseAddress else { return }
      _ = metrics_http_reply_set(reply, page.status, page.contentType, bytes, body.count)
    }
  }

  private static func failure(_ address: HostPort, code: CInt) -> Failure {
    let why: String
    switch code {
    case EADDRINUSE:
      why = "is taken by another process; choose another port with --metrics, or --metrics off"
    case EADDRNOTAVAIL:
      why = "is not an address of this machine; choose one with --metrics, or --metrics off"
    case EACCES:
      why = "may not be bound by this user; choose a port above 1023 with --metrics"
    default:
      why = "cannot be served: \(String(cString: strerror(code)))"
    }
    return Failure(code: code, description: "metrics address \(address) \(why)")
  }
}

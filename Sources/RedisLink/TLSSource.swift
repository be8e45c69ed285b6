internal import CTLS
internal import Synchronization

/// What TLS needs of files, read when it is first wanted, anew after TLS has failed, and when it is
/// asked for: a certificate that was renewed needs no restart.
///
/// For one thread at a time, but `renew` is for any.
final class TLSSource: @unchecked Sendable {
  // Unchecked: `context` is of the thread that connects.

  /// Handed from thread to thread; used by one at a time.
  private struct Context: @unchecked Sendable {
    var pointer: OpaquePointer
  }

  private let files: RedisTLS
  private var context: OpaquePointer?
  /// Made by `renew`, for the next connection.
  private let renewed = Mutex<Context?>(nil)

  init(_ files: RedisTLS) {
    self.files = files
  }

  deinit {
    ctls_context_free(context)
    ctls_context_free(takeRenewed()?.pointer)
  }

  func forget() {
    context = ctls_context_free(context)
  }

  /// Reads the files for the connections to come; those that are there keep what they have. Throws
  /// `.tls` with which file is wrong and how, and then all is as it was.
  func renew() throws(RedisFailure) {
    let fresh = Context(pointer: try make())
    let unused = renewed.withLock { renewed in
      defer { renewed = fresh }
      return renewed
    }
    ctls_context_free(unused?.pointer)
  }

  private func takeRenewed() -> Context? {
    renewed.withLock { renewed in
      defer { renewed = nil }
      return renewed
    }
  }

  /// Reads the files if they are not yet. Throws `.tls` with which of them is wrong and how.
  @discardableResult
  func load() throws(RedisFailure) -> OpaquePointer {
    if let fresh = takeRenewed() {
      forget()
      context = fresh.pointer
    }
    if let context { return context }
    let made = try make()
    context = made
    return made
  }

  private func make() throws(RedisFailure) -> OpaquePointer {
    var text = [CChar](repeating: 0, count: Int(CTLS_TEXT_MAX))
    var made: OpaquePointer?
    let result = withPath(files.ca) { ca in
      withPath(files.certificate) { certificate in
        withPath(files.key) { key in
          var paths = ctls_files(ca: ca, certificate: certificate, key: key)
          return ctls_context_new(&paths, &made, &text)
        }
      }
    }
    guard result == 0, let made else {
      let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      if bytes.isEmpty { throw .system(doing: "preparing TLS", errno: -result) }
      throw .tls(String(decoding: bytes, as: UTF8.self))
    }
    return made
  }

  /// The client's side of a connection over `socket` to `host`.
  func stream(over socket: Int32, to host: String) throws(RedisFailure) -> OpaquePointer {
    var stream: OpaquePointer?
    let result = ctls_stream_new(try load(), socket, host, &stream)
    guard result == 0, let stream else {
      throw .system(doing: "beginning TLS to \(host)", errno: -result)
    }
    return stream
  }
}

private func withPath<Result>(
  _ path: String?, _ body: (UnsafePointer<CChar>?) -> Result
) -> Result {
  guard let path else { return body(nil) }
  return path.withCString { body($0) }
}

internal import GRPCCore

/// HTTP/2 error codes used here (RFC 9113, 7).
enum HTTP2ErrorCode {
  static let noError: UInt32 = 0
  static let protocolError: UInt32 = 1
  static let internalError: UInt32 = 2
  static let refusedStream: UInt32 = 7
  static let cancel: UInt32 = 8
  static let enhanceYourCalm: UInt32 = 11
}

enum StatusMapping {
  /// What a stream that ended without a status means.
  static func error(forReset code: UInt32) -> RPCError {
    switch code {
    case HTTP2ErrorCode.refusedStream:
      return RPCError(
        code: .unavailable, message: "The peer refused the stream before processing it.")
    case HTTP2ErrorCode.cancel:
      return RPCError(code: .cancelled, message: "The peer cancelled the stream.")
    case HTTP2ErrorCode.enhanceYourCalm:
      return RPCError(
        code: .resourceExhausted, message: "The peer reset the stream: it is asked too much.")
    case 12:
      return RPCError(
        code: .permissionDenied, message: "The peer reset the stream: inadequate security.")
    default:
      return RPCError(
        code: .internalError, message: "The peer reset the stream with HTTP/2 error \(code).")
    }
  }

  /// What an HTTP status means when no gRPC status came with it.
  static func code(forHTTP status: Int) -> Status.Code {
    switch status {
    case 400: return .internalError
    case 401: return .unauthenticated
    case 403: return .permissionDenied
    case 404: return .unimplemented
    case 429, 502, 503, 504: return .unavailable
    default: return .unknown
    }
  }

  /// The status of a block that carries `grpc-status`, or of a response that is not gRPC.
  static func status(of headers: ReceivedHeaders) -> Status {
    if let raw = headers.grpcStatus {
      let code = Status.Code(rawValue: raw) ?? .unknown
      return Status(code: code, message: headers.grpcMessage ?? "")
    }
    if let http = headers.status, http != 200 {
      return Status(
        code: self.code(forHTTP: http), message: "The server answered with HTTP status \(http).")
    }
    if headers.status != nil && !headers.isGRPC {
      return Status(
        code: .unknown,
        message: "The server's answer is not gRPC: content-type \(headers.contentType ?? "none").")
    }
    return Status(code: .unknown, message: "The server ended the RPC without a status.")
  }
}

/// One reply of the server (RESP2), or a part of one.
public enum RedisValue: Sendable, Hashable {
  /// A null bulk string or a null array.
  case null
  /// A simple string such as `OK`; invalid UTF-8 in it is repaired.
  case status(String)
  case integer(Int64)
  case bytes([UInt8])
  case array([RedisValue])
  /// An error inside an array (EXEC). An error as the whole reply is thrown instead.
  case error(RedisServerError)

  /// The text of a status or of bytes (invalid UTF-8 repaired), else nil.
  public var string: String? {
    switch self {
    case .status(let text): text
    case .bytes(let bytes): String(decoding: bytes, as: UTF8.self)
    default: nil
    }
  }

  /// The number of an integer, or of bytes or a status that hold a decimal number; else nil.
  public var int64: Int64? {
    switch self {
    case .integer(let number): number
    case .status(let text): Int64(text)
    case .bytes(let bytes): Int64(String(decoding: bytes, as: UTF8.self))
    default: nil
    }
  }

  /// The bytes of a bulk string, or of a status; else nil.
  public var bytes: [UInt8]? {
    switch self {
    case .bytes(let bytes): bytes
    case .status(let text): Array(text.utf8)
    default: nil
    }
  }

  /// The elements of an array, else nil.
  public var array: [RedisValue]? {
    if case .array(let values) = self { values } else { nil }
  }

  public var isNull: Bool { self == .null }

  /// Whether this is the status `OK`.
  public var isOK: Bool { self == .status("OK") }
}

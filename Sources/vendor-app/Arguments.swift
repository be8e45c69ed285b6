internal import ArgumentParser
internal import GRPCNGHTTP2
internal import Logging
internal import VendorStore

/// `sqlite:PATH` or `memory:`.
enum Database: ExpressibleByArgument {
  case memory
  case sqlite(path: String)

  init?(argument: String) {
    if argument == "memory:" {
      self = .memory
    } else if argument.hasPrefix("sqlite:"), argument.count > "sqlite:".count {
      self = .sqlite(path: String(argument.dropFirst("sqlite:".count)))
    } else {
      return nil
    }
  }

  var defaultValueDescription: String {
    switch self {
    case .memory: "memory:"
    case .sqlite(let path): "sqlite:\(path)"
    }
  }

  func open() throws -> any EventStore {
    switch self {
    case .memory: MemoryEventStore()
    case .sqlite(let path): try SQLiteEventStore(path: path)
    }
  }
}

/// `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`.
struct ListenAddress: ExpressibleByArgument {
  var address: NGHTTP2Address

  init?(argument: String) {
    guard let address = NGHTTP2Address(argument) else { return nil }
    self.address = address
  }

  var defaultValueDescription: String { address.description }

  /// Nobody else's machine can reach it.
  var isLocal: Bool {
    switch address {
    case .unix: true
    case .tcp(let host, _):
      host == "localhost" || host == "::1" || host.isIPv4Loopback
    }
  }
}

extension String {
  /// 127.0.0.0/8, written as four numbers.
  fileprivate var isIPv4Loopback: Bool {
    let parts = split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}

/// `SECONDS@AFTER`: when to stall, and for how long.
struct StallPlan: ExpressibleByArgument {
  static let secondsMax = 86_400.0

  var length: Duration
  var after: Duration

  init?(argument: String) {
    let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
    guard parts.count == 2, let length = Double(parts[0]), let after = Double(parts[1]),
      (0...Self.secondsMax).contains(length), (0...Self.secondsMax).contains(after)
    else { return nil }
    self.length = .seconds(length)
    self.after = .seconds(after)
  }
}

/// A number of 64 bits, decimal or hexadecimal.
struct Number: ExpressibleByArgument {
  var value: UInt64

  init?(argument: String) {
    guard let value = CardFile.number(argument) else { return nil }
    self.value = value
  }

  init(_ value: UInt64) { self.value = value }

  var defaultValueDescription: String { "\(value)" }
}

enum LogLevel: String, CaseIterable, ExpressibleByArgument {
  case trace, debug, info, notice, warning, error

  var level: Logger.Level {
    switch self {
    case .trace: .trace
    case .debug: .debug
    case .info: .info
    case .notice: .notice
    case .warning: .warning
    case .error: .error
    }
  }
}

/// The names of `--misbehave`.
enum Fault: String, CaseIterable, ExpressibleByArgument {
  case ackFuture = "ack-future"
  case garbage
  case dropAcks = "drop-acks"

  var misbehaviour: Misbehaviour {
    switch self {
    case .ackFuture: .ackFuture
    case .garbage: .garbage
    case .dropAcks: .dropAcks
    }
  }
}

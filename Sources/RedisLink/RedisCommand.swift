internal import CHiredis

/// One argument of a command: text, bytes, or a number written in decimal.
public enum RedisArgument: Sendable, Hashable {
  case string(String)
  case bytes([UInt8])
  case integer(Int64)
}

extension RedisArgument: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int64) { self = .integer(value) }
}

/// A command, encoded once, on the thread that makes it.
///
/// Commands that change what the connection is, or for how long it answers (SUBSCRIBE, MONITOR,
/// HELLO 3, CLIENT REPLY, BLPOP and its like), do not belong on a pipelined link: it is torn down
/// when replies no longer match.
public struct RedisCommand: Sendable, Hashable {
  /// What goes over the wire.
  let wire: [UInt8]

  public init(_ name: String, _ arguments: RedisArgument...) {
    self.init(name, arguments)
  }

  public init(_ name: String, _ arguments: [RedisArgument]) {
    var flat = ArgumentList(capacity: arguments.count + 1)
    flat.append(name.utf8)
    for argument in arguments {
      switch argument {
      case .string(let text): flat.append(text.utf8)
      case .bytes(let bytes): flat.append(bytes)
      case .integer(let number): flat.append(String(number).utf8)
      }
    }
    wire = flat.encoded()
  }

  /// A command whose arguments after the first are all bytes.
  init(_ name: String, bytes arguments: some Collection<[UInt8]>) {
    var flat = ArgumentList(capacity: arguments.count + 1)
    flat.append(name.utf8)
    for argument in arguments {
      flat.append(argument)
    }
    wire = flat.encoded()
  }
}

/// Arguments end to end, as hiredis is then pointed to them.
private struct ArgumentList {
  private var bytes: [UInt8] = []
  private var lengths: [Int] = []

  init(capacity: Int) {
    bytes.reserveCapacity(capacity * 16)
    lengths.reserveCapacity(capacity)
  }

  mutating func append(_ argument: some Sequence<UInt8>) {
    let before = bytes.count
    bytes.append(contentsOf: argument)
    lengths.append(bytes.count - before)
  }

  func encoded() -> [UInt8] {
    bytes.withUnsafeBytes { content in
      withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: lengths.count) {
        pointers in
        // Of no length, but hiredis wants an address even then.
        let base = content.baseAddress ?? UnsafeRawPointer(pointers.baseAddress!)
        var at = base.assumingMemoryBound(to: CChar.self)
        for index in lengths.indices {
          pointers.initializeElement(at: index, to: at)
          at += lengths[index]
        }
        var target: UnsafeMutablePointer<CChar>?
        let count = redisFormatCommandArgv(
          &target, numericCast(lengths.count), pointers.baseAddress, lengths)
        guard let target, count >= 0 else {
          // As when an array cannot grow.
          fatalError("out of memory encoding a Redis command")
        }
        defer { redisFreeCommand(target) }
        return [UInt8](UnsafeRawBufferPointer(start: target, count: Int(count)))
      }
    }
  }
}

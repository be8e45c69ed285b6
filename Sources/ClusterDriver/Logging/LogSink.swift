internal import CSystem
internal import Glibc

/// Where lines go in the end. Called by one thread only, which may block in it.
protocol LogSink: Sendable {
  /// Returns whether the line was taken.
  func write(_ record: LogRecord) -> Bool
}

/// Lines of text to a descriptor.
struct DescriptorSink: LogSink {
  let fd: CInt
  let style: LogText.Style

  func write(_ record: LogRecord) -> Bool {
    let line = LogText.line(record, style: self.style)
    var rest = line[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(self.fd, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if count < 0 && errno == EAGAIN {
        // Somebody else made it non-blocking.
        var ready = pollfd(fd: self.fd, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
      } else if count == 0 || errno != EINTR {
        return false
      }
    }
    return true
  }
}

/// Entries to the journal, with their fields. What the journal does not take, because it is away or
/// cannot keep up for a second, goes to standard error: both lead there in the end on most systems.
final class JournalSink: LogSink {
  private let socket: CInt
  private let fallback: DescriptorSink

  /// Throws a negative errno.
  init(fallback: DescriptorSink) throws(LogFailure) {
    let socket = csys_journal_open()
    guard socket >= 0 else { throw LogFailure(code: -socket) }
    self.socket = socket
    self.fallback = fallback
  }

  deinit {
    csys_fd_close(self.socket)
  }

  func write(_ record: LogRecord) -> Bool {
    let fields = JournalFields.fields(record)
    for _ in 0..<100 {
      switch self.send(fields) {
      case 0...: return true
      case -EAGAIN: usleep(10_000)
      default: return self.fallback.write(record)
      }
    }
    return self.fallback.write(record)
  }

  private func send(_ fields: [(name: String, value: String)]) -> CInt {
    // One buffer for all names and values, so that the pointers into it live together.
    var bytes: [UInt8] = []
    var places: [(name: Int, value: Int, end: Int)] = []
    for (name, value) in fields {
      let start = bytes.count
      bytes += name.utf8
      bytes.append(0)
      let valueStart = bytes.count
      bytes += value.utf8
      places.append((start, valueStart, bytes.count))
      bytes.append(0)
    }
    return bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return -EINVAL }
      let entries = places.map { place in
        csys_field(
          name: (base + place.name).assumingMemoryBound(to: CChar.self),
          value: base + place.value, n_value: place.end - place.value)
      }
      return csys_journal_send(self.socket, entries, entries.count)
    }
  }
}

/// Why a log could not be opened: a positive errno.
struct LogFailure: Error, Equatable {
  let code: CInt
}

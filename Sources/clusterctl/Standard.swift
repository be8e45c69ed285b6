internal import Glibc

/// The process's own streams.
enum Standard {
  static func error(_ line: String) {
    lines("clusterctl: \(Table.printable(line))")
  }

  /// Writes text to stderr as it is, with a newline.
  static func lines(_ text: String) {
    var bytes = Array((text + "\n").utf8)[...]
    while !bytes.isEmpty {
      let n = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
      if n <= 0 { return }
      bytes = bytes.dropFirst(n)
    }
  }

  /// So that a pipe sees each line as it comes.
  static func flush() { fflush(nil) }
}

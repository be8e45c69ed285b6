import Glibc

/// A file that is there while the node serves, with where it can be reached, as JSON:
/// `{"port":5001,"admin":"unix:/run/…","metrics":"127.0.0.1:9001","pid":4711}`; `metrics` is null
/// when there are none. It appears whole or not at all.
struct ReadyFile {
  let path: String

  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  static func contents(port: UInt16, admin: String, metrics: String?, pid: Int32) -> String {
    """
    {"port":\(port),"admin":\(Self.quoted(admin)),\
    "metrics":\(metrics.map(Self.quoted) ?? "null"),"pid":\(pid)}

    """
  }

  func write(_ contents: String) throws(Failure) {
    let temporary = "\(self.path).\(getpid())"
    guard let file = fopen(temporary, "we") else { throw self.failure(temporary) }
    let written = fputs(contents, file) >= 0
    guard fclose(file) == 0, written, rename(temporary, self.path) == 0 else {
      let failure = self.failure(temporary)
      unlink(temporary)
      throw failure
    }
  }

  func remove() {
    unlink(self.path)
  }

  private func failure(_ path: String) -> Failure {
    Failure(description: "the ready file \(path) cannot be written: \(errorText(errno))")
  }

  private static func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}

import CSystem
import Glibc

/// When the last processes of a node began that did not end in order, as ms of CLOCK_BOOTTIME: whether it
/// dies again and again. A value.
///
/// Such a node has its ranges back each time before its peers can know of its death, and serves nobody. So it
/// joins its cluster only after a pause in which its former session runs out.
struct Lives: Equatable {
  static let window: Duration = .seconds(30)
  /// So many within the window are no accident.
  static let deathsMax = 5
  /// Longer than a session (`Timing.ttl`) and the claims that follow.
  static let pause: Duration = .seconds(4)

  private(set) var beganAt: [UInt64] = []

  init(_ text: String = "") {
    self.beganAt = text.split(whereSeparator: \.isWhitespace).compactMap { UInt64($0) }
  }

  var text: String { self.beganAt.map { "\($0)\n" }.joined() }

  /// Another one begins. True: it is to pause first.
  mutating func begin(at nowMs: UInt64) -> Bool {
    let since = nowMs - min(nowMs, Lives.window.microseconds / 1000)
    self.beganAt = self.beganAt.filter { (since...nowMs).contains($0) }.suffix(Lives.deathsMax)
    let isDying = self.beganAt.count >= Lives.deathsMax
    self.beganAt.append(nowMs)
    return isDying
  }
}

/// The same, in a file that outlives processes and not the machine's boot.
struct LivesFile {
  let path: String

  /// Nil without a directory of the service manager's for that.
  init?(port: UInt16, environment: [String: String]) {
    guard let directory = environment["RUNTIME_DIRECTORY"]?.split(separator: ":").first else {
      return nil
    }
    self.path = "\(directory)/\(port).lives"
  }

  /// Notes that a process begins. True: it is to pause first. One that cannot be noted counts for nothing.
  func begin() -> Bool {
    var lives = Lives(self.read())
    let isDying = lives.begin(at: csys_clock_boottime() / 1_000_000)
    guard let file = fopen(self.path, "we") else { return isDying }
    fputs(lives.text, file)
    fclose(file)
    return isDying
  }

  /// The process ends in order.
  func end() { unlink(self.path) }

  private func read() -> String {
    guard let file = fopen(self.path, "re") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    return String(decoding: bytes[..<fread(&bytes, 1, bytes.count, file)], as: UTF8.self)
  }
}

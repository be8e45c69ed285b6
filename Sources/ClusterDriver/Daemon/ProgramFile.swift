import CSystem
import Glibc

/// The file this process was started from: whether its next process would be started from another one.
///
/// What counts is what the path leads to at the moment of asking, which is what the service manager will
/// start: a package that renames a new file over the old one shows, and a link that is set anew. The
/// file's own name, as `/proc/self/exe` has it, would follow one that is moved aside, and miss the link.
struct ProgramFile: Sendable {
  /// A file of the file system, whatever its name.
  struct Identity: Equatable, Sendable {
    var device: UInt64
    var number: UInt64

    /// Nil: nothing is there.
    init?(_ path: String) {
      var status = stat()
      guard stat(path, &status) == 0 else { return nil }
      self.device = UInt64(status.st_dev)
      self.number = UInt64(status.st_ino)
    }
  }

  enum State: Equatable, Sendable {
    case same, replaced
    /// The next process could not be started, and why.
    case unusable(String)
  }

  /// Of this process. To be asked for early: a relative path is one of the directory it was started in.
  static let own = ProgramFile(
    path: ProgramFile.startedBy, running: Identity(ProgramFile.image))

  private static let image = "/proc/self/exe"

  let path: String
  private let running: Identity?

  init(path: String, running: Identity?) {
    self.path = path
    self.running = running
  }

  var state: State {
    guard let now = Identity(self.path) else {
      return .unusable("there is no program at \(self.path) (\(errorText(errno)))")
    }
    guard access(self.path, X_OK) == 0 else {
      return .unusable("\(self.path) cannot be executed (\(errorText(errno)))")
    }
    return now == self.running ? .same : .replaced
  }

  /// Why the node's next process would not go on where this one ends; nil: it would.
  func whyNotRestartable(isParked: Bool) -> String? {
    guard isParked else {
      return """
        it runs without --parking, and a restart would disconnect its controllers: give it --parking under \
        a service manager that keeps descriptors, or restart its unit on its host
        """
    }
    guard case .unusable(let why) = self.state else { return nil }
    return "\(why), so that its next process would not start: install one"
  }

  private static var startedBy: String {
    guard let given = csys_program_path().map({ String(cString: $0) }), !given.isEmpty,
      !given.hasPrefix("/dev/fd/")
    else { return Self.link(Self.image) }
    if given.hasPrefix("/") { return given }
    return Self.link("/proc/self/cwd") + "/" + given
  }

  /// Where a link leads; the link itself when that cannot be told.
  private static func link(_ path: String) -> String {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Int(PATH_MAX)) { room in
      let count = readlink(path, room.baseAddress!, room.count)
      guard count > 0 else { return path }
      return String(decoding: room[..<count], as: UTF8.self)
    }
  }
}

import Glibc

/// Says that a process of the node lives: a lock beside its state file, which ends with the process, however
/// that ends.
final class StateLock: Sendable {
  private let descriptor: Int32

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Throws when another process has it.
  init(_ stateFile: String) throws(Failure) {
    let path = stateFile + ".lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
    guard descriptor >= 0 else {
      throw Failure(
        description: """
          \(path) cannot be opened: \(errorText(errno)); the node must be able to write there \
          (--state-file)
          """)
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let why = errno
      Glibc.close(descriptor)
      throw Failure(
        description: why == EWOULDBLOCK
          ? "another process uses the state file \(stateFile): each node needs its own (--state-file)"
          : "\(path) cannot be locked: \(errorText(why))")
    }
    self.descriptor = descriptor
  }

  deinit {
    Glibc.close(self.descriptor)
  }
}

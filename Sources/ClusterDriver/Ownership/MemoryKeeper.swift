import CSystem
import Election
import Glibc
import Logging
import Synchronization

/// Writes down what a node keeps over its lives, on a thread of its own: a disk that is slow must not
/// cost a lease. The newest is written, what came in between is not.
///
/// The file is replaced whole, and is on disk before it is. What is lost with a process that ends before
/// it has written matters only together with a Redis that has lost its contents meanwhile.
final class MemoryKeeper: @unchecked Sendable {
  // Unchecked: `thread` and `lock` are of whoever makes and closes it.

  private struct State {
    var wanted: NodeMachine.Memory?
    var last: NodeMachine.Memory
    var isClosing = false
  }

  let incarnation: Incarnation
  private var lock: StateLock?
  private let path: String
  private let log: Logger
  private let state: Mutex<State>
  private let bell = Bell()
  private var thread: csys_thread?

  /// Reads what the former life has left, and writes down that there is a new one: that has to be on
  /// disk before its incarnation is shown to anybody. BLOCKS on the disk.
  ///
  /// A file that cannot be read is set aside, and the node begins without a memory. Throws when nothing
  /// can be written, and when another process uses the file.
  init(path: String, incarnation: Incarnation, log: Logger) throws(Failure) {
    self.path = path
    self.log = log
    do {
      self.lock = try StateLock(path)
    } catch {
      throw Failure(description: error.description)
    }
    var memory = NodeMachine.Memory()
    var life = incarnation
    switch MemoryKeeper.read(path) {
    case .success(nil): break
    case .success(let former?):
      memory = former.memory
      // A clock that was set back must not make this life look older than the former.
      life = Incarnation(max(incarnation.rawValue, former.incarnation.rawValue &+ 1))
    case .failure(let why):
      let aside = path + ".unreadable"
      log.error(
        """
        what this node kept of its former life cannot be read (\(why)): it begins without, and the file \
        is kept as \(aside). Do not let it be the first to meet a Redis that has lost its contents
        """, metadata: ["path": "\(path)"])
      rename(path, aside)
    }
    self.incarnation = life
    self.state = Mutex(State(last: memory))
    try MemoryKeeper.write(MemoryText(incarnation: life, memory: memory).text, to: path)
    var thread = csys_thread()
    let result = csys_thread_start(
      "memory",
      { context in
        Unmanaged<MemoryKeeper>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the memory thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  /// The incarnation of the process that wrote the file last; nil: there is no file. BLOCKS on the disk.
  static func former(_ path: String) throws(StoreFailure) -> Incarnation? {
    try MemoryKeeper.read(path).get()?.incarnation
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Of the former life, or what was kept last.
  var memory: NodeMachine.Memory { self.state.withLock { $0.wanted ?? $0.last } }

  /// Does not block.
  func keep(_ memory: NodeMachine.Memory) {
    let isNews = self.state.withLock { state in
      guard memory != (state.wanted ?? state.last) else { return false }
      state.wanted = memory
      return true
    }
    if isNews { self.bell.ring() }
  }

  /// Writes what is left, and ends. BLOCKS on the disk.
  func close() {
    guard let thread = self.thread else { return }
    self.state.withLock { $0.isClosing = true }
    self.bell.ring()
    csys_thread_join(thread)
    self.thread = nil
    self.lock = nil
  }

  private func run() {
    var hasFailed = false
    while true {
      let (wanted, isClosing) = self.state.withLock { state in
        let wanted = state.wanted
        if let wanted { state.last = wanted }
        state.wanted = nil
        return (wanted, state.isClosing)
      }
      if let wanted {
        do {
          try MemoryKeeper.write(
            MemoryText(incarnation: self.incarnation, memory: wanted).text, to: self.path)
          if hasFailed { self.log.notice("what this node keeps over its lives is written again") }
          hasFailed = false
        } catch {
          if !hasFailed { self.log.error("\(error)") }
          hasFailed = true
        }
      }
      if isClosing { return }
      if wanted == nil { self.bell.wait(milliseconds: .max) }
    }
  }

  // MARK: The file

  /// Ten thousand ranges take half a megabyte.
  private static let bytesMax = 64 << 20

  private static func read(_ path: String) -> Result<MemoryText?, StoreFailure> {
    guard let file = fopen(path, "re") else {
      return errno == ENOENT ? .success(nil) : .failure(.damaged(errorText(errno)))
    }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = fread(&piece, 1, piece.count, file)
      bytes += piece[..<count]
      if count < piece.count { break }
      guard bytes.count <= MemoryKeeper.bytesMax else {
        return .failure(.damaged("it is too long"))
      }
    }
    guard ferror(file) == 0 else { return .failure(.damaged(errorText(errno))) }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      return .failure(.damaged("it is not text"))
    }
    return Result { () throws(StoreFailure) in try MemoryText(text) }
  }

  private static func write(_ text: String, to path: String) throws(Failure) {
    let fresh = path + ".new"
    func failure(_ what: String) -> Failure {
      let why = errorText(errno)
      return Failure(
        description: """
          \(what) \(fresh): \(why); the node must be able to write there (--state-file), or does not \
          remember over a restart who its peers are and which epochs were used
          """)
    }
    let fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
    guard fd >= 0 else { throw failure("cannot open") }
    defer { Glibc.close(fd) }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(fd, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        throw failure("cannot write")
      }
      rest = rest.dropFirst(count)
    }
    guard fdatasync(fd) == 0 else { throw failure("cannot write to the disk") }
    guard rename(fresh, path) == 0 else { throw failure("cannot put in its place") }
  }
}

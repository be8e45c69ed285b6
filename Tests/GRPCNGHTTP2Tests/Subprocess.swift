import Glibc
import Synchronization

/// A program started by a test; it ends with the test, whatever happens.
final class Subprocess: Sendable {
  private let pid: pid_t
  private let input: Int32
  private let output: Int32
  private let ended = Mutex(false)

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Its standard output can be read; its standard input stays open until ``closeInput()``.
  init(_ program: String, _ arguments: [String]) throws {
    var input: [Int32] = [-1, -1]
    var output: [Int32] = [-1, -1]
    guard pipe(&input) == 0, pipe(&output) == 0 else {
      throw Failure(description: "no pipe: errno \(errno)")
    }
    for fd in input + output { _ = fcntl(fd, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)

    var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
    argv.append(nil)
    defer { for argument in argv { free(argument) } }
    var pid: pid_t = 0
    let result = posix_spawn(&pid, program, &actions, nil, argv, environ)
    close(input[0])
    close(output[1])
    guard result == 0 else {
      close(input[1])
      close(output[0])
      throw Failure(description: "\(program) could not be started: errno \(result)")
    }
    self.pid = pid
    self.input = input[1]
    self.output = output[0]
  }

  deinit {
    self.stop()
    close(self.output)
  }

  /// The first line it prints.
  func readLine() async throws -> String {
    try await Self.inThread { [output] in
      var line: [UInt8] = []
      var byte: UInt8 = 0
      while read(output, &byte, 1) == 1, byte != UInt8(ascii: "\n") { line.append(byte) }
      return String(decoding: line, as: UTF8.self)
    }
  }

  /// Everything it prints until it ends, and its exit status.
  func finish() async throws -> (output: String, status: Int32) {
    let text = try await Self.inThread { [output] in
      var all: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let n = read(output, &buffer, buffer.count)
        if n <= 0 { break }
        all += buffer[..<n]
      }
      return String(decoding: all, as: UTF8.self)
    }
    return (text, self.wait())
  }

  func stop() {
    if self.ended.withLock({ $0 }) { return }
    kill(self.pid, SIGKILL)
    _ = self.wait()
  }

  private func wait() -> Int32 {
    self.ended.withLock { ended in
      if ended { return -1 }
      ended = true
      close(self.input)
      var status: Int32 = 0
      waitpid(self.pid, &status, 0)
      return (status & 0x7f) == 0 ? (status >> 8) & 0xff : -(status & 0x7f)
    }
  }

  /// Blocking calls must not hold a thread of the pool that runs tasks.
  private static func inThread<T: Sendable>(
    _ body: @escaping @Sendable () -> T
  ) async throws -> T {
    await withCheckedContinuation { continuation in
      let context = Unmanaged.passRetained(Body { continuation.resume(returning: body()) })
      var thread = pthread_t()
      pthread_create(
        &thread, nil,
        { context in
          Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
          return nil
        }, context.toOpaque())
      pthread_detach(thread)
    }
  }
}

private final class Body {
  let run: @Sendable () -> Void
  init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// The Python interpreter with grpcio, and the peers written for it.
enum Peers {
  static let root: String = {
    // …/Tests/GRPCNGHTTP2Tests/Subprocess.swift
    #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
      .joined(separator: "/")
  }()

  static var interpreter: String {
    if let path = getenv("CLUSTER_DRIVER_PYTHON") { return String(cString: path) }
    return Self.root + "/.venv/bin/python"
  }

  /// Starts a peer, or says how to get what it needs.
  static func start(_ script: String, _ arguments: [String]) async throws -> Subprocess {
    let hint = "Python with grpcio is needed at \(Self.interpreter): run `make setup`."
    let path = Self.root + "/Tests/Peers/" + script
    do {
      let probe = try Subprocess(Self.interpreter, ["-c", "import grpc"])
      guard try await probe.finish().status == 0 else {
        throw Subprocess.Failure(description: hint)
      }
      return try Subprocess(Self.interpreter, [path] + arguments)
    } catch let failure as Subprocess.Failure {
      throw Subprocess.Failure(description: "\(hint) (\(failure))")
    }
  }
}

import CSystem
import Glibc
import Logging

/// The program `cluster-driver`.
public enum Program {
  /// Exit codes.
  private enum Exit {
    static let success: Int32 = 0
    /// It could not start, `--check` found something, or `--release` could not.
    static let failure: Int32 = 1
    /// The command line or the environment is wrong.
    static let usage: Int32 = 2
  }

  /// The whole life of the process, to its exit code. Call it first of all, on the main thread.
  public static func run() -> Int32 {
    _ = ProgramFile.own
    // In this order: arguments are read before their room is given to the title, and signals are
    // blocked before there is a second thread.
    let arguments = Array(CommandLine.arguments.dropFirst())
    let environment = ProcessEnvironment.variables
    csys_title_init(CommandLine.argc, CommandLine.unsafeArgv)
    let signals = Signals()
    csys_sigpipe_ignore()
    csys_files_raise()

    let reader = ConfigurationReader(
      arguments: arguments, environment: environment, readFile: Program.readFile)
    let invocation: NodeInvocation
    do {
      invocation = try reader.read()
    } catch {
      for problem in error.problems { Program.complain("cluster-driver: \(problem)") }
      return Exit.usage
    }
    switch invocation {
    case .help(let text):
      print(text, terminator: "")
      return Exit.success
    case .version:
      print("cluster-driver \(NodeVersion.current)")
      return Exit.success
    case .run(let config, let settings) where config.check:
      return Check.run(config, settings) ? Exit.success : Exit.failure
    case .run(let config, _) where config.release:
      return Release.run(config, environment: environment) ? Exit.success : Exit.failure
    case .run(let config, _):
      return Program.serve(config, reader, signals)
    }
  }

  private static func serve(
    _ config: NodeConfiguration, _ reader: ConfigurationReader, _ signals: borrowing Signals
  ) -> Int32 {
    Parking.makeRoom(config, environment: ProcessEnvironment.variables, pid: getpid())
    let log: NodeLog
    do {
      log = try NodeLog.open(config.log, level: config.logLevel)
    } catch {
      Program.complain("cluster-driver: \(error)")
      return Exit.failure
    }
    defer { log.close() }
    do {
      try Daemon(config, reader: reader, log: log).run(signals)
      return Exit.success
    } catch {
      log.logger("node").critical("cannot start: \(error)")
      return Exit.failure
    }
  }

  private static func complain(_ line: String) {
    var bytes = Array((line + "\n").utf8)
    _ = Glibc.write(2, &bytes, bytes.count)
  }

  /// A file of settings is small.
  private static let fileBytesMax = 1 << 20

  private static func readFile(
    _ path: String
  ) throws(ConfigurationReader.FileProblem) -> String? {
    guard let file = fopen(path, "re") else {
      if errno == ENOENT { return nil }
      throw ConfigurationReader.FileProblem(why: errorText(errno))
    }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: Program.fileBytesMax + 1)
    let count = fread(&bytes, 1, bytes.count, file)
    guard ferror(file) == 0 else {
      throw ConfigurationReader.FileProblem(why: errorText(errno))
    }
    guard count <= Program.fileBytesMax else {
      throw ConfigurationReader.FileProblem(why: "it is larger than 1 MiB")
    }
    return String(decoding: bytes[..<count], as: UTF8.self)
  }
}

/// What the command line asks for.
public enum NodeInvocation: Sendable, Equatable {
  case run(NodeConfiguration, settings: [SettingInForce])
  /// Print this and exit 0.
  case help(String)
  /// Print the program's version and exit 0.
  case version
}

/// A setting as it is in force, for `--check` and for the log at start.
public struct SettingInForce: Sendable, Equatable {
  /// `io-threads`.
  public let name: String
  /// For people; without secrets.
  public let value: String
  /// `--io-threads`, `CLUSTER_DRIVER_IO_THREADS in .env line 3`, `default`.
  public let origin: String
}

/// Puts a configuration together: flags before environment before `.env` files before defaults. Of several
/// files a later one goes before an earlier one.
///
/// Pure but for ``readFile``. Unknown flags, unknown `CLUSTER_DRIVER_…` variables and bad values are
/// errors, and all of them are reported at once. In the environment and in the file an empty value
/// counts as not set; of a flag or a line given twice the last one holds.
public struct ConfigurationReader {
  /// Without the program's name.
  public var arguments: [String]
  public var environment: [String: String]
  /// The text of a file; `nil` when there is none of that name; throws why it cannot be read.
  public var readFile: (String) throws(FileProblem) -> String?

  /// Why a file could not be read, in words.
  public struct FileProblem: Error, Equatable {
    public let why: String

    public init(why: String) {
      self.why = why
    }
  }

  public init(
    arguments: [String], environment: [String: String],
    readFile: @escaping (String) throws(FileProblem) -> String?
  ) {
    self.arguments = arguments
    self.environment = environment
    self.readFile = readFile
  }

  public func read() throws(ConfigurationError) -> NodeInvocation {
    var collected = Collected()
    let line = CommandLineScan(self.arguments)
    if line.wantsHelp { return .help(ConfigurationHelp.text) }
    if line.wantsVersion { return .version }
    collected.problems += line.problems
    for file in line.files.isEmpty ? [.usual] : line.files {
      self.collect(file, into: &collected)
    }
    for (variable, value) in self.environment.sorted(by: { $0.key < $1.key }) {
      collected.offer(variable, value, .environment(variable))
    }
    for (option, value) in line.values {
      collected.values[option.name] = (option, value, .flag(option.flag))
    }
    return try collected.finish()
  }

  private func collect(_ file: SettingsFile, into collected: inout Collected) {
    let path = file.path
    do throws(FileProblem) {
      if let text = try self.readFile(path) {
        let (entries, problems) = DotEnv.parse(text, path: path)
        collected.problems += problems
        for entry in entries {
          collected.offer(
            entry.key, entry.value, .file(entry.key, path: path, line: entry.line))
        }
      } else if !file.mayBeMissing {
        collected.problems.append(
          "--env-file \(quoted(path)) does not exist; name an existing file, leave it out, or write"
            + " --env-file=-\(path) for one that may be missing")
      }
    } catch {
      let source = file == .usual ? path : "--env-file \(quoted(path))"
      collected.problems.append("\(source) cannot be read: \(error.why)")
    }
  }

  /// Values by option, the strongest origin's, and what was wrong on the way.
  private struct Collected {
    var values: [String: (option: ConfigurationOption, text: String, origin: SettingOrigin)] = [:]
    var problems: [String] = []

    /// A variable of the environment or of the file.
    mutating func offer(_ variable: String, _ value: String, _ origin: SettingOrigin) {
      let options = ConfigurationOption.all
      guard variable.hasPrefix(ConfigurationOption.variablePrefix) else { return }
      if let option = options.first(where: { $0.isInEnvironment && $0.variable == variable }) {
        if !value.isEmpty { self.values[option.name] = (option, value, origin) }
        return
      }
      let known = options.filter(\.isInEnvironment).map(\.variable)
      self.problems.append(
        "\(origin): no setting has this name\(suggestion(for: variable, among: known))")
    }

    mutating func finish() throws(ConfigurationError) -> NodeInvocation {
      var draft = ConfigurationOption.Draft()
      for option in ConfigurationOption.all {
        guard let (_, text, origin) = self.values[option.name] else { continue }
        do throws(Objection) {
          try option.set(&draft, text)
        } catch {
          // Passwords stand before an @, or among options.
          let mayTell = !option.isSecret || !text.contains { $0 == "@" || $0 == "?" }
          let value = mayTell ? quoted(text) : "(not shown)"
          self.problems.append("\(origin): \(value) \(error.why); allowed: \(option.allowed)")
          self.values[option.name] = nil
          draft.failed.insert(option.name)
        }
      }
      let origins = self.values.mapValues(\.origin)
      self.problems += ConfigurationLaws.problems(with: draft, origins: origins)
      guard self.problems.isEmpty, let redis = draft.redis, let vendor = draft.vendor else {
        throw ConfigurationError(problems: self.problems)
      }
      var configuration = draft.rest
      configuration.redis = redis
      configuration.vendor = vendor
      let settings = ConfigurationOption.all.map { option in
        SettingInForce(
          name: option.name, value: option.show(configuration),
          origin: (origins[option.name] ?? .standard).description)
      }
      return .run(configuration, settings: settings)
    }
  }
}

/// A file with settings, as `--env-file` names it: a `-` before the path says that it may be missing.
private struct SettingsFile: Equatable {
  var path: String
  var mayBeMissing: Bool

  /// Without `--env-file`.
  static let usual = SettingsFile("-.env")

  init(_ text: String) {
    self.mayBeMissing = text.hasPrefix("-")
    self.path = String(self.mayBeMissing ? text.dropFirst() : text[...])
  }
}

/// The command line, taken apart: options with their values in the order given.
private struct CommandLineScan {
  var values: [(option: ConfigurationOption, value: String)] = []
  var files: [SettingsFile] = []
  var wantsHelp = false
  var wantsVersion = false
  var problems: [String] = []

  init(_ arguments: [String]) {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      if argument == "-h" || argument == "--help" {
        self.wantsHelp = true
      } else if argument == "--version" {
        self.wantsVersion = true
      } else if argument.hasPrefix("--"), argument != "--" {
        self.take(flag: argument, rest: &rest)
      } else {
        self.problems.append(
          "\(quoted(argument)) is not a flag; every setting begins with --, see --help")
      }
    }
  }

  private mutating func take(flag argument: String, rest: inout ArraySlice<String>) {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let flag = String(parts[0])
    let attached = parts.count == 2 ? String(parts[1]) : nil
    let option = ConfigurationOption.all.first { $0.flag == flag }
    if option?.form == .toggle, let option {
      self.values.append((option, attached ?? "true"))
      return
    }
    guard option != nil || flag == "--env-file" else {
      let known = ConfigurationOption.all.map(\.flag) + ["--env-file", "--help", "--version"]
      self.problems.append(
        "\(quoted(flag)) is not a known flag\(suggestion(for: flag, among: known)), see --help")
      return
    }
    // A value that looks like a flag is more likely a forgotten value.
    guard let value = attached ?? (rest.first?.hasPrefix("--") == false ? rest.popFirst() : nil)
    else {
      self.problems.append(
        "\(flag) needs a value\(option.map { "; allowed: \($0.allowed)" } ?? ": a path")")
      return
    }
    if let option {
      self.values.append((option, value))
    } else {
      self.files.append(SettingsFile(value))
    }
  }
}

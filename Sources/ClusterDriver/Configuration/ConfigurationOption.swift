/// One setting: its name, its words for people, and how it is read and shown.
///
/// The list of them (``ConfigurationOption/all``) is the only place that knows the settings: flags,
/// environment, `.env`, help and messages all follow from it.
struct ConfigurationOption: Sendable {
  enum Form: Sendable, Equatable {
    /// Takes a value, which help calls by this name.
    case value(String)
    /// Stands alone as a flag; true or false in the environment.
    case toggle
  }

  enum Section: String, Sendable, CaseIterable {
    case essentials = "What every node needs"
    case identity = "Name and addresses"
    case cluster = "The cluster"
    case controllers = "Controllers"
    case pipeline = "Events"
    case operation = "Running it"
  }

  /// As a flag without its dashes: `io-threads`.
  let name: String
  let form: Form
  let section: Section
  /// For help: one or two sentences without a full stop at the end.
  let summary: String
  /// What values are allowed, for help and messages: `0 … 65535 (0 = any free one)`.
  let allowed: String
  /// The default in words; `nil` = there is none.
  var standard: String? = nil
  /// Whether the value may hold a password, and is then not repeated in messages.
  var isSecret = false
  /// Whether it can be set in the environment.
  var isInEnvironment = true
  /// Whether a running node takes another value.
  var isReloadable = false
  /// Reads a value into the configuration.
  let set: @Sendable (inout Draft, String) throws(Objection) -> Void
  /// The value in force, for people; without secrets.
  let show: @Sendable (NodeConfiguration) -> String

  var flag: String { "--" + self.name }

  /// `CLUSTER_DRIVER_IO_THREADS`.
  var variable: String {
    ConfigurationOption.variablePrefix
      + String(self.name.uppercased().map { $0 == "-" ? "_" : $0 })
  }

  static let variablePrefix = "CLUSTER_DRIVER_"

  /// A configuration under construction: what has no default may still be missing.
  struct Draft: Sendable {
    var redis: RedisSetting?
    var vendor: VendorSetting?
    /// Settings whose value was not taken; they are not reported as missing besides.
    var failed: Set<String> = []
    var rest = NodeConfiguration(
      redis: .memory, vendor: VendorSetting(address: HostPort(host: "", port: 0)))
  }
}

/// Where a value came from, for messages.
enum SettingOrigin: Sendable, Equatable, CustomStringConvertible {
  case flag(String)
  case environment(String)
  case file(String, path: String, line: Int)
  case standard

  var description: String {
    switch self {
    case .flag(let flag): return flag
    case .environment(let variable): return variable
    case .file(let variable, let path, let line): return "\(variable) in \(path) line \(line)"
    case .standard: return "default"
    }
  }
}

/// What is wrong with a configuration, all of it at once.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  /// One message each: where the value is from, the value, why it is wrong, what to do.
  public let problems: [String]

  public var description: String { self.problems.joined(separator: "\n") }
}

/// The text of `cluster-driver --help`, made of the list of settings.
enum ConfigurationHelp {
  static let text: String = {
    var lines = [
      "cluster-driver: a node that serves door controllers.",
      "",
      "Usage: cluster-driver --redis URL --vendor URL [--port PORT] [settings]",
      "",
      "Each setting can be given as a flag, as a variable in the environment, or as a line in a .env",
      "file in the working directory; a flag goes before the environment, and that before the file.",
      "The variable of --io-threads is CLUSTER_DRIVER_IO_THREADS, and so on. Times are written",
      "500ms, 15s, 2m, 1h; sizes 512KiB, 8MiB.",
    ]
    for section in ConfigurationOption.Section.allCases {
      lines += ["", section.rawValue + ":"]
      for option in ConfigurationOption.all where option.section == section {
        lines += entry(option)
      }
    }
    lines += ["", "Other:"]
    lines += entry(
      "--env-file PATH",
      "Read this file in place of .env; -PATH: if it is there. Of several the later ones go before."
    )
    lines += entry("--version", "Print the version and exit.")
    lines += entry("--help", "Print this and exit.")
    let names = ConfigurationOption.all.filter(\.isReloadable).map(\.flag).joined(separator: ", ")
    lines += [
      "",
      "SIGHUP has the files read again, and the certificates of Redis' TLS. In force at once are",
      "\(names); all else needs a restart.",
      "SIGTERM ends the node; with --parking its connections are left to the next process, unless",
      "SIGUSR1 came before, which says that there is none.",
      "",
      "Examples:",
      "  cluster-driver --redis memory: --vendor grpc://127.0.0.1:7001",
      "  CLUSTER_DRIVER_PORT=5002 cluster-driver --env-file /etc/cluster-driver.env --check",
      "",
    ]
    return lines.joined(separator: "\n")
  }()

  private static func entry(_ option: ConfigurationOption) -> [String] {
    var words = option.summary + "."
    if option.form != .toggle { words += " Takes \(option.allowed)." }
    if option.form != .toggle, let standard = option.standard { words += " Default: \(standard)." }
    if case .value(let placeholder) = option.form {
      return entry("\(option.flag) \(placeholder)", words)
    }
    return entry(option.flag, words)
  }

  private static func entry(_ flag: String, _ words: String) -> [String] {
    let column = 26
    var lines: [String] = []
    var line = "  " + flag
    line += String(repeating: " ", count: max(2, column - line.count))
    var hasWords = false
    for word in words.split(separator: " ") {
      if hasWords, line.count + 1 + word.count > 96 {
        lines.append(line)
        line = String(repeating: " ", count: column)
        hasWords = false
      }
      line += (hasWords ? " " : "") + word
      hasWords = true
    }
    return lines + [line]
  }
}

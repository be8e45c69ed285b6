internal import ArgumentParser
internal import CFleet
internal import Glibc

/// The flags, as they are typed.
struct Options: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where to connect; with several each controller takes them in turn.",
      valueName: "host:port,…"))
  var connect: String

  @Option(help: "How many controllers.") var controllers: UInt32 = 1
  @Option(help: "The first one's serial number; the others follow.") var firstSerial: UInt64 = 1
  @Option(help: "Events per second of each controller.") var eventRate: Double = 1
  @Option(help: "So many events at a time, at the same rate.") var burst: UInt32 = 1
  @Flag(help: "As many events as the window takes, instead of a rate.") var flood = false
  @Option(help: "Part of the events that are access requests, 0 to 1.") var accessShare: Double = 0
  @Option(help: "Records a controller's log holds.") var capacity: UInt32 = 10_000
  @Option(help: "First log_epoch; 1 for controllers that are brand-new.", transform: logEpoch)
  var logEpoch: UInt32 = 0
  @Option(help: "Seed of everything random.") var seed: UInt64 = 1
  @Option(help: "Threads.") var threads: UInt32 = 1

  @Option(help: "Generate events for so long; without it until interrupted.")
  var duration: Seconds?
  @Option(help: "Then wait at most so long for acknowledgements.") var drain = Seconds(30)
  @Option(help: "First connects per second; 0 = all at once.") var connectRate: Double = 0
  @Option(help: "How long a connection may take, until WELCOME.") var connectTimeout = Seconds(60)
  @Option(help: "First ceiling of the wait before connecting again.") var backoffMin = Seconds(1)
  @Option(help: "Last ceiling; it doubles up to there.") var backoffMax = Seconds(60)
  @Option(help: ArgumentHelp("Faults, as listed above.", valueName: "name[:rate],…"))
  var faults = ""

  @Option(
    help: ArgumentHelp(
      "At the end compare with what this vendor app stored.", valueName: "grpc://host:port"))
  var verify: String?
  @Flag(help: "Report as one line of JSON.") var json = false
  @Flag(inversion: .prefixedNo, help: "A line on stderr while it runs (default: on a terminal).")
  var progress: Bool?
  @Flag(help: "Instead a line of JSON on stderr each second.") var progressJson = false
  @Option(help: "Write a line of JSON per controller and log.") var ledger: String?
  @Option(help: "Write a line of JSON per executed command.") var commandsLog: String?

  enum ProgressStyle { case none, text, json }

  var progressStyle: ProgressStyle {
    if progressJson { return .json }
    return progress ?? (isatty(2) == 1) ? .text : .none
  }

  static func logEpoch(_ text: String) throws -> UInt32 {
    guard let value = UInt32(text), value > 0 else {
      throw ValidationError("log-epoch must be 1 to 4,294,967,295 (without it: from the clock)")
    }
    return value
  }

  /// Calls `body` with the engine's configuration, whose texts live as long as the call.
  func withConfig<R>(_ body: (UnsafePointer<fleet_config>) throws -> R) rethrows -> R {
    try connect.withCString { targets in
      try faults.withCString { faults in
        var config = fleet_config()
        fleet_config_init(&config)
        config.targets = targets
        config.faults = faults
        config.first_serial = firstSerial
        config.n_controllers = controllers
        config.n_threads = threads
        config.event_rate = eventRate
        config.burst = burst
        config.flood = flood
        config.access_share = accessShare
        config.capacity = capacity
        config.log_epoch = logEpoch
        config.seed = seed
        config.connect_rate = connectRate
        config.backoff_min_ms = backoffMin.milliseconds
        config.backoff_max_ms = backoffMax.milliseconds
        config.connect_timeout_ms = connectTimeout.milliseconds
        config.duration_s = duration?.value ?? 0
        config.drain_s = drain.value
        return try body(&config)
      }
    }
  }
}

/// A duration as it is typed: `20`, `20s`, `250ms`, `5m`, `1h`.
struct Seconds: ExpressibleByArgument {
  var value: Double

  init(_ value: Double) { self.value = value }

  init?(argument: String) {
    let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]
    let unit = units.first { argument.hasSuffix($0.0) }
    let number = Double(argument.dropLast(unit?.0.count ?? 0))
    guard let number, number >= 0, number <= 1e8 else { return nil }
    value = number * (unit?.1 ?? 1)
  }

  var defaultValueDescription: String {
    value < 1 ? "\(milliseconds)ms" : "\(Int(value))s"
  }

  var milliseconds: UInt32 { UInt32(clamping: Int64(value * 1000)) }
}

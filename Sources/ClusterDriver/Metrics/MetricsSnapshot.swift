internal import CSCP

/// A node's numbers at one moment, as `/metrics` shows them. Made anew for each scrape.
struct MetricsSnapshot: Sendable {
  /// The event pipeline: from the controller layer to the vendor app and back.
  struct Events: Sendable, Equatable {
    /// Sent to the vendor app, and acknowledged by it. An event sent again on a new stream counts
    /// once.
    var sentTotal: UInt64 = 0
    var ackedTotal: UInt64 = 0
    /// Refused by the vendor app for too low an owner epoch.
    var staleTotal: UInt64 = 0
    var batchesTotal: UInt64 = 0
    /// Sent and not acknowledged, now: events, batches, bytes, and the bytes that may be.
    var inFlight: UInt64 = 0
    var batchesInFlight: UInt64 = 0
    var bytesInFlight: UInt64 = 0
    var bytesInFlightMax: UInt64 = 0
    /// Streams opened after the first, and batches sent again on them.
    var reattachesTotal: UInt64 = 0
    var batchesRepeatedTotal: UInt64 = 0
    /// Times the pipeline stopped taking events because too many bytes were in flight, or because
    /// the vendor app asked for a pause.
    var stallsTotal: UInt64 = 0
    /// From reading an event to the vendor app's acknowledgement.
    var latency = LatencyHistogram.Snapshot()
  }

  /// The link to Redis or to the vendor app.
  struct Link: Sendable, Equatable {
    var isUp = false
    /// Since when it is as it is, ms UTC.
    var sinceMs: UInt64 = 0
    /// Connections made, and attempts that failed.
    var connectsTotal: UInt64 = 0
    var failuresTotal: UInt64 = 0
  }

  /// The node's part in its cluster.
  struct Ownership: Sendable, Equatable {
    /// Ranges it acts for, members on the list, and whether it leads.
    var ranges: UInt64 = 0
    var members: UInt64 = 0
    var isLeading = false
    /// It acts by the promises of the other members alone.
    var byPromises = false
    /// Time for which it may act without another word from Redis or its peers; 0 = it may not.
    var leaseSeconds = 0.0
  }

  var version: String
  var nodeID: String
  /// ms UTC.
  var startedAtMs: UInt64
  var nowMs: UInt64
  var readiness: Readiness
  var layer = cscp_counters()
  var events = Events()
  var commands = CommandMetrics.Snapshot()
  /// `nil` = there is none.
  var mailbox: MailboxMachine.Counts?
  /// `nil` = the node is on its own.
  var ownership: Ownership?
  /// `nil` = not configured.
  var redis: Link?
  var vendor: Link?
  var process = ProcessUsage()
  var logLinesTotal: UInt64 = 0
  var logLinesDroppedTotal: UInt64 = 0
}

/// Whether the node serves controllers.
enum Readiness: Sendable, Equatable {
  case ready
  /// With the reason, for people: "starting", "the vendor app is away since …".
  case notReady(String)
}

/// Whether the process still moves.
enum Health: Sendable, Equatable {
  case alive
  /// With what hangs, for people.
  case stuck(String)
}

/// Where the pages get their contents. Called on the metrics server's thread; must not wait for
/// anything that can hang.
protocol MetricsSource: Sendable {
  func metrics() -> MetricsSnapshot
  func readiness() -> Readiness
  func health() -> Health
}

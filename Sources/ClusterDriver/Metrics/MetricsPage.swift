internal import CSCP

/// The `/metrics` page: a pure function of a snapshot.
enum MetricsPage {
  static let prefix = "cluster_driver_"

  static func render(_ snapshot: MetricsSnapshot) -> String {
    var page = PrometheusText()
    self.node(snapshot, &page)
    if let ownership = snapshot.ownership { self.ownership(ownership, &page) }
    self.layer(snapshot.layer, &page)
    self.events(snapshot.events, &page)
    self.commands(snapshot.commands, &page)
    if let mailbox = snapshot.mailbox { self.mailbox(mailbox, &page) }
    self.links(snapshot, &page)
    self.process(snapshot, &page)
    return page.text
  }

  private static func node(_ snapshot: MetricsSnapshot, _ page: inout PrometheusText) {
    page.family(self.prefix + "build_info", .gauge, "Version of the program, and the node's name.")
    page.sample(UInt64(1), ["version": snapshot.version, "node": snapshot.nodeID])
    page.family(
      self.prefix + "uptime_seconds", .gauge, "Time since the start of the node, by its clock.")
    page.sample(seconds(from: snapshot.startedAtMs, to: snapshot.nowMs))
    page.single(
      self.prefix + "ready", .gauge, "Whether the node serves controllers (1) or not (0).",
      snapshot.readiness == .ready ? 1 : 0)
  }

  private static func ownership(
    _ ownership: MetricsSnapshot.Ownership, _ page: inout PrometheusText
  ) {
    let gauges: [(String, String, UInt64)] = [
      ("ranges_owned", "Ranges of serials the node acts for.", ownership.ranges),
      ("members", "Nodes on the cluster's list, as this one knows it.", ownership.members),
      (
        "leading", "Whether the node leads the cluster (1) or not (0).", ownership.isLeading ? 1 : 0
      ),
      (
        "acting_by_promises",
        "Whether Redis is away and the node acts by its peers' promises (1) or not (0).",
        ownership.byPromises ? 1 : 0
      ),
    ]
    for (name, help, value) in gauges { page.single(self.prefix + name, .gauge, help, value) }
    page.family(
      self.prefix + "lease_seconds", .gauge,
      "Time for which the node may act without another word from Redis or its peers.")
    page.sample(ownership.leaseSeconds)
  }

  private static func layer(_ counters: cscp_counters, _ page: inout PrometheusText) {
    var family = ""
    for metric in LayerMetric.all {
      if metric.name != family {
        family = metric.name
        page.family(self.prefix + metric.name, metric.kind, metric.help)
      }
      if let label = metric.label {
        page.sample(metric.value(counters), [label.key: label.value])
      } else {
        page.sample(metric.value(counters))
      }
    }
    page.family(
      self.prefix + "connections_closed_total", .counter,
      "Connections ended, by reason (Docs/PROTOCOL.md, Reasons).")
    for (reason, count) in LayerMetric.closed(counters) {
      page.sample(count, ["reason": reason])
    }
  }

  private static func events(_ events: MetricsSnapshot.Events, _ page: inout PrometheusText) {
    let counters: [(String, String, UInt64)] = [
      ("events_forwarded_total", "Events sent to the vendor app.", events.sentTotal),
      ("events_committed_total", "Events the vendor app acknowledged.", events.ackedTotal),
      (
        "events_stale_total", "Events the vendor app refused for too low an owner epoch.",
        events.staleTotal
      ),
      ("event_batches_total", "Batches of events sent to the vendor app.", events.batchesTotal),
      (
        "event_batches_repeated_total", "Batches sent again on a new stream.",
        events.batchesRepeatedTotal
      ),
      (
        "vendor_reattaches_total", "Streams to the vendor app opened after the first.",
        events.reattachesTotal
      ),
      (
        "event_stalls_total",
        "Times events were left with their controllers because too much was in flight.",
        events.stallsTotal
      ),
    ]
    for (name, help, value) in counters {
      page.single(self.prefix + name, .counter, help, value)
    }
    let gauges: [(String, String, UInt64)] = [
      ("events_in_flight", "Events sent and not acknowledged, now.", events.inFlight),
      (
        "event_batches_in_flight", "Batches sent and not acknowledged, now.", events.batchesInFlight
      ),
      ("event_in_flight_bytes", "Bytes sent and not acknowledged, now.", events.bytesInFlight),
      ("event_in_flight_limit_bytes", "Bytes that may be in flight.", events.bytesInFlightMax),
    ]
    for (name, help, value) in gauges {
      page.single(self.prefix + name, .gauge, help, value)
    }
    page.histogram(
      self.prefix + "event_commit_seconds",
      "From reading an event to the vendor app's acknowledgement.", events.latency)
  }

  private static func commands(
    _ commands: CommandMetrics.Snapshot, _ page: inout PrometheusText
  ) {
    page.family(self.prefix + "commands_taken_total", .counter, "Commands taken, by door.")
    for door in CommandMetrics.Door.allCases {
      page.sample(commands.taken[door] ?? 0, ["door": door.rawValue])
    }
    page.family(
      self.prefix + "commands_ended_total", .counter, "Commands ended, by door and result.")
    for door in CommandMetrics.Door.allCases {
      for end in CommandMetrics.End.allCases {
        page.sample(
          commands.ended[door]?[end] ?? 0, ["door": door.rawValue, "result": end.rawValue])
      }
    }
    let passes = [
      (
        "commands_passed_total", "Commands offered to their controllers' owners, by the answer.",
        commands.passed
      ),
      (
        "commands_received_total", "Commands offered by other nodes, by the answer.",
        commands.received
      ),
    ]
    for (name, help, counts) in passes {
      page.family(self.prefix + name, .counter, help)
      for (pass, count) in counts.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        page.sample(count, ["answer": pass.rawValue])
      }
    }
    page.single(
      self.prefix + "commands_away", .gauge,
      "Commands taken and not ended whose controllers are not this node's, now.", commands.away)
    page.single(
      self.prefix + "commands_pending", .gauge, "Commands taken and not ended, now.",
      commands.pending)
    page.single(
      self.prefix + "sequences_pending", .gauge, "Command sequences this node has, now.",
      commands.sequences.held)
    page.single(
      self.prefix + "sequence_bytes", .gauge, "Bytes of these.", commands.sequences.bytes)
    page.single(
      self.prefix + "sequences_given_back_total", .counter,
      "Command sequences given back to whoever keeps them, without a result.",
      commands.sequences.givenBack)
    page.single(
      self.prefix + "results_unacknowledged", .gauge,
      "Results the vendor app has not acknowledged, now.", commands.resultsUnacked)
    page.single(
      self.prefix + "results_copied_total", .counter,
      "Results that other nodes were given as well, because the vendor app had not acknowledged them.",
      commands.resultsCopied)
    page.single(
      self.prefix + "results_kept_total", .counter,
      "Results of other nodes that this one tells the vendor app.", commands.resultsKept)
    page.histogram(
      self.prefix + "command_seconds", "From taking a command to its result.",
      commands.latency)
  }

  private static func mailbox(
    _ counts: MailboxMachine.Counts, _ page: inout PrometheusText
  ) {
    let counters: [(String, String, UInt64)] = [
      (
        "mailbox_given_total", "Commands from the mailbox that were given to a controller's lane.",
        counts.given
      ),
      (
        "mailbox_put_back_total", "Commands of these that came back to wait for their controller.",
        counts.putBack
      ),
      (
        "mailbox_decided_total", "Results of commands from the mailbox that this node decided.",
        counts.decided
      ),
      (
        "mailbox_removed_total",
        "Commands removed from the mailbox: the vendor app has their result.",
        counts.removed
      ),
      (
        "mailbox_malformed_total",
        "Entries of the mailbox that are no commands, refused or removed.",
        counts.malformed
      ),
      ("mailbox_calls_total", "Calls to Redis for the mailbox.", counts.calls),
      (
        "mailbox_calls_failed_total",
        "Calls to Redis for the mailbox that failed, or were refused because the range is another's.",
        counts.callsFailed
      ),
    ]
    for (name, help, value) in counters { page.single(self.prefix + name, .counter, help, value) }
    page.single(
      self.prefix + "mailbox_controllers", .gauge,
      "This node's controllers that have commands waiting in the mailbox, now.", counts.boxes)
    page.single(
      self.prefix + "mailbox_under_way", .gauge,
      "Commands from the mailbox between their controller and their removal, now.", counts.tracked)
  }

  private static func links(_ snapshot: MetricsSnapshot, _ page: inout PrometheusText) {
    let links = [("redis", snapshot.redis), ("vendor", snapshot.vendor)].compactMap { name, link in
      link.map { (name: name, link: $0) }
    }
    guard !links.isEmpty else { return }
    page.family(self.prefix + "link_up", .gauge, "Whether the link is up (1) or down (0).")
    for (name, link) in links { page.sample(UInt64(link.isUp ? 1 : 0), ["link": name]) }
    page.family(
      self.prefix + "link_state_seconds", .gauge, "For how long the link has been as it is.")
    for (name, link) in links {
      page.sample(seconds(from: link.sinceMs, to: snapshot.nowMs), ["link": name])
    }
    page.family(self.prefix + "link_connects_total", .counter, "Connections made.")
    for (name, link) in links { page.sample(link.connectsTotal, ["link": name]) }
    page.family(
      self.prefix + "link_failures_total", .counter, "Attempts to connect that failed.")
    for (name, link) in links { page.sample(link.failuresTotal, ["link": name]) }
  }

  private static func process(_ snapshot: MetricsSnapshot, _ page: inout PrometheusText) {
    page.single(
      self.prefix + "log_lines_total", .counter, "Log lines written.", snapshot.logLinesTotal)
    page.single(
      self.prefix + "log_lines_dropped_total", .counter,
      "Log lines dropped because the log did not take them.", snapshot.logLinesDroppedTotal)
    // Under the names that every exporter uses.
    let process = snapshot.process
    page.family(
      "process_start_time_seconds", .gauge, "Start of the process, seconds since 1970 UTC.")
    page.sample(Double(snapshot.startedAtMs) / 1_000)
    page.family("process_cpu_seconds_total", .counter, "CPU time used, user and system.")
    page.sample(process.cpuSeconds)
    page.single(
      "process_resident_memory_bytes", .gauge, "Resident memory.", process.residentBytes)
    page.single("process_open_fds", .gauge, "Open file descriptors.", process.openFiles)
    page.single(
      "process_max_fds", .gauge, "File descriptors that may be open.", process.openFilesMax)
  }

  private static func seconds(from startMs: UInt64, to endMs: UInt64) -> Double {
    endMs > startMs ? Double(endMs - startMs) / 1_000 : 0
  }
}

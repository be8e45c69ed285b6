import CSCP
import Glibc
import Testing

@testable import ClusterDriver

@Suite("Metrics page")
struct MetricsPageTests {
  static func snapshot() -> MetricsSnapshot {
    MetricsSnapshot(
      version: "1.0.0", nodeID: "gate-1:5001", startedAtMs: 1_795_488_000_000,
      nowMs: 1_795_488_393_500, readiness: .ready)
  }

  /// Every number of the structure its own: 1, 2, 3 … in memory order.
  static func distinctCounters() -> (counters: cscp_counters, count: Int) {
    var counters = cscp_counters()
    let size = MemoryLayout<UInt64>.size
    let count = MemoryLayout<cscp_counters>.size / size
    withUnsafeMutableBytes(of: &counters) { bytes in
      for index in 0..<count {
        bytes.storeBytes(of: UInt64(index + 1), toByteOffset: index * size, as: UInt64.self)
      }
    }
    return (counters, count)
  }

  @Test("the page is what Prometheus reads, and counters alone end in _total")
  func syntax() {
    var snapshot = Self.snapshot()
    snapshot.redis = MetricsSnapshot.Link()
    snapshot.vendor = MetricsSnapshot.Link()
    snapshot.events.latency.counts[3] = 5
    snapshot.nodeID = "a\"b\\c\nd"
    let checker = PrometheusChecker(MetricsPage.render(snapshot))
    #expect(checker.problems == [])
    #expect(checker.samples.count > 100)
    #expect(checker.samples.first?.label("node") == #"a\"b\\c\nd"#)
  }

  @Test(
    "the checker that says so finds what is wrong",
    arguments: [
      "# HELP x h\n# TYPE x gauge\nx 1", "# HELP x h\n# TYPE x counter\nx 1\n",
      "# HELP x_total h\n# TYPE x_total gauge\n", "# HELP x h\n# TYPE x gauge\nx{a=1} 1\n",
      "# HELP x h\n# TYPE x gauge\nx 1\nx 2\n", "# HELP x h\n# TYPE x gauge\ny 1\n",
      "# HELP x h\n# TYPE x gauge\nx{a=\"\n\"} 1\n", "# HELP x h\n# TYPE x gauge\nx{a=\"\\x\"} 1\n",
      "# HELP x h\n# TYPE x histogram\nx_bucket{le=\"1\"} 2\nx_bucket{le=\"+Inf\"} 1\nx_sum 1\n"
        + "x_count 1\n",
    ])
  func checker(page: String) {
    #expect(!PrometheusChecker(page).problems.isEmpty)
  }

  @Test("every counter of the controller layer is shown, once")
  func allCounters() {
    var snapshot = Self.snapshot()
    let (counters, count) = Self.distinctCounters()
    snapshot.layer = counters
    let names = Set(LayerMetric.all.map { MetricsPage.prefix + $0.name })
    let checker = PrometheusChecker(MetricsPage.render(snapshot))
    let shown = checker.samples.filter {
      names.contains($0.name) || $0.name == MetricsPage.prefix + "connections_closed_total"
    }
    #expect(shown.map(\.value).sorted() == (1...count).map(Double.init))
  }

  @Test("connections ended are told by the reasons' names")
  func closedByReason() {
    var snapshot = Self.snapshot()
    snapshot.layer.closed.12 = 7
    let checker = PrometheusChecker(MetricsPage.render(snapshot))
    #expect(checker["cluster_driver_connections_closed_total{reason=\"ping_timeout\"}"] == 7)
    #expect(!checker.samples.contains { $0.label("reason") == "unknown" })
  }

  @Test("golden: the node, its commands and their time, its links")
  func golden() {
    var snapshot = Self.snapshot()
    let commands = CommandMetrics()
    for _ in 0..<4 { commands.took(by: .redis) }
    commands.ended(.done, by: .redis, us: 50)
    commands.ended(.done, by: .redis, us: 51)
    commands.ended(.expired, by: .redis, us: 51)
    commands.ended(.offline, by: .admin, us: 99_000_000)
    for _ in 0..<2 { commands.took(by: .sequence) }
    commands.ended(.done, by: .sequence, us: nil)
    commands.passed(.taken)
    commands.passed(.unanswered)
    commands.received(.notMine)
    snapshot.commands = commands.snapshot()
    snapshot.commands.pending = 1
    snapshot.commands.away = 1
    snapshot.commands.sequences = CommandMetrics.Sequences(held: 3, bytes: 4000, givenBack: 5)
    snapshot.redis = MetricsSnapshot.Link(
      isUp: true, sinceMs: 1_795_488_393_000, connectsTotal: 2, failuresTotal: 1)
    let page = MetricsPage.render(snapshot)
    #expect(page.hasPrefix(Self.goldenHead))
    #expect(page.contains(Self.goldenCommands))
    #expect(page.contains(Self.goldenLinks))
  }

  static let goldenHead = """
    # HELP cluster_driver_build_info Version of the program, and the node's name.
    # TYPE cluster_driver_build_info gauge
    cluster_driver_build_info{version="1.0.0",node="gate-1:5001"} 1
    # HELP cluster_driver_uptime_seconds Time since the start of the node, by its clock.
    # TYPE cluster_driver_uptime_seconds gauge
    cluster_driver_uptime_seconds 393.5
    # HELP cluster_driver_ready Whether the node serves controllers (1) or not (0).
    # TYPE cluster_driver_ready gauge
    cluster_driver_ready 1
    # HELP cluster_driver_connections Controllers' connections open now, welcomed or not.
    # TYPE cluster_driver_connections gauge
    cluster_driver_connections 0

    """

  static let goldenCommands = """
    # HELP cluster_driver_commands_taken_total Commands taken, by door.
    # TYPE cluster_driver_commands_taken_total counter
    cluster_driver_commands_taken_total{door="attach"} 0
    cluster_driver_commands_taken_total{door="redis"} 4
    cluster_driver_commands_taken_total{door="mailbox"} 0
    cluster_driver_commands_taken_total{door="admin"} 0
    cluster_driver_commands_taken_total{door="peer"} 0
    cluster_driver_commands_taken_total{door="sequence"} 2
    # HELP cluster_driver_commands_ended_total Commands ended, by door and result.
    # TYPE cluster_driver_commands_ended_total counter
    cluster_driver_commands_ended_total{door="attach",result="done"} 0
    cluster_driver_commands_ended_total{door="attach",result="refused"} 0
    cluster_driver_commands_ended_total{door="attach",result="expired"} 0
    cluster_driver_commands_ended_total{door="attach",result="offline"} 0
    cluster_driver_commands_ended_total{door="attach",result="superseded"} 0
    cluster_driver_commands_ended_total{door="redis",result="done"} 2
    cluster_driver_commands_ended_total{door="redis",result="refused"} 0
    cluster_driver_commands_ended_total{door="redis",result="expired"} 1
    cluster_driver_commands_ended_total{door="redis",result="offline"} 0
    cluster_driver_commands_ended_total{door="redis",result="superseded"} 0
    cluster_driver_commands_ended_total{door="mailbox",result="done"} 0
    cluster_driver_commands_ended_total{door="mailbox",result="refused"} 0
    cluster_driver_commands_ended_total{door="mailbox",result="expired"} 0
    cluster_driver_commands_ended_total{door="mailbox",result="offline"} 0
    cluster_driver_commands_ended_total{door="mailbox",result="superseded"} 0
    cluster_driver_commands_ended_total{door="admin",result="done"} 0
    cluster_driver_commands_ended_total{door="admin",result="refused"} 0
    cluster_driver_commands_ended_total{door="admin",result="expired"} 0
    cluster_driver_commands_ended_total{door="admin",result="offline"} 1
    cluster_driver_commands_ended_total{door="admin",result="superseded"} 0
    cluster_driver_commands_ended_total{door="peer",result="done"} 0
    cluster_driver_commands_ended_total{door="peer",result="refused"} 0
    cluster_driver_commands_ended_total{door="peer",result="expired"} 0
    cluster_driver_commands_ended_total{door="peer",result="offline"} 0
    cluster_driver_commands_ended_total{door="peer",result="superseded"} 0
    cluster_driver_commands_ended_total{door="sequence",result="done"} 1
    cluster_driver_commands_ended_total{door="sequence",result="refused"} 0
    cluster_driver_commands_ended_total{door="sequence",result="expired"} 0
    cluster_driver_commands_ended_total{door="sequence",result="offline"} 0
    cluster_driver_commands_ended_total{door="sequence",result="superseded"} 0
    # HELP cluster_driver_commands_passed_total Commands offered to their controllers' owners, by the answer.
    # TYPE cluster_driver_commands_passed_total counter
    cluster_driver_commands_passed_total{answer="busy"} 0
    cluster_driver_commands_passed_total{answer="ended"} 0
    cluster_driver_commands_passed_total{answer="not_mine"} 0
    cluster_driver_commands_passed_total{answer="taken"} 1
    cluster_driver_commands_passed_total{answer="unanswered"} 1
    # HELP cluster_driver_commands_received_total Commands offered by other nodes, by the answer.
    # TYPE cluster_driver_commands_received_total counter
    cluster_driver_commands_received_total{answer="busy"} 0
    cluster_driver_commands_received_total{answer="ended"} 0
    cluster_driver_commands_received_total{answer="not_mine"} 1
    cluster_driver_commands_received_total{answer="taken"} 0
    # HELP cluster_driver_commands_away Commands taken and not ended whose controllers are not this node's, now.
    # TYPE cluster_driver_commands_away gauge
    cluster_driver_commands_away 1
    # HELP cluster_driver_commands_pending Commands taken and not ended, now.
    # TYPE cluster_driver_commands_pending gauge
    cluster_driver_commands_pending 1
    # HELP cluster_driver_sequences_pending Command sequences this node has, now.
    # TYPE cluster_driver_sequences_pending gauge
    cluster_driver_sequences_pending 3
    # HELP cluster_driver_sequence_bytes Bytes of these.
    # TYPE cluster_driver_sequence_bytes gauge
    cluster_driver_sequence_bytes 4000
    # HELP cluster_driver_sequences_given_back_total Command sequences given back to whoever keeps them, without a result.
    # TYPE cluster_driver_sequences_given_back_total counter
    cluster_driver_sequences_given_back_total 5
    # HELP cluster_driver_results_unacknowledged Results the vendor app has not acknowledged, now.
    # TYPE cluster_driver_results_unacknowledged gauge
    cluster_driver_results_unacknowledged 0
    # HELP cluster_driver_results_copied_total Results that other nodes were given as well, because the vendor app had not acknowledged them.
    # TYPE cluster_driver_results_copied_total counter
    cluster_driver_results_copied_total 0
    # HELP cluster_driver_results_kept_total Results of other nodes that this one tells the vendor app.
    # TYPE cluster_driver_results_kept_total counter
    cluster_driver_results_kept_total 0
    # HELP cluster_driver_command_seconds From taking a command to its result.
    # TYPE cluster_driver_command_seconds histogram
    cluster_driver_command_seconds_bucket{le="5e-05"} 1
    cluster_driver_command_seconds_bucket{le="0.0001"} 3
    cluster_driver_command_seconds_bucket{le="0.00025"} 3

    """

  static let goldenLinks = """
    cluster_driver_command_seconds_bucket{le="10"} 3
    cluster_driver_command_seconds_bucket{le="+Inf"} 4
    cluster_driver_command_seconds_sum 99.000152
    cluster_driver_command_seconds_count 4
    # HELP cluster_driver_link_up Whether the link is up (1) or down (0).
    # TYPE cluster_driver_link_up gauge
    cluster_driver_link_up{link="redis"} 1
    # HELP cluster_driver_link_state_seconds For how long the link has been as it is.
    # TYPE cluster_driver_link_state_seconds gauge
    cluster_driver_link_state_seconds{link="redis"} 0.5
    # HELP cluster_driver_link_connects_total Connections made.
    # TYPE cluster_driver_link_connects_total counter
    cluster_driver_link_connects_total{link="redis"} 2
    # HELP cluster_driver_link_failures_total Attempts to connect that failed.
    # TYPE cluster_driver_link_failures_total counter
    cluster_driver_link_failures_total{link="redis"} 1

    """

  @Test("a duration counts in the first bucket whose bound it does not exceed")
  func buckets() {
    let histogram = LatencyHistogram()
    for bound in LatencyHistogram.boundsUs {
      histogram.record(us: bound)
      histogram.record(us: bound + 1)
    }
    histogram.record(us: 0)
    var expected = [UInt64](repeating: 2, count: LatencyHistogram.boundsUs.count)
    expected.append(1)
    #expect(histogram.snapshot().counts == expected)
  }

  @Test("the process's own numbers are read from the system")
  func process() {
    let usage = ProcessUsage.current()
    #expect(usage.residentBytes > 1 << 20)
    #expect(usage.cpuSeconds > 0)
    #expect(usage.openFiles >= 3)
    #expect(usage.openFilesMax >= usage.openFiles)
  }

  @Test("open descriptors are counted, every one")
  func openFiles() {
    // Other tests open and close some meanwhile, but not as many.
    let held = (0..<500).compactMap { _ in
      let file = dup(0)
      return file >= 0 ? file : nil
    }
    let with = ProcessUsage.current().openFiles
    for file in held { close(file) }
    let without = ProcessUsage.current().openFiles
    #expect(held.count == 500)
    #expect((250...750).contains(Int64(with) - Int64(without)), "\(with) and \(without)")
  }
}

internal import CSCP

/// The controller layer's counters and their names. All of them: a test compares the list with the
/// size of the C structure.
struct LayerMetric: Sendable {
  /// Without the prefix.
  let name: String
  let kind: PrometheusText.Kind
  let help: String
  /// A label's name and value, for counters that share a family; those stand together in the list.
  var label: (key: String, value: String)?
  let value: @Sendable (cscp_counters) -> UInt64

  static let all: [LayerMetric] =
    connections + relays + traffic + events + commands + parking + inside

  private static let connections: [LayerMetric] = [
    gauge("connections", "Controllers' connections open now, welcomed or not.") { $0.connections },
    gauge("sessions", "Controllers welcomed and connected now.") { $0.sessions },
    counter("connections_accepted_total", "Connections accepted.") { $0.accepted },
    refused("busy") { $0.refused_busy },
    refused("limit") { $0.refused_limit },
    counter(
      "accept_pauses_total",
      "Times a thread stopped accepting because it had no descriptor left for controllers."
    ) { $0.accept_pauses },
    counter("handshakes_total", "HELLOs answered with a WELCOME.") { $0.handshakes },
    counter("handshakes_rejected_total", "HELLOs answered with a REJECT.") { $0.rejected },
    counter("handshake_timeouts_total", "Connections that sent no HELLO in time.") {
      $0.handshake_timeouts
    },
    counter("sessions_superseded_total", "Sessions ended by a newer one of the same serial.") {
      $0.superseded
    },
    counter("ping_timeouts_total", "Sessions ended because a PING went unanswered.") {
      $0.ping_timeouts
    },
    counter("slow_readers_total", "Sessions ended because the controller did not read.") {
      $0.slow_readers
    },
  ]

  private static let relays: [LayerMetric] = [
    counter("proxy_headers_total", "PROXY headers taken.") { $0.proxies_taken },
    counter("proxy_headers_refused_total", "PROXY headers from elsewhere, or malformed.") {
      $0.proxies_refused
    },
    gauge("relays", "Controllers of other nodes that came in here, now.") { $0.relays },
    counter("relay_attaches_total", "Times the owner of such a controller was reached.") {
      $0.relay_attaches
    },
    counter("relay_losses_total", "Times an owner that was reached went away.") {
      $0.relay_losses
    },
    counter("relay_failures_total", "Attempts to reach an owner that failed.") {
      $0.relay_failures
    },
    relayed("relayed_frames_total", "Frames passed on", "up") { $0.relay_frames_up },
    relayed("relayed_frames_total", "Frames passed on", "down") { $0.relay_frames_down },
    relayed("relayed_bytes_total", "Bytes passed on", "up") { $0.relay_bytes_up },
    relayed("relayed_bytes_total", "Bytes passed on", "down") { $0.relay_bytes_down },
  ]

  private static let traffic: [LayerMetric] = [
    counter("received_frames_total", "Frames read from controllers.") { $0.frames_in },
    counter("sent_frames_total", "Frames written to controllers.") { $0.frames_out },
    counter("received_bytes_total", "Bytes read from controllers.") { $0.bytes_in },
    counter("sent_bytes_total", "Bytes written to controllers.") { $0.bytes_out },
    counter("resyncs_total", "Times the reader had to search for the next frame.") { $0.resyncs },
    counter("skipped_bytes_total", "Bytes passed over in such searches.") { $0.bytes_skipped },
  ]

  private static let events: [LayerMetric] = [
    counter("events_received_total", "Events read from controllers, advisory copies apart.") {
      $0.events
    },
    counter("advisories_received_total", "Advisory copies of events read from controllers.") {
      $0.advisories
    },
    counter("log_gaps_total", "LOG_GAPs: controllers that overwrote unreported records.") {
      $0.gaps
    },
    counter("log_resets_total", "LOG_RESETs: controllers that lost their log.") { $0.resets },
    counter("acks_taken_total", "Acknowledgements given to the controller layer.") { $0.acks_in },
    counter("acks_sent_total", "EVENT_ACK frames sent to controllers.") { $0.acks_out },
    counter(
      "acks_invalid_total", "Acknowledgements beyond what was received, ignored; must stay 0."
    ) { $0.acks_invalid },
    gauge("events_unacknowledged", "Events received and not acknowledged to controllers, now.") {
      $0.unacked
    },
  ]

  private static let commands: [LayerMetric] = [
    counter("layer_commands_total", "Commands given to the controller layer.") { $0.commands_in },
    layerCommand("sent") { $0.commands_sent },
    layerCommand("expired") { $0.commands_expired },
    layerCommand("unsent") { $0.commands_unsent },
    counter("results_received_total", "RESULT frames read from controllers.") { $0.results },
    counter(
      "results_unknown_total", "RESULT frames for commands that were not awaited, dropped."
    ) { $0.results_unknown },
  ]

  private static let parking: [LayerMetric] = [
    gauge("connections_parked", "Connections that would outlive this process, now.") { $0.parked },
    counter("park_batches_total", "Messages by which sockets were put into the parking lot.") {
      $0.park_batches
    },
    counter("park_failures_total", "Attempts to park sockets that failed; must stay 0.") {
      $0.park_failures
    },
    counter("park_rows_swept_total", "Rows of the parking lot replaced, closed sockets left out.") {
      $0.rows_swept
    },
  ]

  private static let inside: [LayerMetric] = [
    counter("fenced_sends_total", "Sends withheld because ownership had run out.") { $0.fenced },
    counter("ring_full_total", "Times a thread stopped reading because events were not taken.") {
      $0.ring_full
    },
    counter("io_thread_wakeups_total", "Times an I/O thread was woken from outside.") {
      $0.wakeups
    },
  ]

  private static func counter(
    _ name: String, _ help: String, _ value: @escaping @Sendable (cscp_counters) -> UInt64
  ) -> LayerMetric {
    LayerMetric(name: name, kind: .counter, help: help, value: value)
  }

  private static func gauge(
    _ name: String, _ help: String, _ value: @escaping @Sendable (cscp_counters) -> UInt64
  ) -> LayerMetric {
    LayerMetric(name: name, kind: .gauge, help: help, value: value)
  }

  private static func refused(
    _ reason: String, _ value: @escaping @Sendable (cscp_counters) -> UInt64
  ) -> LayerMetric {
    LayerMetric(
      name: "connections_refused_total", kind: .counter,
      help: "Connections turned away: told BUSY, or over the limit of connections.",
      label: ("reason", reason), value: value)
  }

  private static func relayed(
    _ name: String, _ what: String, _ direction: String,
    _ value: @escaping @Sendable (cscp_counters) -> UInt64
  ) -> LayerMetric {
    LayerMetric(
      name: name, kind: .counter, help: "\(what): up = to the owner, down = to the controller.",
      label: ("direction", direction), value: value)
  }

  private static func layerCommand(
    _ outcome: String, _ value: @escaping @Sendable (cscp_counters) -> UInt64
  ) -> LayerMetric {
    LayerMetric(
      name: "layer_command_outcomes_total", kind: .counter,
      help: "What became of commands on their way to the network.", label: ("outcome", outcome),
      value: value)
  }

  /// Connections ended, by reason, as the counters hold them: (name of the reason, number).
  static func closed(_ counters: cscp_counters) -> [(reason: String, count: UInt64)] {
    withUnsafeBytes(of: counters.closed) { bytes in
      bytes.bindMemory(to: UInt64.self).enumerated().map { index, count in
        (String(cString: cscp_reason_name(cscp_reason(UInt32(index)))), count)
      }
    }
  }
}

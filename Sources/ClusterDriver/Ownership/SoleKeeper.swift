import CSystem
import DriverProtocol
import Election
import Logging
import Synchronization

/// The ownership of a node that is on its own (`memory:`): tells the controller layer when it changes.
final class SoleKeeper: NodeOwnership {
  private struct State {
    var ownership = SoleOwnership()
    var ration = RateLimit<String>(burst: 3, every: .seconds(10), keysMax: 2)
  }

  private let state = Mutex(State())
  private let layer: ControllerLayer
  private let log: Logger

  init(layer: ControllerLayer, log: Logger) {
    self.layer = layer
    self.log = log
  }

  var epochs: ClosedRange<UInt64>? { self.state.withLock { $0.ownership.epochs } }
  var view: OwnershipView? { nil }
  var history: OwnershipHistory? { nil }
  var beats: [Beat] { [] }
  var peers: (any NodePeers)? { nil }

  func begin() {
    self.state.withLock { self.layer.own($0.ownership) }
  }

  func tick() -> ContinuousClock.Instant? { nil }
  func survey() -> Bool { true }
  func order(_ order: OperatorOrder) {}
  func drain(_ isDraining: Bool) {}
  func serve(_ desk: NodeDesk) {}
  func serves(_ isHealthy: Bool) {}
  func lookAtPeers() {}
  var isApart: Bool { false }
  func renewTLS() {}
  func stop() {}
  func handOver(_ results: [Clusterdriver_V1_CommandResult]) -> Int { 0 }
  func finish() {}
  func close() {}

  func seen(_ reports: [SoleOwnership.Report]) {
    self.state.withLock { state in
      let reaction = state.ownership.seen(reports)
      // Inside the lock, so that two changes reach the layer in their order.
      if reaction.isChanged {
        self.layer.own(state.ownership)
        if case .say(let suppressed) = state.ration.take("raised", at: csys_clock_boottime()) {
          self.log.notice(
            "owner epoch raised above what controllers or the vendor app have seen",
            metadata: [
              "epoch": "\(state.ownership.epochs.upperBound)", "reports": "\(reports.count)",
              "suppressed": "\(suppressed)",
            ])
        }
      }
      if let report = reaction.implausible,
        case .say(let suppressed) = state.ration.take("implausible", at: csys_clock_boottime())
      {
        self.log.error(
          """
          owner epoch \(report.epoch) was reported, which no cluster reaches: the controller is not \
          served; reset what it remembers of its hosts
          """, metadata: ["serial": "\(report.serial)", "suppressed": "\(suppressed)"])
      }
    }
  }
}

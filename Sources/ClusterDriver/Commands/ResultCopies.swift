import DriverProtocol
import SwiftProtobuf
import Synchronization

/// Results that the vendor app does not acknowledge are given to peers, which tell it by their own streams:
/// a node that is killed, or ends, takes none with it that it had for long.
extension CommandPipeline {
  /// So long a result may be in this node only.
  static let onlyHereLimit: Duration = .milliseconds(500)
  /// After no peer has taken them.
  static let copyAgain: Duration = .milliseconds(500)
  /// Given at a time.
  private static let copyBytesMax = 32 << 10

  /// What is under way of that.
  struct Copying: Sendable {
    var isUnderWay = false
    var notBefore: ContinuousClock.Instant?
  }

  /// Gives a peer what the vendor app has not acknowledged for a while and nobody else has. The node keeps
  /// its own and goes on telling: by its id a result counts once. To be called now and then; returns at once.
  func copyResults(at now: ContinuousClock.Instant) {
    let due = self.outbox.onlyHere(
      since: now - CommandPipeline.onlyHereLimit, bytesMax: CommandPipeline.copyBytesMax)
    guard !due.isEmpty, let peers = self.beginCopying(at: now) else { return }
    let results = CommandPipeline.results(in: due.lazy.map(\.bytes))
    peers.keep(results) { [weak self] areKept in
      guard let self else { return }
      if areKept {
        self.outbox.copied(due.map(\.number))
        self.metrics.copied(results.count)
      }
      let end = ContinuousClock.now
      self.state.withLock {
        $0.copying = Copying(notBefore: areKept ? nil : end + CommandPipeline.copyAgain)
      }
      if areKept { self.copyResults(at: end) }
    }
  }

  private func beginCopying(at now: ContinuousClock.Instant) -> (any CommandPeers)? {
    self.state.withLock { state in
      guard !state.copying.isUnderWay, state.copying.notBefore.map({ $0 <= now }) ?? true,
        let peers = state.peers
      else { return nil }
      state.copying.isUnderWay = true
      return peers
    }
  }

  /// Tells the vendor app the results of a peer that cannot. False: there is no room for them.
  func keep(_ results: [Clusterdriver_V1_CommandResult]) -> Bool {
    if self.outbox.isOverfull { return false }
    self.outbox.append(results: results.count) { number in
      var message = Clusterdriver_V1_DriverMessage()
      message.number = number
      message.results.results = results
      return message.wireBytes()
    }
    self.metrics.kept(results.count)
    return true
  }

  /// Results that the vendor app has not acknowledged.
  var unacknowledgedResults: [Clusterdriver_V1_CommandResult] {
    CommandPipeline.results(in: self.outbox.resultMessages)
  }

  private static func results(in messages: some Sequence<[UInt8]>)
    -> [Clusterdriver_V1_CommandResult]
  {
    messages.flatMap { bytes in
      (try? Clusterdriver_V1_DriverMessage(serializedBytes: bytes))?.results.results ?? []
    }
  }
}

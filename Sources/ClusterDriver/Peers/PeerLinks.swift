import DriverProtocol
import Election
import GRPCCore
import GRPCNGHTTP2
import Logging
import Synchronization

/// The way to the other nodes of the cluster: a gRPC connection to each, open all the time, because the
/// moment it is needed is when something else has failed.
///
/// Any thread. A question that is not answered is not answered: whoever asked will ask again.
final class PeerLinks: OwnershipPeers {
  /// Questions to one peer that wait for their answer; further ones are left out.
  static let questionsMax = 16
  /// Heartbeats of which one peer is being told. It is the newest that matters, but one that was sent when the way was
  /// free arrives before it.
  static let beatsMax = 4
  /// A question that has not been answered by then never is.
  static let answerLimit: Duration = .seconds(1)

  private final class Link: Sendable {
    let address: String
    let transport: NGHTTP2ClientTransport
    let client: GRPCClient<NGHTTP2ClientTransport>
    let running: Task<Void, Never>
    let questions = Slots(PeerLinks.questionsMax)
    let beats = Slots(PeerLinks.beatsMax)
    let results = Slots(PeerLinks.awaitedMax)

    init(_ address: String, to node: NodeID, log: Logger) throws {
      guard let target = NGHTTP2Address(address) else {
        throw RPCError(code: .invalidArgument, message: "\"\(address)\" is no host:port")
      }
      self.address = address
      let transport = try NGHTTP2ClientTransport(
        target: target, config: Link.config { log.debug("\($0)", metadata: ["peer": "\(node)"]) })
      self.transport = transport
      let client = GRPCClient(transport: transport)
      self.client = client
      self.running = Task.detached { try? await client.runConnections() }
    }

    private static func config(_ say: @escaping @Sendable (NGHTTP2Event) -> Void)
      -> NGHTTP2ClientConfig
    {
      var config = NGHTTP2ClientConfig()
      config.userAgent = "cluster-driver/\(NodeVersion.current)"
      config.threadName = "peer-link"
      config.connectTimeout = .seconds(1)
      config.backoff = NGHTTP2Backoff(
        initial: .milliseconds(50), multiplier: 2, maximum: .milliseconds(500), jitter: 0.5)
      // So that who is silent is known to be out of reach, or dead (`PeerReach`). A process that hangs keeps its
      // connection.
      config.keepalive = NGHTTP2Keepalive(
        interval: .milliseconds(250), timeout: .seconds(10), withoutCalls: true)
      // A connection to a host that was cut off is given up soon, so that another one is there when the
      // host is.
      config.connection.tcpKeepaliveIdle = .seconds(1)
      config.connection.tcpTimeout = .seconds(2)
      config.onEvent = say
      return config
    }

    func close() {
      self.client.beginGracefulShutdown()
      self.running.cancel()
    }
  }

  /// So many of a kind may be under way.
  private final class Slots: Sendable {
    private let max: Int
    private let taken = Atomic<Int>(0)

    init(_ max: Int) { self.max = max }

    func take() -> Bool {
      if self.taken.add(1, ordering: .relaxed).oldValue < self.max { return true }
      self.giveBack()
      return false
    }

    func giveBack() { self.taken.subtract(1, ordering: .relaxed) }
  }

  private struct State {
    var links: [NodeID: Link] = [:]
    /// Those that do not serve at present.
    var idle: Set<NodeID> = []
    var isClosed = false
  }

  private let me: NodeID
  private let log: Logger
  private let state = Mutex(State())

  init(me: NodeID, log: Logger) {
    self.me = me
    self.log = log
  }

  func reach(_ places: PeerPlaces) {
    let former = self.state.withLock { state -> [Link] in
      guard !state.isClosed else { return [] }
      state.idle = Set(places.places.lazy.filter { !$0.value.serves }.map(\.key))
      var former: [Link] = []
      for (node, link) in state.links where places.places[node]?.peersAt != link.address {
        state.links[node] = nil
        former.append(link)
      }
      for (node, place) in places.places
      where node != self.me && !place.peersAt.isEmpty && state.links[node] == nil {
        do {
          state.links[node] = try Link(place.peersAt, to: node, log: self.log)
        } catch {
          self.log.error(
            "this peer cannot be reached: \(error); see its --peers and --advertise",
            metadata: ["peer": "\(node)"])
        }
      }
      return former
    }
    for link in former { link.close() }
  }

  func ask(
    _ node: NodeID, _ question: NodeMachine.Question,
    tell: @escaping @Sendable (NodeMachine.Answer) -> Void
  ) {
    self.call(node, \.questions) { peer, options in
      let answer = try await peer.ask(PeerWire.message(question, to: node), options: options)
      if let answer = PeerWire.answer(answer) { tell(answer) }
    }
  }

  func nudge(_ node: NodeID) {
    self.call(node, \.questions) { peer, options in
      _ = try await peer.nudge(Clusterdriver_V1_PeerNudge(), options: options)
    }
  }

  func announce(_ me: Owner, counter: UInt64, to nodes: [NodeID]) {
    var beat = Clusterdriver_V1_PeerBeat()
    beat.node = PeerWire.message(me)
    beat.counter = counter
    for node in nodes {
      self.call(node, \.beats) { [beat] peer, options in
        _ = try await peer.announce(beat, options: options)
      }
    }
  }

  /// For how long nothing has been heard of each. One of an earlier version, which does not want to be asked so often,
  /// is not among them.
  var silences: [NodeID: Duration] {
    self.state.withLock { $0.links }.compactMapValues(\.transport.silence)
  }

  /// A loop for each peer.
  var beats: [Beat] {
    self.state.withLock { $0.links }.map { node, link in
      Beat("the thread of the connection to \(node)", link.transport.turns)
    }
  }

  func close() {
    let links = self.state.withLock { state in
      state.isClosed = true
      defer { state.links = [:] }
      return state.links.values.map(\.self)
    }
    for link in links { link.close() }
  }

  private typealias Peer = Clusterdriver_V1_DriverPeer.Client<NGHTTP2ClientTransport>

  private func call(
    _ node: NodeID, _ slots: KeyPath<Link, Slots>,
    _ body: @escaping @Sendable (Peer, CallOptions) async throws -> Void
  ) {
    guard let link = self.link(to: node) else { return }
    let slots = link[keyPath: slots]
    guard slots.take() else { return }
    Task.detached {
      var options = CallOptions.defaults
      options.timeout = PeerLinks.answerLimit
      try? await body(Peer(wrapping: link.client), options)
      slots.giveBack()
    }
  }

  private func link(to node: NodeID) -> Link? { self.state.withLock { $0.links[node] } }

  func client(of node: NodeID) -> GRPCClient<NGHTTP2ClientTransport>? {
    self.link(to: node)?.client
  }
}

// MARK: - Commands

extension PeerLinks: CommandPeers {
  /// Results that are waited for at one peer; of more it is not known how they end until some have.
  static let awaitedMax = 32
  /// For a result. What takes longer is asked for again.
  static let resultLimit: Duration = .seconds(10)

  func pass(_ batch: PassBatch, tell: @escaping @Sendable ([PassAnswer]?) -> Void) {
    let link = self.link(to: batch.to)
    Task.detached {
      var options = CallOptions.defaults
      options.timeout = PeerLinks.answerLimit
      guard let link else { return tell(nil) }
      let answer = try? await Peer(wrapping: link.client).passOn(
        CommandWire.message(batch), options: options)
      tell(answer.flatMap { CommandWire.answers($0) })
    }
  }

  func awaitResult(
    of id: CommandID, at node: NodeID, tell: @escaping @Sendable (FinishedCommand?) -> Void
  ) {
    let link = self.link(to: node)
    Task.detached {
      guard let link, link.results.take() else { return tell(nil) }
      var options = CallOptions.defaults
      options.timeout = PeerLinks.resultLimit
      var question = Clusterdriver_V1_PeerAwait()
      question.asked = node.name
      question.id = .init(bytes: id.bytes)
      let answer = try? await Peer(wrapping: link.client).awaitResult(question, options: options)
      link.results.giveBack()
      tell(answer.flatMap { FinishedCommand($0) })
    }
  }
}

// MARK: - Results that the vendor app has not acknowledged

extension PeerLinks {
  /// In one message.
  private static let resultsMax = 256
  private static let resultBytesMax = 32 << 10
  private static let keepLimit: Duration = .milliseconds(300)
  private static let keepAgain: Duration = .milliseconds(50)

  /// Gives the results to peers that tell the vendor app of them. BLOCKS for as long as `limit` at most.
  /// Returns how many were taken.
  func handOver(
    _ results: [Clusterdriver_V1_CommandResult], within limit: Duration
  ) -> Int {
    let links = self.keepers
    guard !links.isEmpty else { return 0 }
    let kept = Counter()
    let work = Awaited {
      for batch in PeerLinks.batches(of: results) {
        // A peer that did not answer may only be slow: all in turn, for as long as there is time.
        while await !PeerLinks.isKept(batch, by: links) {
          guard (try? await Task.sleep(for: PeerLinks.keepAgain)) != nil else { return }
        }
        kept.add(UInt64(batch.count))
      }
    }
    if work.wait(limit) == nil { work.cancel() }
    return Int(kept.value)
  }

  func keep(
    _ results: [Clusterdriver_V1_CommandResult], tell: @escaping @Sendable (Bool) -> Void
  ) {
    let links = self.keepers
    Task.detached {
      for batch in PeerLinks.batches(of: results) {
        guard await PeerLinks.isKept(batch, by: links) else { return tell(false) }
      }
      tell(true)
    }
  }

  /// Who may take results: first those that reach the vendor app, by what they say.
  private var keepers: [(key: NodeID, value: Link)] {
    self.state.withLock { state in
      state.links.sorted { one, other in
        let (first, second) = (state.idle.contains(one.key), state.idle.contains(other.key))
        return first == second ? one.key < other.key : second
      }
    }
  }

  private static func isKept(
    _ results: [Clusterdriver_V1_CommandResult], by links: [(key: NodeID, value: Link)]
  ) async -> Bool {
    for (node, link) in links where !Task.isCancelled {
      var message = Clusterdriver_V1_PeerResults()
      message.asked = node.name
      message.results = results
      var options = CallOptions.defaults
      options.timeout = PeerLinks.keepLimit
      if (try? await Peer(wrapping: link.client).keepResults(message, options: options)) != nil {
        return true
      }
    }
    return false
  }

  private static func batches(
    of results: [Clusterdriver_V1_CommandResult]
  ) -> [[Clusterdriver_V1_CommandResult]] {
    var batches: [[Clusterdriver_V1_CommandResult]] = []
    var bytes = 0
    for result in results {
      let size = 64 + result.body.count + result.detail.utf8.count
      bytes += size
      if let last = batches.last, last.count < self.resultsMax, bytes <= self.resultBytesMax {
        batches[batches.count - 1].append(result)
      } else {
        batches.append([result])
        bytes = size
      }
    }
    return batches
  }
}

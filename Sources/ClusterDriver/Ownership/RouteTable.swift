import CSystem
import Election
import Logging
import Synchronization

/// Tells the controller layer where the controllers of other nodes are served. On a thread of its own,
/// because names have to be looked up, which blocks.
final class RouteTable: @unchecked Sendable {
  // Unchecked: `thread` is of whoever starts and closes it; the rest of what is mutable is of the thread.

  /// A name is looked up again after this.
  private static let lookUpEvery: Duration = .seconds(30)
  private static let lookUpAgain: Duration = .seconds(2)

  private struct Wanted {
    var view: OwnershipView?
    var leftOut: Set<NodeID> = []
    var isClosing = false
  }

  private struct Known {
    var address: csys_address?
    var until: ContinuousClock.Instant
  }

  private let layer: ControllerLayer
  private let log: Logger
  private let wanted = Mutex(Wanted())
  private let bell = Bell()
  private var thread: csys_thread?
  private var known: [String: Known] = [:]

  init(layer: ControllerLayer, log: Logger) {
    self.layer = layer
    self.log = log
  }

  func start() {
    var thread = csys_thread()
    let result = csys_thread_start(
      "routes",
      { context in
        Unmanaged<RouteTable>.fromOpaque(context!).takeRetainedValue().run()
      }, Unmanaged.passRetained(self).toOpaque(), &thread)
    precondition(result == 0, "the routes thread did not start: \(errorText(-result))")
    self.thread = thread
  }

  /// Does not block.
  func follow(_ view: OwnershipView) {
    self.wanted.withLock { $0.view = view }
    self.bell.ring()
  }

  /// The controllers of these are sent to other nodes, which reach them. Does not block.
  func leaveOut(_ nodes: Set<NodeID>) {
    let isNews = self.wanted.withLock { wanted in
      defer { wanted.leftOut = nodes }
      return wanted.leftOut != nodes
    }
    if isNews { self.bell.ring() }
  }

  func close() {
    guard let thread = self.thread else { return }
    self.wanted.withLock { $0.isClosing = true }
    self.bell.ring()
    csys_thread_join(thread)
    self.thread = nil
  }

  private func run() {
    var view: OwnershipView?
    var told: [Route] = []
    while true {
      let (fresh, leftOut, isClosing) = self.wanted.withLock { wanted in
        defer { wanted.view = nil }
        return (wanted.view, wanted.leftOut, wanted.isClosing)
      }
      if isClosing { return }
      if let fresh { view = fresh }
      if let view {
        let routes = Route.routes(view, leftOut: leftOut, at: .now) { self.address(of: $0) }
        if routes != told {
          if let why = self.layer.route(routes) {
            self.log.error(
              "the routes to other nodes stay as they were: \(why)",
              metadata: ["routes": "\(routes.count)"])
          }
          told = routes
        }
      }
      self.bell.wait(milliseconds: RouteTable.lookUpEvery.millisecondsRoundedUp)
    }
  }

  private func address(of place: String) -> csys_address? {
    let now = ContinuousClock.now
    if let known = self.known[place], now < known.until { return known.address }
    var found: csys_address?
    do throws(Objection) {
      let at = try HostPort(parsing: place)
      var address = csys_address()
      if at.port == 0 {
        found = nil
      } else if csys_address_parse(at.host, at.port, &address) == 0
        || csys_address_resolve(at.host, at.port, &address, 1) > 0
      {
        found = address
      }
    } catch {
      found = nil
    }
    if found == nil, self.known[place].map({ $0.address != nil }) ?? true {
      self.log.error(
        """
        a node's controllers' port cannot be looked up: its controllers are not relayed; see that \
        node's --advertise
        """, metadata: ["advertise": "\(place)"])
    }
    let keep = found == nil ? RouteTable.lookUpAgain : RouteTable.lookUpEvery
    self.known[place] = Known(address: found, until: now.advanced(by: keep))
    return found
  }
}

/// Where the controllers of some serials are served.
struct Route: Sendable, Equatable {
  var range: OwnedRange
  var address: csys_address
  /// Its owner's heartbeats are seen: when it is not to be reached from here, it may be from elsewhere.
  var isAlive: Bool
  /// And it is known not to be reached from here.
  var isApart = false

  static func == (a: Route, b: Route) -> Bool {
    a.range == b.range && a.isAlive == b.isAlive && a.isApart == b.isApart
      && a.address.length == b.address.length
      && withUnsafeBytes(of: a.address.storage) { a in
        withUnsafeBytes(of: b.address.storage) { b in a.elementsEqual(b) }
      }
  }

  /// Of what others own by the word of the present store. Whatever peers have said, they are sorted, apart,
  /// and lead somewhere.
  static func routes(
    _ view: OwnershipView, leftOut: Set<NodeID> = [], at now: Instant,
    address: (String) -> csys_address?
  ) -> [Route] {
    var routes: [Route] = []
    for record in view.table.values {
      guard let owner = record.owner?.node, owner != view.me.node, record.store == view.identity,
        record.epoch > .none, routes.last.map({ $0.range.last < record.first }) ?? true,
        let place = view.places.places[owner], !place.controllersAt.isEmpty,
        let address = address(place.controllersAt)
      else { continue }
      routes.append(
        Route(
          range: record.piece, address: address, isAlive: view.peers.isAlive(owner, at: now),
          isApart: leftOut.contains(owner)))
    }
    return routes
  }
}

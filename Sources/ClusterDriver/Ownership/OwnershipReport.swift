import CSystem
import Election
import Logging

/// Tells the operator what changes in a node's part of the cluster: each change once.
struct OwnershipReport {
  private let log: Logger
  private var acting: [OwnedRange] = []
  private var role = LeaderMachine.Role.follower
  private var identity: StoreIdentity?
  private var byPromises = false
  private var isFenced = true
  private var storeFailure: StoreFailure?
  private var ration = RateLimit<String>(burst: 5, every: .seconds(10), keysMax: 4)

  init(log: Logger) {
    self.log = log
  }

  mutating func storeAnswered() {
    guard self.storeFailure != nil else { return }
    self.storeFailure = nil
    if self.isAllowed("store") { self.log.notice("the ownership store answers again") }
  }

  mutating func storeFailed(_ failure: StoreFailure) {
    // A call that fails in its own way is worth a line of its own.
    guard self.storeFailure.map({ $0.kind != failure.kind }) ?? true else { return }
    self.storeFailure = failure
    guard self.isAllowed("store") else { return }
    switch failure {
    case .unreachable: self.log.warning("\(failure)")
    case .refused, .damaged: self.log.error("\(failure)")
    }
  }

  /// After every step.
  mutating func look(_ machine: NodeMachine) {
    let now = Instant.now
    if machine.ownership.identity != self.identity {
      if self.identity != nil, self.isAllowed("identity") {
        self.log.warning(
          """
          this is another Redis, or one that has lost something: nothing new is claimed for one TTL, and \
          what this node holds is asserted
          """, metadata: ["identity": "\(machine.ownership.identity?.text ?? "none")"])
      }
      self.identity = machine.ownership.identity
    }
    if machine.role != self.role {
      self.role = machine.role
      switch machine.role {
      case .leading(let term): self.log.notice("leads the cluster", metadata: ["term": "\(term)"])
      case .follower: self.log.notice("leads the cluster no more")
      }
    }
    let byPromises = machine.actsByPromises(at: now)
    if byPromises != self.byPromises {
      self.byPromises = byPromises
      if self.isAllowed("promises") {
        self.log.warning(
          byPromises
            ? "Redis is away: acting on by the promises of the other members; nothing moves"
            : "no longer acting by promises")
      }
    }
    let isFenced = machine.validUntil.map { now >= $0 } ?? true
    if isFenced != self.isFenced {
      self.isFenced = isFenced
      if isFenced, !self.acting.isEmpty, self.isAllowed("fenced") {
        self.log.error(
          """
          the lease has run out: acting for no controller until Redis, or enough of the other members, \
          answer
          """)
      }
    }
    if machine.acting != self.acting { self.tell(machine.acting) }
  }

  private mutating func tell(_ acting: [OwnedRange]) {
    let (lost, gained) = OwnedRange.changes(from: self.acting, to: acting)
    self.acting = acting
    guard self.isAllowed("ranges") else { return }
    self.log.notice(
      "acts for \(acting.count) ranges",
      metadata: ["gained": "\(gained.count)", "lost": "\(lost.count)"])
  }

  private mutating func isAllowed(_ what: String) -> Bool {
    if case .say = self.ration.take(what, at: csys_clock_boottime()) { true } else { false }
  }
}

extension StoreFailure {
  fileprivate var kind: Int {
    switch self {
    case .unreachable: 0
    case .refused: 1
    case .damaged: 2
    }
  }
}

/// Whether this node leads, and under which term. Nothing that is unsafe depends on it: every order
/// names the term, and the store refuses one that is over.
public struct LeaderMachine: Sendable, Equatable {
  public enum Role: Sendable, Equatable {
    case follower
    case leading(Term)
  }

  public enum Directive: Sendable, Equatable {
    case campaign(hint: Term, watched: StoreCall.Watched?)
    case wake(at: Instant)
  }

  /// Heartbeats in a row without an answer after which a leader leads no more.
  public static let failuresMax = 3

  private let me: Owner
  private let timing: Timing
  public private(set) var role = Role.follower
  /// The highest term ever seen, whatever the store forgets.
  public private(set) var termSeen = Term.none
  private var record: LeaderRecord?
  /// What a campaign has come to shows in the next view; no other is made before that.
  private var hasCampaigned = false

  public init(me: Owner, timing: Timing) {
    self.me = me
    self.timing = timing
  }

  /// The leader as far as the store says.
  public var leader: LeaderRecord? { record }

  public mutating func saw(_ record: LeaderRecord?) {
    self.record = record
    termSeen = max(termSeen, record?.term ?? .none)
    if let record, record.leader == me { role = .leading(record.term) } else { role = .follower }
  }

  /// Everything that is in the store now has been seen.
  public mutating func sawView(_ record: LeaderRecord?) {
    saw(record)
    hasCampaigned = false
  }

  /// So many heartbeats in a row were not answered.
  public mutating func missed(_ failures: Int) {
    if failures >= LeaderMachine.failuresMax { role = .follower }
  }

  /// Steps down, for a node that stops or was replaced.
  public mutating func resign() { role = .follower }

  /// Whether to stand for leader now, or when to look again.
  public mutating func campaign(
    watch: PeerWatch, isQuarantined: Bool, isDraining: Bool, at now: Instant
  ) -> [Directive] {
    guard role == .follower, !isQuarantined, !hasCampaigned else { return [] }
    var vacantAt = Instant(nanoseconds: .min)
    if let holder = record?.leader, holder.node != me.node {
      guard let deadAt = watch.deadAt(holder.node) else { return [] }
      guard now >= deadAt else { return [.wake(at: deadAt)] }
      vacantAt = deadAt
    }
    // The leader of a cluster is best one that stays.
    let alive = watch.alive(at: now).filter { !$0.status.draining }.map(\.node)
    let rank = isDraining ? alive.count + 1 : alive.firstIndex(of: me.node) ?? alive.count
    let campaignAt = vacantAt.after(timing.rankDelay, times: rank)
    guard now >= campaignAt else { return [.wake(at: campaignAt)] }
    hasCampaigned = true
    return [
      .campaign(
        hint: termSeen,
        watched: record.flatMap { $0.leader.node == me.node ? nil : watch.watched($0.leader.node) })
    ]
  }
}

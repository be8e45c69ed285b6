/// What keeps a node, or the cluster, from being well. What it says is the rest of a sentence that begins
/// with the node's name.
enum RolloutTrouble: Equatable, Sendable {
  // Of a node.
  case silent(String)
  case state(String)
  case role(String)
  case vendor(String)
  case redis(String)
  /// What the cluster takes it for: unhealthy, draining, stopped, dead, missing.
  case member(String)
  case unlisted
  /// The cluster does not know its present life yet.
  case unknownLife
  // Of one that was told to restart.
  case notEnded
  case outdated(String)
  case noRanges(isPaused: Bool)
  // Of the cluster.
  case leaderless
  case unserved(UInt64)
  case controllers(missing: UInt64)

  var text: String {
    switch self {
    case .silent(let why): "does not answer (\(why))"
    case .state(let state): "is \(state)"
    case .role(let role): "is not in order in its cluster (\(role))"
    case .vendor(let vendor): "has no vendor app (\(vendor))"
    case .redis(let redis): "has no Redis (\(redis))"
    case .member(let state): "is \(state) in the cluster's eyes"
    case .unlisted: "is not on the list of members yet"
    case .unknownLife: "is not known to the cluster in its present life yet"
    case .notEnded: "has not ended yet"
    case .outdated(let path): "does not run what is installed at \(path)"
    case .noRanges(let isPaused):
      "acts for no range, and did before"
        + (isPaused ? "; balancing is stopped (clusterctl rebalance start)" : "")
    case .leaderless: "nobody leads the cluster"
    case .unserved(let ranges): "\(ranges) ranges are nobody's at the moment"
    case .controllers(let missing): "\(missing) controllers are not back"
    }
  }

  /// Two of a kind are one state, in which only the numbers change.
  var kind: String {
    switch self {
    case .silent: "silent"
    case .state(let state): "state \(state)"
    case .role(let role): "role \(role)"
    case .vendor: "vendor"
    case .redis: "redis"
    case .member(let state): "member \(state)"
    case .unlisted: "unlisted"
    case .unknownLife: "unknown life"
    case .notEnded: "not ended"
    case .outdated: "outdated"
    case .noRanges: "no ranges"
    case .leaderless: "leaderless"
    case .unserved: "unserved"
    case .controllers: "controllers"
    }
  }

  /// It is the cluster's, whichever node shows it.
  var isClusters: Bool {
    switch self {
    case .leaderless, .unserved, .controllers: true
    default: false
    }
  }

  /// What is to be done about it before a rollout.
  var advice: String {
    switch self {
    case .silent: "look at it on its host (systemctl status, journalctl)"
    case .state, .role, .unlisted, .unknownLife, .notEnded, .outdated:
      "wait until it is in order (clusterctl topology), or look at its log"
    case .vendor: "see to its vendor app, or to its way there"
    case .redis: "see to Redis, or to its way there"
    case .member("draining"): "clusterctl undrain, or stop it for good"
    case .member("unhealthy"): "see to its vendor app; clusterctl check on its host says more"
    case .member:
      "see on its host why it does not live (systemctl status, journalctl); its service manager starts"
        + " whatever program is installed there, again and again"
    case .noRanges: "see clusterctl plan"
    case .leaderless: "see whether all nodes reach Redis"
    case .unserved: "see clusterctl topology: some node is not in order"
    case .controllers: "see clusterctl controllers"
    }
  }
}

extension RolloutView {
  /// What is wrong with a member by itself.
  func trouble(of name: String) -> RolloutTrouble? {
    guard let member = members[name] else { return .member("missing") }
    guard let node = nodes[name] else {
      // What the cluster knows for sure says more than that it does not answer.
      if ["missing", "stopped", "dead"].contains(member.state) { return .member(member.state) }
      return .silent(silent[name] ?? "no answer")
    }
    if node.state != "serving" { return .state(node.state) }
    guard ["member", "leader"].contains(node.role) else { return .role(node.role) }
    if node.vendor != "up" { return .vendor(node.vendor) }
    if node.redis != "up" { return .redis(node.redis) }
    if member.incarnation != node.incarnation { return .unknownLife }
    if member.state != "alive" { return .member(member.state) }
    return member.isListed ? nil : .unlisted
  }

  /// What is wrong with the cluster as a whole.
  var trouble: RolloutTrouble? {
    if leader.isEmpty { return .leaderless }
    return unserved > 0 ? .unserved(unserved) : nil
  }
}

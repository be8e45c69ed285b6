internal import DriverProtocol

/// The cluster at one moment, as far as a rollout has to know it: what the node that was asked sees of the
/// cluster, and what each node says of itself.
struct RolloutView: Equatable, Sendable {
  struct Member: Equatable, Sendable {
    /// As in ClusterMember.
    var state = "alive"
    var isListed = true
    /// Of the life the cluster knows; 0: it has no session.
    var incarnation: UInt64 = 0
  }

  struct Node: Equatable, Sendable {
    var incarnation: UInt64
    var version = ""
    var state = "serving"
    var role = "member"
    var redis = "up"
    var vendor = "up"
    var ranges: UInt64 = 0
    var controllers: UInt64 = 0
    /// Connections that have ended since its start without its doing.
    var left: UInt64 = 0
    /// Another program is installed than the one that runs.
    var isReplaced = false
    /// Why it cannot be restarted; nil: it can.
    var whyNotRestartable: String?
    var program = ""
  }

  /// The node that was asked.
  var asked: String
  /// Empty: nobody leads.
  var leader: String
  /// Ranges that no living node owns.
  var unserved: UInt64 = 0
  /// Nothing is moved for balance.
  var isPaused = false
  /// Taken off the list of members, and not back.
  var removed: [String] = []
  /// Those that count: that live, or are on the list.
  var members: [String: Member]
  /// What the members say of themselves.
  var nodes: [String: Node]
  /// Why others did not say anything.
  var silent: [String: String] = [:]

  var names: [String] { members.keys.sorted() }

  /// All that are connected, to whichever node.
  var controllers: UInt64 { nodes.values.reduce(0) { $0 &+ $1.controllers } }
}

extension RolloutView {
  init(_ cluster: Clusterdriver_V1_ClusterStatus) {
    self.init(asked: cluster.nodeID, leader: cluster.leader, members: [:], nodes: [:])
    unserved = cluster.unserved
    isPaused = cluster.paused
    removed = cluster.removed
    // A node that was stopped or has died, and is on no list any more, is none of the cluster's.
    for member in cluster.members
    where member.listed || !["missing", "stopped", "dead"].contains(member.state) {
      members[member.nodeID] = Member(
        state: member.state, isListed: member.listed, incarnation: member.incarnation)
    }
  }
}

extension RolloutView.Node {
  init(_ status: Clusterdriver_V1_NodeStatus) {
    self.init(incarnation: status.incarnation)
    version = status.version
    state = status.state
    role = status.role
    redis = status.redis
    vendor = status.vendor
    ranges = status.ranges
    controllers = status.controllers
    left = status.controllersLeft
    isReplaced = status.programReplaced
    program = status.program
    if !status.restartable {
      whyNotRestartable =
        status.whyNotRestartable.isEmpty
        ? "it runs a program that cannot be restarted through the cluster; restart its unit on its host"
        : status.whyNotRestartable
    }
  }
}

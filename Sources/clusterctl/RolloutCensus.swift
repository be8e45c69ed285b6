/// How many controllers there are to be, over restarts of nodes and moves of ranges between them.
///
/// A move or a restart changes no sum; whoever hangs up, or falls silent, is counted by the node. So what
/// is connected and what has left grow together, unless connections were lost by a restart.
struct RolloutCensus: Sendable {
  /// One in so many may be missing: those who left while one process ended and the next began are counted
  /// by nobody.
  static let slackOneIn: UInt64 = 200

  private var seen: [String: (incarnation: UInt64, left: UInt64)] = [:]
  private var left: UInt64 = 0
  private var expected: UInt64 = 0

  mutating func look(_ view: RolloutView) {
    for (name, node) in view.nodes {
      let last = seen[name]
      let before = last?.incarnation == node.incarnation ? last?.left ?? 0 : 0
      // What a node counted before it was first looked at was before.
      if last != nil { left += node.left > before ? node.left - before : 0 }
      seen[name] = (node.incarnation, node.left)
    }
  }

  /// From now on as many are expected as there are now. To be said when nobody is missing.
  mutating func expect(_ view: RolloutView) {
    expected = view.controllers + left
  }

  /// How many there should be now.
  var present: UInt64 { expected > left ? expected - left : 0 }

  /// How many fewer there are.
  func missing(_ view: RolloutView) -> UInt64 {
    present > view.controllers ? present - view.controllers : 0
  }

  /// Nobody is missing, or so few that it is chance.
  func isWhole(_ view: RolloutView) -> Bool {
    missing(view) <= present / RolloutCensus.slackOneIn
  }
}

import Election
import RedisLink

/// The scripts, and the arguments of each call to them.
enum StoreScripts {
  private typealias Lua = StoreLua

  /// A heartbeat at rest has nothing to do with ranges: it does not pay for what handles them.
  static let heartbeat = script(Lua.withoutLoads, Lua.heartbeat)
  static let heartbeatWithLoads = script(
    Lua.arithmetic, Lua.ranges, Lua.withLoads, Lua.heartbeat)
  static let claim = script(Lua.arithmetic, Lua.peers, Lua.ranges, Lua.claim)
  static let assertion = script(Lua.arithmetic, Lua.ranges, Lua.assertion)
  static let handOver = script(Lua.arithmetic, Lua.ranges, Lua.handOver)
  static let release = script(Lua.release)
  static let campaign = script(Lua.arithmetic, Lua.peers, Lua.leader, Lua.campaign)
  static let lead = script(Lua.arithmetic, Lua.peers, Lua.leader, Lua.ranges, Lua.lists, Lua.orders)
  static let operate = script(Lua.arithmetic, Lua.peers, Lua.lists, Lua.operate)

  static let all = [
    heartbeat, heartbeatWithLoads, claim, assertion, handOver, release, campaign, lead, operate,
  ]

  private static func script(_ parts: String...) -> RedisScript {
    RedisScript(Lua.opening + parts.joined() + Lua.closing)
  }

  static func encode(_ call: StoreCall) -> (RedisScript, [String]) {
    switch call {
    case .heartbeat(let beat):
      let loads = beat.loads.sorted { $0.key < $1.key }
      return (
        loads.isEmpty ? self.heartbeat : self.heartbeatWithLoads,
        self.words(beat.owner) + [
          "\(beat.counter)", StoreText.line(beat.status), "\(beat.list.number)",
          StoreText.line(beat.list), "\(beat.since)", StoreText.token(beat.identity),
          beat.isSure ? "1" : "0",
        ] + loads.map { "\($0.key.rawValue) \(StoreText.line($0.value))" }
      )
    case .claim(let claim):
      return (
        self.claim,
        self.words(claim.claimer) + ["\(claim.list)"] + self.words(claim.watched)
          + claim.ranges.map(StoreText.line)
      )
    case .assert(let owner, let ranges):
      return (self.assertion, self.words(owner) + ranges.map(StoreText.line))
    case .handOver(let owner, let range, let move):
      return (self.handOver, self.words(owner) + ["\(range.rawValue)", "\(move)"])
    case .release(let owner):
      return (self.release, self.words(owner))
    case .campaign(let owner, let hint, let watched):
      return (
        self.campaign, self.words(owner) + ["\(hint.rawValue)"] + self.words(watched)
      )
    case .lead(let owner, let term, let order, let actions):
      return (
        self.lead,
        self.words(owner) + ["\(term.rawValue)", "\(order)"] + actions.map(StoreText.line)
      )
    case .operate(.pauseBalancing(let isWanted)):
      return (self.operate, ["pauseBalancing", isWanted ? "1" : "0"])
    case .operate(.forget(let node)):
      return (self.operate, ["forget", StoreText.token(node.name)])
    }
  }

  private static func words(_ owner: Owner) -> [String] {
    [StoreText.token(owner.node.name), "\(owner.incarnation.rawValue)"]
  }

  private static func words(_ watched: StoreCall.Watched?) -> [String] {
    StoreText.line(watched).split(separator: " ").map(String.init)
  }
}

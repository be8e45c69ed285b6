import Election

/// Tells what happens in a cluster in sentences, as an operator would.
struct Chronicle {
  private struct Node {
    var acting: [OwnedRange] = []
    var until: Int64 = 0
    var isLeading = false
    var identity: StoreIdentity?
  }

  private(set) var lines: [String] = []
  private var nodes: [Node]
  private var ranges: [RangeRecord] = []
  private var leader: String?
  private var list: [NodeID] = []
  /// Who has asked for promises, or for consent, since it last had an answer from the store.
  private var asking: Set<NodeID> = []

  init(nodes n: Int) { nodes = Array(repeating: Node(), count: n) }

  mutating func tell(_ text: String, at now: Int64) {
    let ms = now / 1_000_000
    let fraction = String(1000 + ms % 1000).dropFirst()
    let time = "\(ms / 1000).\(fraction) s"
    lines.append(String(repeating: " ", count: max(9 - time.count, 0)) + time + "  " + text)
  }

  /// Begins to tell, with how things are.
  mutating func begin(_ simulation: Simulation, at now: Int64) {
    lines = []
    for (i, node) in nodes.enumerated() {
      let id = simulation.nodes[i].id
      let acting = node.acting.isEmpty ? [] : ["acts for \(Chronicle.text(node.acting))"]
      let said = acting + (node.isLeading ? ["leads"] : [])
      if !said.isEmpty { tell("\(id) \(said.joined(separator: " and "))", at: now) }
    }
  }

  // MARK: The store

  /// A call has run in the store.
  mutating func ran(_ call: StoreCall, in simulation: Simulation) {
    let before = ranges
    ranges = simulation.store.allRanges
    let old = Dictionary(uniqueKeysWithValues: before.map { ($0.first, $0) })
    if ranges.map(\.serials) != before.map(\.serials) {
      let text = ranges.isEmpty ? "gone" : Chronicle.text(ranges.map(\.piece))
      tell("the ranges are \(text)", at: simulation.now)
    }
    for record in ranges { compare(record, with: old[record.first], call, at: simulation.now) }
    if simulation.store.list.nodes != list {
      list = simulation.store.list.nodes
      tell("the members are \(list.map(\.name).joined(separator: ", "))", at: simulation.now)
    }
  }

  private mutating func compare(
    _ record: RangeRecord, with old: RangeRecord?, _ call: StoreCall, at now: Int64
  ) {
    let range = Chronicle.text([record.piece])
    if let owner = record.owner, owner != old?.owner || record.epoch != old?.epoch {
      let former = old?.owner?.node
      switch call {
      case .claim:
        let from = former.map { $0 == owner.node ? " as in its former life" : " from \($0)" } ?? ""
        tell("\(owner.node) takes \(range)\(from) under \(record.epoch)", at: now)
      case .handOver:
        tell(
          "\(former?.name ?? "nobody") gives \(range) to \(owner.node) under \(record.epoch)",
          at: now)
      case .assert:
        tell("\(owner.node) asserts \(range) under \(record.epoch)", at: now)
      default: break
      }
    } else if case .assert(let owner, _) = call, record.store != old?.store {
      tell("\(owner.node) asserts \(range) under \(record.epoch)", at: now)
    }
    guard record.move != old?.move, record.owner == old?.owner else { return }
    if let move = record.move {
      tell("\(range) is to move to \(move.to)", at: now)
    } else if let move = old?.move {
      tell("the move of \(range) to \(move.to) is taken back", at: now)
    }
  }

  // MARK: Nodes

  mutating func told(_ directive: NodeMachine.Directive, _ node: NodeID, at now: Int64) {
    switch directive {
    case .ask(_, .promise(let request)) where !request.isProbe:
      if asking.insert(node).inserted {
        tell("\(node) hears nothing of the store and asks for promises", at: now)
      }
    case .ask(let peer, .consent(let request)):
      let whose =
        request.against.map { "to take what is \($0.node)'s" } ?? "to take what is nobody's"
      tell("\(node) asks \(peer) for consent \(whose)", at: now)
    case .seal(let first, _):
      if let record = ranges.first(where: { $0.first == first }) {
        tell("\(node) takes nothing new for \(Chronicle.text([record.piece]))", at: now)
      }
    case .replaced: tell("\(node) ends: another process has its name", at: now)
    case .stopped: tell("\(node) has given its session back, and ends", at: now)
    default: break
    }
  }

  /// The store has answered the node.
  mutating func heard(_ node: NodeID) { asking.remove(node) }

  /// Rights that end with the time.
  mutating func pass(to now: Int64, in simulation: Simulation) {
    for (i, node) in nodes.enumerated() where !node.acting.isEmpty && node.until <= now {
      tell("\(simulation.nodes[i].id) may act no more: its right has run out", at: node.until)
      nodes[i].acting = []
    }
  }

  mutating func look(_ simulation: Simulation) {
    for (i, node) in simulation.nodes.enumerated() {
      let machine = node.machine
      if let identity = machine?.ownership.identity, identity != nodes[i].identity {
        if nodes[i].identity != nil { tell("\(node.id) meets another store", at: simulation.now) }
        nodes[i].identity = identity
      }
      let isLeading = if case .leading = machine?.role { true } else { false }
      if isLeading != nodes[i].isLeading {
        nodes[i].isLeading = isLeading
        if case .leading(let term)? = machine?.role {
          tell("\(node.id) leads under \(term)", at: simulation.now)
        } else if machine != nil {
          tell("\(node.id) leads no more", at: simulation.now)
        }
      }
      lookAtRight(i, node, at: simulation.now)
    }
  }

  private mutating func lookAtRight(_ i: Int, _ node: SimulatedNode, at now: Int64) {
    let right = node.right
    nodes[i].until = right?.until ?? 0
    let before = nodes[i].acting
    let acting = nodes[i].until > now ? right?.ranges ?? [] : []
    guard acting != before else { return }
    nodes[i].acting = acting
    let ended = before.filter { old in !acting.contains { $0.serials.overlaps(old.serials) } }
    if !ended.isEmpty, node.isUp {
      tell("\(node.id) acts no more for \(Chronicle.text(ended))", at: now)
    }
    for epoch in Set(acting.map(\.epoch)).sorted() {
      let begun = acting.filter { $0.epoch == epoch && !before.contains($0) }
      if !begun.isEmpty {
        tell("\(node.id) acts for \(Chronicle.text(begun)) under \(epoch)", at: now)
      }
    }
  }

  private static func text(_ ranges: [OwnedRange]) -> String {
    ranges.map { range in
      if range.serials == .lowest ... .highest { return "all serials" }
      return "\(range.first)…" + (range.last == .highest ? "" : "\(range.last)")
    }.joined(separator: ", ")
  }
}

/// What a rollout would do in a cluster as it is now, and what keeps it from beginning.
struct RolloutPlan: Equatable, Sendable {
  struct Problem: Equatable, Sendable {
    /// Empty: the cluster.
    var node = ""
    var what: String
    var advice: String
    /// It will not be gone in a moment.
    var isLasting = false

    var text: String { (node.isEmpty ? what : "\(node) \(what)") + ": " + advice }
  }

  /// To be restarted, in this order as long as nothing changes.
  var restart: [String]
  /// They run what is installed.
  var current: [String]
  /// They run something else, and nobody asked for them.
  var left: [String]
  var problems: [Problem]
  /// The one that may be unwell, because it is what is to be restarted.
  var patient: String?

  init(_ view: RolloutView, nodes: [String], all: Bool) {
    let asked = nodes.isEmpty ? view.names : view.names.filter(nodes.contains)
    let outdated = { (name: String) in view.nodes[name]?.isReplaced == true }
    let chosen = asked.filter { view.nodes[$0] != nil && (all || outdated($0)) }
    restart = chosen.filter { $0 != view.leader } + chosen.filter { $0 == view.leader }
    current = asked.filter { view.nodes[$0]?.isReplaced == false && !chosen.contains($0) }
    left = view.names.filter { !asked.contains($0) && outdated($0) }
    problems = []

    for name in nodes where view.members[name] == nil {
      problems.append(
        Problem(
          node: name, what: "is no member of the cluster",
          advice: "its members are \(view.names.joined(separator: ", "))", isLasting: true))
    }
    for name in chosen {
      guard let why = view.nodes[name]?.whyNotRestartable else { continue }
      problems.append(
        Problem(node: name, what: "cannot be restarted", advice: why, isLasting: true))
    }
    // Whatever else is wrong must be right first, except with the only node that is to be restarted, if
    // it can be told so: another program may be what it needs.
    let unwell = view.names.filter { view.trouble(of: $0) != nil }
    let isDraining = unwell.first.map { view.members[$0]?.state == "draining" } ?? false
    if nodes.count == 1, unwell == chosen, unwell == nodes, !isDraining { patient = nodes.first }
    for name in unwell where name != patient {
      guard let trouble = view.trouble(of: name) else { continue }
      var advice = trouble.advice
      if unwell.count == 1, outdated(name), view.nodes[name]?.whyNotRestartable == nil, !isDraining
      {
        advice +=
          ". It does not run what is installed: if that is to cure it, clusterctl rollout --node \(name)"
      }
      problems.append(Problem(node: name, what: trouble.text, advice: advice))
    }
    for name in view.removed {
      problems.append(
        Problem(
          node: name, what: "was taken off the list of members after it had died",
          advice: "start it again, or, if it is gone for good, clusterctl forget \(name)",
          isLasting: true))
    }
    if let trouble = view.trouble {
      problems.append(Problem(what: trouble.text, advice: trouble.advice))
    }
  }
}

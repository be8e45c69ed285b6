/// What a rollout says while it goes on.
enum RolloutNotice: Equatable, Sendable {
  case plan(RolloutPlan)
  /// Before the first restart, or for the node that is asked.
  case waits(String)
  case restarting(String, controllers: UInt64, ranges: UInt64)
  /// Node empty: the cluster.
  case waitsFor(String, RolloutTrouble)
  case well(String, missing: UInt64)
  case done(String, took: Duration)
  /// It runs what is installed without having been told to restart.
  case current(String)
}

/// How a rollout ended, and what became of every node.
struct RolloutEnding: Equatable, Sendable {
  enum Outcome: Equatable, Sendable {
    case done, nothingToDo
    /// A dry run.
    case planned
    case refused([RolloutPlan.Problem])
    /// At this node (empty: the cluster), because of that.
    case stopped(String, String)
    case interrupted
  }

  var outcome: Outcome
  /// Restarted, and well.
  var restarted: [String]
  /// Told to restart, and not known to be well.
  var underWay: [String]
  /// To be restarted, and not told.
  var untouched: [String]
  /// They ran what is installed.
  var current: [String]

  var exit: Exit {
    switch outcome {
    case .done, .nothingToDo, .planned: .done
    case .refused, .stopped: .refused
    case .interrupted: .interrupted
    }
  }
}

extension RolloutNotice {
  /// In a word, for programs.
  var what: String {
    switch self {
    case .plan: "plan"
    case .waits, .waitsFor: "waiting"
    case .restarting: "restarting"
    case .well: "well"
    case .done: "done"
    case .current: "current"
    }
  }

  var node: String {
    switch self {
    case .plan, .waits: ""
    case .restarting(let node, _, _), .waitsFor(let node, _), .well(let node, _),
      .done(let node, _),
      .current(let node):
      node
    }
  }

  /// For people; what is said of a node goes on after its name.
  var text: String {
    switch self {
    case .plan(let plan):
      plan.restart.isEmpty
        ? "nothing to restart: all run what is installed" : RolloutNotice.lines(plan)
    case .waits(let text): "waiting: " + text
    case .restarting(_, let controllers, let ranges):
      "restarting; it acts for \(controllers) controllers in \(ranges) ranges"
    case .waitsFor(let node, let trouble):
      node.isEmpty || trouble.isClusters ? "waiting: " + trouble.text : trouble.text
    case .well(_, let missing):
      missing == 0 ? "well; watching it for a while" : "well, \(missing) controllers left meanwhile"
    case .done(_, let took): "done, after \(RolloutNotice.seconds(took))"
    case .current: "runs what is installed by now: left out"
    }
  }

  private static func lines(_ plan: RolloutPlan) -> String {
    var text = "to restart, in this order: " + plan.restart.joined(separator: ", ")
    if !plan.current.isEmpty {
      text += "; run what is installed: " + plan.current.joined(separator: ", ")
    }
    if !plan.left.isEmpty {
      text += "; left out, and outdated: " + plan.left.joined(separator: ", ")
    }
    return text
  }

  /// "1.3 s".
  static func seconds(_ duration: Duration) -> String {
    let ms = milliseconds(duration)
    return "\(ms / 1000).\(ms % 1000 / 100) s"
  }

  static func milliseconds(_ duration: Duration) -> UInt64 {
    let (seconds, attoseconds) = duration.components
    return UInt64(max(0, seconds)) * 1000 + UInt64(max(0, attoseconds)) / 1_000_000_000_000_000
  }
}

extension RolloutEnding {
  var what: String {
    switch outcome {
    case .done: "finished"
    case .nothingToDo: "nothing to do"
    case .planned: "planned"
    case .refused: "refused"
    case .stopped: "stopped"
    case .interrupted: "interrupted"
    }
  }

  /// Why it did not come to its end; empty: it did.
  var why: String {
    switch outcome {
    case .refused(let problems): problems.map(\.text).joined(separator: "; ")
    case .stopped(let node, let why): node.isEmpty ? why : "\(node): \(why)"
    default: ""
    }
  }

  /// For people: what was done, what was not, and how to go on.
  var lines: [String] {
    switch outcome {
    case .nothingToDo: return []
    case .planned: return ["nothing was done: a dry run"]
    case .done: return ["finished: \(restarted.count) restarted\(list(restarted))"]
    case .refused(let problems):
      return ["not begun; nothing was restarted:"] + problems.map { "  " + $0.text }
    case .stopped(let node, _):
      return ["stopped: \(why)"] + state + advice(node)
    case .interrupted:
      return ["interrupted"] + state + [
        "A node that was told to restart does so all the same. Run it again to go on: it begins with those",
        "that do not run what is installed.",
      ]
    }
  }

  private var state: [String] {
    var lines = ["  restarted and well: \(names(restarted))"]
    if !underWay.isEmpty { lines.append("  told to restart, not well: \(names(underWay))") }
    lines.append("  not touched: \(names(untouched))")
    return lines
  }

  private func advice(_ node: String) -> [String] {
    var lines: [String] = []
    if underWay.contains(node) {
      lines = [
        "Look at \(node) on its host: systemctl status, journalctl. While it does not live its peers have its",
        "ranges, and the controllers that came in by it dial again.",
      ]
    }
    return lines + [
      "To go on: make it well, and run clusterctl rollout again; it begins with those that do not run what",
      "is installed. If it does not start, install a program there that does: its service manager starts that",
      "by itself. If it lives and is unwell, install another one, and clusterctl rollout --node NAME.",
      "To go back: install the former program on all hosts, and run clusterctl rollout.",
    ]
  }

  private func names(_ names: [String]) -> String {
    names.isEmpty ? "none" : names.joined(separator: ", ")
  }

  private func list(_ names: [String]) -> String {
    names.isEmpty ? "" : " (\(names.joined(separator: ", ")))"
  }
}

/// Restarts the nodes of a cluster one by one onto the program that is installed on their hosts, and stops
/// where that goes wrong.
///
/// A value; whoever looks at the cluster says what is seen, and when. It keeps nothing over its end: what is
/// still to be done shows in which nodes run another program than the one installed, so it may be
/// interrupted at any moment and begun again.
///
/// Order: by name, and the leader, as it is at the time of choosing, when nothing else is left or under way.
/// Invariants: no node is told to restart while another member is unwell; never more than `unavailableMax`
/// at a time; after the first failure none.
struct RolloutMachine: Sendable {
  struct Settings: Equatable, Sendable {
    /// Only these; empty: all.
    var nodes: [String] = []
    /// Also those that run what is installed.
    var all = false
    var unavailableMax = 1
    /// From the order to restart until the node is well.
    var within: Duration = .seconds(60)
    /// A node is done when it has been well for so long, in one life.
    var settle: Duration = .seconds(3)
    /// All must have been seen well for so long before the first: what one node knows of another is as old as a
    /// heartbeat or two.
    var calm: Duration = .seconds(1)
    /// What may be over in a moment is waited for so long before a rollout is refused.
    var patience: Duration = .seconds(5)
    var isDryRun = false
  }

  enum Event: Sendable {
    case seen(RolloutView)
    /// The node that is asked did not answer.
    case lost(String)
    case answered(String, Answer)
    case interrupted
  }

  /// To an order to restart.
  enum Answer: Equatable, Sendable {
    case taken
    /// It lives in another life already.
    case overtaken
    case refused(String)
    /// Perhaps it was taken.
    case unknown(String)
  }

  enum Directive: Equatable, Sendable {
    case restart(String, incarnation: UInt64)
    case say(RolloutNotice)
    case end(RolloutEnding)
  }

  /// A node between the order to restart and being well for a while.
  struct UnderWay: Equatable, Sendable {
    var former: RolloutView.Node
    var toldAt: ContinuousClock.Instant
    var isSure = true
    var life: UInt64?
    var wellSince: ContinuousClock.Instant?
    var trouble: RolloutTrouble?
  }

  /// An order whose answer was lost is given again after this.
  static let tellAgain: Duration = .seconds(2)

  let settings: Settings
  let beganAt: ContinuousClock.Instant
  private(set) var underWay: [String: UnderWay] = [:]
  /// Restarted and well, and the lives they are in.
  private(set) var done: [String: UInt64] = [:]
  private(set) var pending: [String]?
  private(set) var current: [String] = []
  private(set) var ending: RolloutEnding?
  private(set) var census = RolloutCensus()
  /// The node that is asked, as it said itself.
  private var asked = "the node"
  /// The one that was allowed to be unwell when the rollout began.
  private var patient: String?
  /// Who was there when it began: whoever is gone since is missing.
  private var roster: Set<String> = []
  private var calmSince: ContinuousClock.Instant?
  /// What is waited for, other than a node that was told to restart.
  private var waiting: (kind: String, since: ContinuousClock.Instant)?
  private var out: [Directive] = []

  init(_ settings: Settings, at now: ContinuousClock.Instant) {
    self.settings = settings
    self.beganAt = now
  }

  mutating func step(_ event: Event, at now: ContinuousClock.Instant) -> [Directive] {
    guard ending == nil else { return [] }
    out = []
    switch event {
    case .seen(let view):
      asked = view.asked
      census.look(view)
      if pending == nil { look(view, now) }
      if pending != nil, ending == nil { roll(view, now) }
    case .lost(let why): lose(why, now)
    case .answered(let name, let answer): take(answer, of: name)
    case .interrupted: end(.interrupted)
    }
    return out
  }

  // MARK: Before the first restart

  private mutating func look(_ view: RolloutView, _ now: ContinuousClock.Instant) {
    let plan = RolloutPlan(view, nodes: settings.nodes, all: settings.all)
    if let problem = plan.problems.first {
      let lasts = plan.problems.contains(where: \.isLasting)
      calmSince = nil
      if lasts || now - beganAt >= settings.patience { return end(.refused(plan.problems)) }
      return wait(for: "begin", .waits(problem.text), now)
    }
    calmSince = calmSince ?? now
    let isToBegin = !plan.restart.isEmpty && !settings.isDryRun
    if isToBegin, let since = calmSince, now - since < settings.calm { return }
    waiting = nil
    current = plan.current
    out.append(.say(.plan(plan)))
    if plan.restart.isEmpty { return end(.nothingToDo) }
    pending = plan.restart
    roster = Set(view.names)
    if settings.isDryRun { return end(.planned) }
    patient = plan.patient
    census.expect(view)
  }

  // MARK: Restarting

  private mutating func roll(_ view: RolloutView, _ now: ContinuousClock.Instant) {
    for name in underWay.keys.sorted() where ending == nil { judge(name, view, now) }
    if ending == nil { choose(view, now) }
  }

  private mutating func judge(
    _ name: String, _ view: RolloutView, _ now: ContinuousClock.Instant
  ) {
    guard var node = underWay[name] else { return }
    if let seen = view.nodes[name], seen.incarnation != node.former.incarnation {
      if let life = node.life, life != seen.incarnation {
        return end(.stopped(name, "it has ended and begun again by itself: it does not stay"))
      }
      node.life = seen.incarnation
    }
    let trouble = trouble(of: name, node, view)
    if let trouble {
      node.wellSince = nil
      if trouble.kind != node.trouble?.kind { out.append(.say(.waitsFor(name, trouble))) }
      if now - node.toldAt >= settings.within { return end(.stopped(name, trouble.text)) }
      if !node.isSure, now - node.toldAt >= RolloutMachine.tellAgain, trouble == .notEnded {
        node.isSure = true
        out.append(.restart(name, incarnation: node.former.incarnation))
      }
    } else {
      if node.wellSince == nil { out.append(.say(.well(name, missing: census.missing(view)))) }
      node.wellSince = node.wellSince ?? now
    }
    node.trouble = trouble
    underWay[name] = node
    if let since = node.wellSince, now - since >= settings.settle, let life = node.life {
      underWay[name] = nil
      done[name] = life
      patient = nil
      out.append(.say(.done(name, took: since - node.toldAt)))
    }
  }

  private func trouble(
    of name: String, _ node: UnderWay, _ view: RolloutView
  ) -> RolloutTrouble? {
    guard let seen = view.nodes[name] else { return view.trouble(of: name) }
    if seen.incarnation == node.former.incarnation {
      return seen.state == "serving" ? .notEnded : .state(seen.state)
    }
    if seen.isReplaced { return .outdated(seen.program) }
    if let trouble = view.trouble(of: name) ?? view.trouble { return trouble }
    if node.former.ranges > 0, seen.ranges == 0 { return .noRanges(isPaused: view.isPaused) }
    return census.isWhole(view) ? nil : .controllers(missing: census.missing(view))
  }

  private mutating func choose(_ view: RolloutView, _ now: ContinuousClock.Instant) {
    for (name, life) in done.sorted(by: { $0.key < $1.key }) {
      if let seen = view.nodes[name], seen.incarnation != life {
        return end(.stopped(name, "it was well, and has ended and begun again by itself"))
      }
    }
    let others = roster.union(view.names).sorted().filter { underWay[$0] == nil && $0 != patient }
    let unwell = others.lazy.compactMap { name in view.trouble(of: name).map { (name, $0) } }.first
    if let (name, trouble) = unwell { return hold(name, trouble, now) }
    refresh(view)
    if let trouble = view.trouble, underWay.isEmpty, pending?.isEmpty == false {
      return hold("", trouble, now)
    }
    waiting = nil
    while let name = next(view) {
      guard let node = view.nodes[name], view.trouble == nil else { break }
      if let why = node.whyNotRestartable { return end(.stopped(name, why)) }
      if underWay.isEmpty { census.expect(view) }
      pending?.removeAll { $0 == name }
      underWay[name] = UnderWay(former: node, toldAt: now)
      out.append(.say(.restarting(name, controllers: node.controllers, ranges: node.ranges)))
      out.append(.restart(name, incarnation: node.incarnation))
    }
    if underWay.isEmpty, pending?.isEmpty == true { end(.done) }
  }

  /// Others than those under way are unwell: nothing more is begun until they are well.
  private mutating func hold(
    _ name: String, _ trouble: RolloutTrouble, _ now: ContinuousClock.Instant
  ) {
    wait(for: name + trouble.kind, .waitsFor(name, trouble), now)
    if let since = waiting?.since, now - since >= settings.within {
      end(.stopped(name, trouble.text))
    }
  }

  /// Who has come to run what is installed without being told needs no restart.
  private mutating func refresh(_ view: RolloutView) {
    guard !settings.all else { return }
    for name in pending ?? [] where view.nodes[name]?.isReplaced == false {
      pending?.removeAll { $0 == name }
      current.append(name)
      out.append(.say(.current(name)))
    }
  }

  private func next(_ view: RolloutView) -> String? {
    guard underWay.count < settings.unavailableMax, let pending else { return nil }
    if let name = pending.filter({ $0 != view.leader }).min() { return name }
    return underWay.isEmpty ? pending.first : nil
  }

  // MARK: Other events

  private mutating func lose(_ why: String, _ now: ContinuousClock.Instant) {
    for name in underWay.keys.sorted() {
      guard var node = underWay[name] else { continue }
      let trouble = RolloutTrouble.silent(
        name == asked ? why : "\(asked), which clusterctl talks to, does not answer: \(why)")
      if node.trouble?.kind != trouble.kind { out.append(.say(.waitsFor(name, trouble))) }
      node.wellSince = nil
      node.trouble = trouble
      underWay[name] = node
      if now - node.toldAt >= settings.within { return end(.stopped(name, trouble.text)) }
    }
    guard underWay.isEmpty else { return }
    let text = "\(asked), which clusterctl talks to, does not answer (\(why))"
    wait(for: "lost", .waits(text), now)
    if let since = waiting?.since, now - since >= settings.within { end(.stopped("", text)) }
  }

  private mutating func take(_ answer: Answer, of name: String) {
    switch answer {
    case .taken, .overtaken: break
    case .unknown: underWay[name]?.isSure = false
    case .refused(let why):
      // It was not touched.
      if underWay.removeValue(forKey: name) != nil { pending?.insert(name, at: 0) }
      end(.stopped(name, why))
    }
  }

  private mutating func wait(
    for kind: String, _ notice: RolloutNotice, _ now: ContinuousClock.Instant
  ) {
    guard waiting?.kind != kind else { return }
    // Since when something is waited for, whatever it is by now.
    waiting = (kind, waiting?.since ?? now)
    out.append(.say(notice))
  }

  private mutating func end(_ outcome: RolloutEnding.Outcome) {
    let ending = RolloutEnding(
      outcome: outcome, restarted: done.keys.sorted(), underWay: underWay.keys.sorted(),
      untouched: pending ?? [], current: current.sorted())
    self.ending = ending
    out.append(.end(ending))
  }
}

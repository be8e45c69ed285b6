@testable import clusterctl

/// A small cluster that a rollout looks at and has restarted; a value, in whole seconds or parts of them.
struct RolloutWorld {
  var view: RolloutView
  var now = ContinuousClock.now
  var machine: RolloutMachine
  /// Who was told to restart, in order.
  var told: [String] = []
  var notices: [RolloutNotice] = []
  var ending: RolloutEnding?

  /// It begins as soon as all are well.
  static let atOnce: RolloutMachine.Settings = {
    var settings = RolloutMachine.Settings()
    settings.calm = .zero
    return settings
  }()

  init(
    _ settings: RolloutMachine.Settings = atOnce, names: [String] = ["a", "b", "c"],
    leader: String = "a", outdated: [String]? = nil
  ) {
    self.view = RolloutView(asked: names[0], leader: leader, members: [:], nodes: [:])
    for name in names {
      self.view.members[name] = .init(incarnation: 1)
      self.view.nodes[name] = .init(incarnation: 1)
      self.view.nodes[name]?.role = name == leader ? "leader" : "member"
      self.view.nodes[name]?.ranges = 4
      self.view.nodes[name]?.controllers = 100
      self.view.nodes[name]?.isReplaced = outdated?.contains(name) ?? true
    }
    self.machine = RolloutMachine(settings, at: self.now)
  }

  /// Time passes, and then the machine hears of something. Orders to restart are taken.
  mutating func hear(
    _ event: RolloutMachine.Event, after pause: Duration = .zero,
    answer: RolloutMachine.Answer = .taken
  ) {
    self.now += pause
    var directives = self.machine.step(event, at: self.now)[...]
    while let directive = directives.popFirst() {
      switch directive {
      case .restart(let name, _):
        self.told.append(name)
        directives += self.machine.step(.answered(name, answer), at: self.now)
      case .say(let notice): self.notices.append(notice)
      case .end(let ending): self.ending = ending
      }
    }
  }

  /// The machine looks, as often as it would.
  mutating func pass(_ duration: Duration) {
    let end = self.now + duration
    while self.now < end, self.ending == nil {
      self.hear(.seen(self.view), after: .milliseconds(500))
    }
  }

  /// The process of a node ends: the cluster still knows its session.
  mutating func fall(_ name: String) {
    self.view.nodes[name] = nil
    self.view.silent[name] = "connection refused"
  }

  /// A process of a node begins, well, with the program that is installed.
  mutating func rise(_ name: String, life: UInt64 = 2, isReplaced: Bool = false) {
    self.view.silent[name] = nil
    self.view.members[name] = .init(incarnation: life)
    self.view.nodes[name] = .init(incarnation: life)
    self.view.nodes[name]?.ranges = 4
    self.view.nodes[name]?.controllers = 100
    self.view.nodes[name]?.isReplaced = isReplaced
    self.view.nodes[name]?.role = self.view.leader == name ? "leader" : "member"
  }

  /// What was said of a node, in words.
  func said(of name: String) -> [String] {
    self.notices.filter { $0.node == name }.map(\.what)
  }
}

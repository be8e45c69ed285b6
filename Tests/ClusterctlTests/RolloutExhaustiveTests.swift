import Testing

@testable import clusterctl

/// Every course that so many events can take in a cluster of three, of which two are to be restarted.
@Suite("Rollout: whatever happens")
struct RolloutExhaustiveTests {
  private enum Event: CaseIterable {
    case nothing, fallA, fallB, riseA, riseB, sickenA, sickenC, heal, lose, lead, again
  }

  private static let depth = 4

  /// A world, and what was told in it by whom.
  private struct Course {
    var world = RolloutWorld(names: ["a", "b", "c"], leader: "a", outdated: ["a", "b"])
    /// By the rollout of now: which lives it has ended.
    var told: [String: UInt64] = [:]

    mutating func take(_ event: Event) {
      switch event {
      case .nothing: break
      case .fallA: self.world.fall("a")
      case .fallB: self.world.fall("b")
      case .riseA: self.rise("a")
      case .riseB: self.rise("b")
      case .sickenA: self.world.view.nodes["a"]?.vendor = "down"
      case .sickenC: self.world.view.nodes["c"]?.redis = "down"
      case .heal: self.heal()
      case .lose: return self.hear(.lost("refused"))
      case .lead: self.world.view.leader = self.world.view.leader == "a" ? "b" : "a"
      case .again:
        if self.world.ending == nil { self.hear(.interrupted) }
        self.begin()
      }
      self.hear(.seen(self.world.view))
    }

    mutating func begin() {
      self.world.machine = RolloutMachine(RolloutWorld.atOnce, at: self.world.now)
      self.world.ending = nil
      self.told = [:]
    }

    private mutating func rise(_ name: String) {
      self.world.rise(name, life: (self.world.view.members[name]?.incarnation ?? 1) + 1)
    }

    mutating func heal() {
      for name in ["a", "b", "c"] {
        if self.world.view.nodes[name] == nil { self.rise(name) }
        self.world.view.nodes[name]?.vendor = "up"
        self.world.view.nodes[name]?.redis = "up"
      }
    }

    mutating func hear(_ event: RolloutMachine.Event) {
      let before = self.world
      self.world.hear(event, after: .milliseconds(1500))
      let told = self.world.told[before.told.count...]
      for name in told { self.check(name, before) }
      #expect(before.ending == nil || told.isEmpty, "told after the end")
      #expect(self.world.machine.underWay.count <= 1)
    }

    /// Nobody is told to restart but who should be, while all others are well.
    private mutating func check(_ name: String, _ before: RolloutWorld) {
      let view = before.view
      #expect(view.nodes[name]?.isReplaced == true)
      #expect(["a", "b", "c"].allSatisfy { view.trouble(of: $0) == nil }, "others are unwell")
      #expect(self.told[name] != view.nodes[name]?.incarnation, "told twice in one life")
      let others = ["a", "b", "c"].filter { $0 != name && view.nodes[$0]?.isReplaced == true }
      #expect(name != view.leader || others.isEmpty, "the leader before \(others)")
      self.told[name] = view.nodes[name]?.incarnation
    }

    /// All that was wrong is made right, and who was told has restarted: whatever the rollout has come to,
    /// it or the next one ends with all that is to be restarted.
    func endsWell() -> Bool {
      var course = self
      for _ in 0..<2 {
        for _ in 0..<60 where course.world.ending == nil {
          course.heal()
          for (name, life) in course.told where course.world.view.nodes[name]?.incarnation == life {
            course.rise(name)
          }
          course.hear(.seen(course.world.view))
        }
        if course.world.ending?.exit == .done { break }
        course.begin()
      }
      return course.world.ending?.exit == .done
        && course.world.view.nodes.values.allSatisfy { !$0.isReplaced }
    }
  }

  @Test(
    "none is told while another is unwell, none twice, the leader last; made well, it comes to its end"
  )
  func everyCourse() {
    var courses = 0
    func follow(_ course: Course, _ depth: Int) {
      courses += 1
      guard depth < Self.depth else {
        #expect(course.endsWell())
        return
      }
      for event in Event.allCases {
        var next = course
        next.take(event)
        follow(next, depth + 1)
      }
    }
    var first = Course()
    first.hear(.seen(first.world.view))
    #expect(first.world.told == ["b"])
    follow(first, 0)
    // And from where b is done, and the leader under way.
    for event in [.riseB, .nothing, .nothing] as [Event] { first.take(event) }
    #expect(first.world.told == ["b", "a"])
    follow(first, 0)
    #expect(courses > 30_000)
  }
}

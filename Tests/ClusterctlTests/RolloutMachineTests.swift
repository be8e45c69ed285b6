import Testing

@testable import clusterctl

@Suite("Rollout: one node after the other")
struct RolloutMachineTests {
  typealias World = RolloutWorld

  private func outcome(_ world: World) -> RolloutEnding.Outcome? { world.ending?.outcome }

  /// Restarts whoever was told to, at once and well, until the rollout has ended.
  private func finish(_ world: inout World) {
    for _ in 0..<200 where world.ending == nil {
      world.pass(.milliseconds(500))
      for name in world.told where world.view.nodes[name]?.incarnation ?? 1 == 1 {
        world.rise(name)
      }
    }
  }

  @Test("by name, the leader last, one at a time, each well for the settling time first")
  func order() {
    var world = World(leader: "b")
    world.pass(.seconds(1))
    #expect(world.told == ["a"])
    world.fall("a")
    world.pass(.seconds(2))
    #expect(world.told == ["a"] && world.said(of: "a") == ["restarting", "waiting", "waiting"])
    world.rise("a")
    world.pass(.seconds(3))
    #expect(world.told == ["a"], "it has not settled yet")
    world.pass(.seconds(1))
    #expect(world.told == ["a", "c"])
    finish(&world)
    #expect(world.told == ["a", "c", "b"] && outcome(world) == .done)
    #expect(world.ending?.restarted == ["a", "b", "c"] && world.ending?.untouched == [])
  }

  @Test("who leads is looked at when the next one is chosen")
  func leadership() {
    var world = World(leader: "c")
    world.pass(.seconds(1))
    world.rise("a")
    world.view.leader = "b"
    finish(&world)
    #expect(world.told == ["a", "c", "b"])
  }

  @Test("only those that run another program than the one installed; with --all every one")
  func outdated() {
    var world = World(outdated: ["b"])
    finish(&world)
    #expect(world.told == ["b"] && world.ending?.current == ["a", "c"])
    var settings = RolloutWorld.atOnce
    settings.all = true
    var all = World(settings, outdated: [])
    finish(&all)
    #expect(all.told == ["b", "c", "a"] && outcome(all) == .done)
    var none = World(outdated: [])
    finish(&none)
    #expect(none.told == [] && outcome(none) == .nothingToDo && none.ending?.exit == .done)
  }

  @Test("a dry run says the order, and does nothing")
  func dryRun() {
    var settings = RolloutWorld.atOnce
    settings.isDryRun = true
    var world = World(settings)
    world.pass(.seconds(1))
    #expect(world.told == [] && outcome(world) == .planned)
    #expect(world.ending?.untouched == ["b", "c", "a"])
  }

  @Test("at most so many at a time, and the leader by itself")
  func atATime() {
    var settings = RolloutWorld.atOnce
    settings.unavailableMax = 2
    var world = World(settings, names: ["a", "b", "c", "d"], leader: "b")
    world.pass(.seconds(1))
    #expect(world.told == ["a", "c"])
    world.rise("a")
    world.pass(.seconds(5))
    #expect(world.told == ["a", "c", "d"], "c is under way still")
    world.rise("c")
    world.rise("d")
    world.pass(.seconds(2))
    #expect(world.told.count == 3, "the leader waits for all others")
    finish(&world)
    #expect(world.told == ["a", "c", "d", "b"] && outcome(world) == .done)
  }

  /// What may be wrong with "b" after its restart, the word for it, and whether it is the node's.
  private static let troubles: [(String, @Sendable (inout RolloutView) -> Void)] = [
    ("does not answer", { $0.nodes["b"] = nil }),
    ("has not ended", { $0.nodes["b"]?.incarnation = 1 }),
    ("does not run what is installed", { $0.nodes["b"]?.isReplaced = true }),
    ("is starting", { $0.nodes["b"]?.state = "starting" }),
    ("fenced", { $0.nodes["b"]?.role = "fenced" }),
    ("no vendor app", { $0.nodes["b"]?.vendor = "down since 1: refused" }),
    ("no Redis", { $0.nodes["b"]?.redis = "down since 1: refused" }),
    ("unhealthy", { $0.members["b"]?.state = "unhealthy" }),
    ("not on the list", { $0.members["b"]?.isListed = false }),
    ("present life", { $0.members["b"]?.incarnation = 1 }),
    ("acts for no range", { $0.nodes["b"]?.ranges = 0 }),
    ("nobody leads", { $0.leader = "" }),
    ("3 ranges are nobody's", { $0.unserved = 3 }),
    ("100 controllers are not back", { $0.nodes["b"]?.controllers = 0 }),
  ]

  @Test(
    "whatever is not as it was ends it there after --within, with that reason; the rest is not touched"
  )
  func failures() {
    for (words, spoil) in Self.troubles {
      var world = World(leader: "a")
      world.pass(.seconds(1))
      #expect(world.told == ["b"])
      world.rise("b")
      spoil(&world.view)
      world.pass(.seconds(58))
      #expect(world.ending == nil, "\(words): too early")
      world.pass(.seconds(3))
      guard case .stopped("b", let why) = outcome(world) else {
        Issue.record("\(words): \(String(describing: world.ending))")
        continue
      }
      #expect(why.contains(words), "\(words): \(why)")
      #expect(world.told == ["b"] && world.ending?.exit == .refused)
      #expect(world.ending?.underWay == ["b"] && world.ending?.untouched == ["c", "a"])
    }
  }

  @Test("what comes right in time is no failure, and the settling time begins anew with it")
  func recovers() {
    for (words, spoil) in Self.troubles {
      var world = World(leader: "a")
      world.pass(.seconds(1))
      world.rise("b")
      world.pass(.seconds(2))
      let well = world.view
      spoil(&world.view)
      world.pass(.seconds(20))
      world.view = well
      world.pass(.seconds(3))
      #expect(world.told == ["b"], "\(words)")
      world.pass(.seconds(1))
      #expect(world.told == ["b", "c"], "\(words)")
    }
  }

  @Test("a node that begins again by itself does not stay, while it settles or after")
  func crashLoop() {
    var world = World(leader: "a")
    world.pass(.seconds(1))
    world.rise("b")
    world.pass(.seconds(2))
    world.rise("b", life: 3)
    world.pass(.seconds(1))
    guard case .stopped("b", let why) = outcome(world), why.contains("does not stay") else {
      Issue.record("\(String(describing: world.ending))")
      return
    }
    var later = World(leader: "a")
    later.pass(.seconds(1))
    later.rise("b")
    later.pass(.seconds(4))
    #expect(later.told == ["b", "c"])
    later.rise("b", life: 3)
    later.pass(.seconds(1))
    guard case .stopped("b", _) = outcome(later) else {
      Issue.record("\(String(describing: later.ending))")
      return
    }
    #expect(later.ending?.restarted == ["b"] && later.ending?.underWay == ["c"])
  }

  @Test("nothing is begun while another member is unwell or gone, and not for ever")
  func others() {
    for spoil: (inout RolloutView) -> Void in [
      { $0.nodes["a"]?.vendor = "down" }, { $0.members["a"]?.state = "dead" },
      { $0.members["a"] = nil },
    ] {
      var world = World(leader: "c")
      world.pass(.seconds(1))
      #expect(world.told == ["a"])
      world.rise("a")
      world.pass(.seconds(3))
      spoil(&world.view)
      world.pass(.seconds(30))
      #expect(world.told == ["a"] && world.ending == nil)
      world.rise("a")
      world.pass(.seconds(4))
      #expect(world.told == ["a", "b"])
      world.view.members["c"]?.state = "unhealthy"
      world.rise("b")
      world.pass(.seconds(62))
      guard case .stopped("c", _) = outcome(world) else {
        Issue.record("\(String(describing: world.ending))")
        continue
      }
      #expect(world.ending?.untouched == ["c"])
    }
  }

  @Test("the node that is asked may be away while it restarts, but not longer than any other")
  func asked() {
    var world = World(leader: "c")
    world.pass(.seconds(1))
    for _ in 0..<10 { world.hear(.lost("connection refused"), after: .milliseconds(500)) }
    world.rise("a")
    finish(&world)
    #expect(world.told == ["a", "b", "c"] && outcome(world) == .done)
    var away = World(leader: "c")
    away.pass(.seconds(1))
    while away.ending == nil { away.hear(.lost("connection refused"), after: .seconds(1)) }
    guard case .stopped("a", let why) = outcome(away) else {
      Issue.record("\(String(describing: away.ending))")
      return
    }
    #expect(why.contains("connection refused"))
  }

  @Test("an order whose answer is lost is given again as long as the same life serves")
  func orders() {
    var world = World(leader: "c")
    world.hear(.seen(world.view), answer: .unknown("timed out"))
    world.pass(.seconds(3))
    #expect(world.told == ["a", "a"])
    world.rise("a")
    world.pass(.seconds(4))
    #expect(world.told == ["a", "a", "b"])
    var overtaken = World(leader: "c")
    overtaken.hear(.seen(overtaken.view), answer: .overtaken)
    overtaken.rise("a")
    overtaken.pass(.seconds(4))
    #expect(overtaken.told == ["a", "b"])
    var refused = World(leader: "c")
    refused.hear(.seen(refused.view), answer: .refused("it runs without --parking"))
    #expect(outcome(refused) == .stopped("a", "it runs without --parking"))
    #expect(refused.ending?.untouched == ["a", "b", "c"] && refused.ending?.underWay == [])
  }

  @Test("who comes to run what is installed without being told is left out")
  func byItself() {
    var world = World(leader: "c")
    world.pass(.seconds(1))
    world.rise("a")
    world.rise("b", life: 9)
    finish(&world)
    #expect(world.told == ["a", "c"] && world.ending?.current == ["b"])
  }

  @Test("interrupted at any moment and run again, each node is restarted once, the leader last")
  func interrupted() {
    for moment in 1...40 {
      var world = World(leader: "b")
      var risen = 0
      for _ in 0..<moment {
        world.pass(.milliseconds(500))
        // A process ends and the next begins a second later.
        for name in world.told[risen...] { world.fall(name) }
        risen = world.told.count
        for name in world.told where world.view.nodes[name] == nil && moment % 2 == 0 {
          world.rise(name)
        }
      }
      world.hear(.interrupted)
      #expect(outcome(world) == .interrupted || outcome(world) == .done)
      for name in world.told where world.view.nodes[name] == nil { world.rise(name) }
      let first = world.told
      var again = World(leader: "b")
      again.view = world.view
      finish(&again)
      #expect(again.ending?.exit == .done)
      let all = first + again.told
      #expect(all.count == 3 && Set(all).count == 3 && all.last == "b", "\(moment): \(all)")
    }
  }
}

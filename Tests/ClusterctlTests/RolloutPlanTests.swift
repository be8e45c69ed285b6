import DriverProtocol
import SwiftProtobuf
import Testing

@testable import clusterctl

@Suite("Rollout: whether to begin")
struct RolloutPlanTests {
  private func refusal(_ world: RolloutWorld) -> [String]? {
    guard case .refused(let problems) = world.ending?.outcome else { return nil }
    return problems.map(\.text)
  }

  private func plan(_ world: RolloutWorld, nodes: [String] = []) -> RolloutPlan {
    RolloutPlan(world.view, nodes: nodes, all: false)
  }

  @Test(
    "what is over in a moment is waited for, what is not over by then is named, with what to do")
  func patience() {
    let spoils: [(String, (inout RolloutView) -> Void)] = [
      (
        "b is draining in the cluster's eyes: clusterctl undrain",
        { $0.members["b"]?.state = "draining" }
      ),
      (
        "b is dead",
        {
          $0.members["b"]?.state = "dead"
          $0.nodes["b"] = nil
        }
      ),
      (
        "b is missing",
        {
          $0.members["b"]?.state = "missing"
          $0.nodes["b"] = nil
        }
      ),
      ("b has no vendor app", { $0.nodes["b"]?.vendor = "down since 1: refused" }),
      ("b has no Redis", { $0.nodes["b"]?.redis = "down since 1: refused" }),
      ("b does not answer", { $0.nodes["b"] = nil }),
      ("1 ranges are nobody's", { $0.unserved = 1 }),
      ("nobody leads", { $0.leader = "" }),
    ]
    for (words, spoil) in spoils {
      var world = RolloutWorld()
      let well = world.view
      spoil(&world.view)
      world.pass(.seconds(4))
      #expect(world.ending == nil && world.told == [], "\(words)")
      var passing = world
      passing.view = well
      passing.pass(.seconds(1))
      #expect(passing.told == ["b"], "\(words)")
      world.pass(.seconds(2))
      #expect(
        refusal(world)?.first?.hasPrefix(words) == true,
        "\(words): \(String(describing: world.ending))")
      #expect(world.told == [] && world.ending?.exit == .refused)
    }
  }

  @Test(
    "the first is told when all have been well for a while; a dry run, and nothing to do, need no while"
  )
  func calm() {
    var world = RolloutWorld(.init())
    world.pass(.seconds(1))
    #expect(world.told == [] && world.ending == nil)
    let well = world.view
    world.view.members["c"]?.state = "draining"
    world.pass(.milliseconds(500))
    world.view = well
    world.pass(.seconds(1))
    #expect(world.told == [])
    world.pass(.milliseconds(500))
    #expect(world.told == ["b"])
    var settings = RolloutMachine.Settings()
    settings.isDryRun = true
    for (settings, outdated) in [(settings, ["a"]), (.init(), [])] {
      var quick = RolloutWorld(settings, outdated: outdated)
      quick.hear(.seen(quick.view))
      #expect(quick.ending?.exit == .done)
    }
  }

  @Test("what will not be over in a moment is refused at once, all of it")
  func lasting() {
    var settings = RolloutWorld.atOnce
    settings.nodes = ["a", "b", "x"]
    var world = RolloutWorld(settings)
    world.view.removed = ["d"]
    world.view.nodes["b"]?.whyNotRestartable = "it runs without --parking"
    world.pass(.milliseconds(500))
    let said = refusal(world) ?? []
    #expect(said.count == 3, "\(said)")
    #expect(
      said.contains { $0.hasPrefix("x is no member of the cluster: its members are a, b, c") })
    #expect(said.contains { $0.hasPrefix("b cannot be restarted: it runs without --parking") })
    #expect(said.contains { $0.contains("clusterctl forget d") })
  }

  @Test("who cannot be restarted and need not be is no reason to refuse")
  func notConcerned() {
    var world = RolloutWorld(outdated: ["a", "b"])
    world.view.nodes["c"]?.whyNotRestartable = "it runs without --parking"
    #expect(plan(world).problems == [] && plan(world).restart == ["b", "a"])
    #expect(plan(world, nodes: ["b"]).left == ["a"])
  }

  @Test(
    "the only node that is unwell may be restarted by itself onto what is installed, and this is said"
  )
  func patient() {
    var world = RolloutWorld(outdated: ["b", "c"])
    world.view.nodes["b"]?.vendor = "down since 1: refused"
    world.view.members["b"]?.state = "unhealthy"
    world.view.nodes["b"]?.ranges = 0
    #expect(plan(world).problems.first?.text.contains("clusterctl rollout --node b") == true)
    var settings = RolloutWorld.atOnce
    settings.nodes = ["b"]
    var alone = RolloutWorld(settings, outdated: ["b", "c"])
    alone.view = world.view
    alone.pass(.seconds(1))
    #expect(alone.told == ["b"])
    alone.rise("b")
    alone.pass(.seconds(4))
    #expect(alone.ending?.outcome == .done)
    // Not with another one that is unwell, and not one that drains.
    world.view.nodes["a"]?.redis = "down"
    #expect(plan(world, nodes: ["b"]).problems.count == 2)
    var draining = RolloutWorld(outdated: ["b"])
    draining.view.members["b"]?.state = "draining"
    #expect(plan(draining, nodes: ["b"]).problems.count == 1)
  }

  @Test("a node that was stopped for good, and is on no list, is none of the cluster's")
  func stopped() {
    let view = RolloutView(
      .with {
        $0.nodeID = "a"
        $0.members = [
          .with {
            $0.nodeID = "a"
            $0.state = "alive"
            $0.listed = true
          },
          .with {
            $0.nodeID = "b"
            $0.state = "stopped"
          },
          .with {
            $0.nodeID = "c"
            $0.state = "alive"
          },
          .with {
            $0.nodeID = "d"
            $0.state = "dead"
            $0.listed = true
          },
        ]
      })
    #expect(view.names == ["a", "c", "d"])
  }

  @Test(
    "controllers that hang up are not waited for, wherever ranges have moved; those that were lost are"
  )
  func census() {
    var world = RolloutWorld(leader: "a")
    world.view.nodes["a"]?.left = 40
    world.pass(.seconds(1))
    #expect(world.told == ["b"])
    world.rise("b")
    // 30 have moved to c, of whose controllers 5 have hung up; 2 have done so at b since it began.
    world.view.nodes["b"]?.controllers = 68
    world.view.nodes["b"]?.left = 2
    world.view.nodes["c"]?.controllers = 125
    world.view.nodes["c"]?.left = 5
    var lost = world
    world.pass(.seconds(4))
    #expect(world.told == ["b", "c"])
    lost.view.nodes["b"]?.controllers = 60
    lost.pass(.seconds(5))
    #expect(lost.told == ["b"])
    #expect(lost.notices.contains(.waitsFor("b", .controllers(missing: 8))), "\(lost.notices)")
  }
}

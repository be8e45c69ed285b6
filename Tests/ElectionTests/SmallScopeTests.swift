import Election
import Foundation
import Testing

/// Every sequence of events, to a length, from places where it is dangerous. ELECTION_DEPTH=1 in the
/// environment makes all sequences longer by one, and takes some minutes.
@Suite("Small scope")
struct SmallScopeTests {
  typealias World = SmallWorld

  private static let deeper =
    ProcessInfo.processInfo.environment["ELECTION_DEPTH"].flatMap { Int($0) } ?? 0

  struct Letter: Sendable {
    var name: String
    var happens: @Sendable (inout World) throws -> Void
  }

  private static func passing(
    _ name: String, _ a: World.Cut = World.Cut(), _ b: World.Cut = World.Cut()
  ) -> Letter {
    Letter(name: name) { try $0.pass([a, b]) }
  }

  /// What can be the matter for one round, or happen between two.
  static let rounds: [Letter] = [
    passing("a round"),
    passing("a round, node-a cut from the store", World.Cut(toStore: true)),
    passing("a round, node-a hears nothing of the store", World.Cut(fromStore: true)),
    passing("a round, node-a cut off", World.Cut(toStore: true, peer: true)),
    passing("a round, node-a stopped", World.Cut(isPaused: true)),
    passing("a round, node-b cut from the store", World.Cut(), World.Cut(toStore: true)),
    passing("a round without a store", World.Cut(toStore: true), World.Cut(toStore: true)),
    Letter(name: "node-a restarts") {
      $0.crash(0)
      try $0.start(0)
    },
    Letter(name: "node-b restarts") {
      $0.crash(1)
      try $0.start(1)
    },
    Letter(name: "the store is emptied") { $0.emptyStore() },
    Letter(name: "the store fails over") { $0.failOver() },
  ]

  /// What can be done with single messages.
  static let messages: [Letter] = [
    Letter(name: "deliver the first") { if !$0.mail.isEmpty { try $0.deliver(0) } },
    Letter(name: "deliver the second") { if $0.mail.count > 1 { try $0.deliver(1) } },
    Letter(name: "lose the first") { if !$0.mail.isEmpty { $0.lose(0) } },
    Letter(name: "lose the second") { if $0.mail.count > 1 { $0.lose(1) } },
    Letter(name: "time passes") { try $0.tick() },
    Letter(name: "node-a restarts") {
      $0.crash(0)
      try $0.start(0)
    },
    Letter(name: "the store is emptied") { $0.emptyStore() },
  ]

  /// node-a owns everything and leads, node-b is a member.
  private static func settled() throws -> World {
    var world = World()
    try world.start(0)
    for _ in 0..<8 { try world.pass() }
    try world.start(1)
    for _ in 0..<8 { try world.pass() }
    #expect(world.nodes[0]?.acting == [piece(1, everything, 1)])
    #expect(world.store.list.nodes == World.names)
    return world
  }

  struct Place: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var reach: @Sendable (inout World) throws -> Void
  }

  static let places: [Place] = [
    Place(testDescription: "all is well") { _ in },
    Place(testDescription: "node-a is about to lose its ranges") {
      for _ in 0..<3 { try $0.pass([World.Cut(toStore: true, peer: true), World.Cut()]) }
    },
    Place(testDescription: "node-a has just lost them") {
      for _ in 0..<5 { try $0.pass([World.Cut(toStore: true, peer: true), World.Cut()]) }
    },
    Place(testDescription: "node-a holds by promises") {
      for _ in 0..<5 { try $0.pass([World.Cut(toStore: true), World.Cut(toStore: true)]) }
    },
    Place(testDescription: "node-a is being emptied") {
      try $0.tell(0, .status(MemberStatus(draining: true)))
    },
    Place(testDescription: "the store has been emptied, and node-b knows first") {
      try $0.pass([World.Cut(toStore: true), World.Cut()])
      $0.emptyStore()
      try $0.pass([World.Cut(toStore: true), World.Cut()])
    },
    Place(testDescription: "node-a dies") {
      $0.crash(0)
      for _ in 0..<4 { try $0.pass() }
    },
  ]

  /// Tries every sequence; returns how many different states were seen at each length. Every so often
  /// it sees whether all ends well from there.
  private func explore(
    from root: World, _ letters: [Letter], length: Int, endEvery: Int
  ) throws -> [Int] {
    var frontier: [(world: World, path: [Int])] = [(root, [])]
    var counts: [Int] = []
    for depth in 1...length {
      var next: [(world: World, path: [Int])] = []
      var known: [Int: [Int]] = [:]
      for (world, path) in frontier {
        for i in letters.indices {
          var after = world
          do { try letters[i].happens(&after) } catch {
            throw SmallWorld.Broken(
              description: (path + [i]).map { letters[$0].name }.joined(separator: "; ")
                + ": \(error)")
          }
          // What changed nothing has been tried already.
          if after == world { continue }
          let digest = after.digest
          if known[digest, default: []].contains(where: { next[$0].world == after }) { continue }
          known[digest, default: []].append(next.count)
          next.append((after, path + [i]))
        }
      }
      counts.append(next.count)
      frontier = next
      if depth < length { continue }
      for index in stride(from: 0, to: next.count, by: endEvery) {
        try endsWell(next[index].world, next[index].path.map { letters[$0].name })
      }
    }
    return counts
  }

  private func endsWell(_ world: World, _ path: [String]) throws {
    var world = world
    for i in 0...1 where world.nodes[i] == nil { try world.start(i) }
    for _ in 0..<20 { try world.pass() }
    #expect(world.isServed(), "nobody acts in the end: \(path.joined(separator: "; "))")
  }

  @Test(
    "every sequence of 3 rounds and mishaps: never two that act, epochs never fall, all ends well",
    arguments: places)
  func everyRound(_ place: Place) throws {
    var root = try Self.settled()
    try place.reach(&root)
    let counts = try explore(from: root, Self.rounds, length: 3 + Self.deeper, endEvery: 40)
    print("\(place.testDescription): \(counts) states")
    #expect(counts.last! > 150, "suspiciously few states: \(counts)")
  }

  @Test(
    "every sequence of 6 fates of single messages: never two that act, epochs never fall",
    arguments: places)
  func everyMessage(_ place: Place) throws {
    var root = try Self.settled()
    try place.reach(&root)
    let counts = try explore(from: root, Self.messages, length: 6 + Self.deeper, endEvery: 200)
    print("\(place.testDescription): \(counts) states")
    #expect(counts.last! > 800, "suspiciously few states: \(counts)")
  }
}

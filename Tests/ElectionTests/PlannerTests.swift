import Election
import Testing

@Suite("Planner")
struct PlannerTests {
  private let planner = Planner()

  private func members(_ n: Int) -> [Planner.Member] {
    (0..<n).map { .init(id: NodeID("n\($0)")) }
  }

  private func ranges(_ owners: [Int?], weights: [UInt64]? = nil) -> [Planner.Range] {
    owners.enumerated().map { i, owner in
      .init(
        first: Serial(UInt64(i) + 1), weight: weights?[i] ?? 1,
        owner: owner.map { NodeID("n\($0)") })
    }
  }

  /// The ranges with the plan carried out.
  private func applied(_ plan: Planner.Plan, to ranges: [Planner.Range]) -> [Planner.Range] {
    var to: [Serial: NodeID] = [:]
    for claim in plan.claims { to[claim.range] = claim.to }
    for move in plan.moves {
      #expect(to[move.range] == nil, "range \(move.range) is given away twice")
      to[move.range] = move.to
    }
    return ranges.map { range in
      var range = range
      range.owner = to[range.first] ?? range.owner
      return range
    }
  }

  private func loads(_ ranges: [Planner.Range], _ members: [Planner.Member]) -> [Double] {
    members.map { member in
      ranges.filter { $0.owner == member.id }.reduce(0) { $0 + Double($1.weight) }
    }
  }

  @Test("ranges without an owner are claimed, evenly")
  func fresh() {
    let all = ranges(Array(repeating: nil, count: 12))
    let plan = planner.plan(members: members(4), ranges: all)
    #expect(plan.moves.isEmpty)
    #expect(loads(applied(plan, to: all), members(4)) == [3, 3, 3, 3])
  }

  @Test("with nobody who may own, nothing is planned")
  func nobody() {
    var gone = members(2)
    gone[0].healthy = false
    gone[1].draining = true
    let plan = planner.plan(members: gone, ranges: ranges([0, 1]))
    #expect(plan == Planner.Plan(claims: [], moves: [], successors: [[], []]))
  }

  @Test(
    "equal weights, every placement of up to 7 ranges on 3 members: moves ≤ fewest possible + 1")
  func leastMovement() {
    for count in 1...7 {
      var placement = Array(repeating: 0, count: count)
      repeat {
        let all = ranges(placement.map { $0 })
        let plan = planner.plan(members: members(3), ranges: all)
        let before = loads(all, members(3))
        // Fewest moves to any balanced placement: what lies above the shares, the largest of which go to
        // the fullest.
        let shares = (0..<3).map { Double((count + $0) / 3) }.sorted()
        let fewest = zip(before.sorted(), shares).reduce(0.0) { $0 + max(0, $1.0 - $1.1) }
        #expect(Double(plan.moves.count) <= fewest + 1)
        let after = loads(applied(plan, to: all), members(3))
        #expect(after.max()! <= shares.max()! + 1)
      } while next(&placement, below: 3)
    }
  }

  /// Counts `digits` up in base `below`; false after the last.
  private func next(_ digits: inout [Int], below: Int) -> Bool {
    for i in digits.indices {
      digits[i] += 1
      if digits[i] < below { return true }
      digits[i] = 0
    }
    return false
  }

  @Test("weighted: nobody ends above its share by more than the threshold or one range")
  func weightedBalance() {
    var random = SplitMix(seed: 11)
    for _ in 0..<2_000 {
      let n = Int(random.next() % 6) + 1
      let count = Int(random.next() % 40) + 1
      var who = members(n)
      for i in who.indices { who[i].capacity = Double(random.next() % 4 + 1) }
      let weights = (0..<count).map { _ in random.next() % 100 + 1 }
      let owners = (0..<count).map { _ in
        random.next() % 4 == 0 ? nil : Int(random.next() % UInt64(n))
      }
      let all = ranges(owners, weights: weights)
      let plan = planner.plan(members: who, ranges: all)
      let after = applied(plan, to: all)
      let total = Double(weights.reduce(0, +))
      let capacity = who.reduce(0) { $0 + $1.capacity }
      for (member, load) in zip(who, loads(after, who)) {
        let share = total * member.capacity / capacity
        #expect(load <= share + max(share * planner.threshold, Double(weights.max()!)) + 1e-9)
      }
      #expect(after.allSatisfy { $0.owner != nil })
      // A plan that was carried out leaves nothing to plan.
      let again = planner.plan(members: who, ranges: after)
      #expect(again.claims.isEmpty && again.moves.isEmpty)
    }
  }

  @Test("the order members and ranges are given in makes no difference")
  func orderless() {
    var random = SplitMix(seed: 3)
    for _ in 0..<200 {
      var who = members(5)
      var all = ranges(
        (0..<30).map { _ in Int(random.next() % 7) },
        weights: (0..<30).map { _ in random.next() % 5 + 1 })
      let plan = planner.plan(members: who, ranges: all)
      let bySerial = Dictionary(
        uniqueKeysWithValues: zip(all.map(\.first), plan.successors))
      for i in stride(from: all.count - 1, to: 0, by: -1) {
        all.swapAt(i, Int(random.next() % UInt64(i + 1)))
      }
      who.reverse()
      let shuffled = planner.plan(members: who, ranges: all)
      #expect(shuffled.claims == plan.claims)
      #expect(shuffled.moves == plan.moves)
      #expect(shuffled.successors == all.map { bySerial[$0.first]! })
    }
  }

  @Test("a member that joins N others is given at most ⌈R/(N+1)⌉ ranges, and only it is given any")
  func join() {
    for n in 1...8 {
      for count in [1, 5, 8, 17, 64, 100] {
        let all = ranges(Array(repeating: nil, count: count))
        let settled = applied(planner.plan(members: members(n), ranges: all), to: all)
        let plan = planner.plan(members: members(n + 1), ranges: settled)
        #expect(plan.moves.count <= (count + n) / (n + 1))
        #expect(plan.moves.allSatisfy { $0.to == NodeID("n\(n)") })
        #expect(plan.claims.isEmpty)
      }
    }
  }

  @Test("a member that leaves costs no moves but its own")
  func leave() {
    var random = SplitMix(seed: 5)
    for n in 2...8 {
      for count in [1, 5, 8, 17, 64, 100] {
        let all = ranges(
          Array(repeating: nil, count: count),
          weights: (0..<count).map { _ in random.next() % 9 + 1 })
        let settled = applied(planner.plan(members: members(n), ranges: all), to: all)
        let gone = NodeID("n\(random.next() % UInt64(n))")
        let plan = planner.plan(members: members(n).filter { $0.id != gone }, ranges: settled)
        #expect(plan.moves.isEmpty)
        #expect(
          Set(plan.claims.map(\.range)) == Set(settled.filter { $0.owner == gone }.map(\.first)))
      }
    }
  }

  @Test("a draining member hands over all it has, and is given nothing")
  func drain() {
    var who = members(3)
    who[1].draining = true
    let all = ranges([0, 1, 1, 2, 1, nil])
    let plan = planner.plan(members: who, ranges: all)
    #expect(plan.moves.count == 3)
    #expect(plan.moves.allSatisfy { $0.from == NodeID("n1") && $0.reason == .drain })
    #expect(applied(plan, to: all).allSatisfy { $0.owner != NodeID("n1") })
    #expect(plan.successors.allSatisfy { !$0.contains(NodeID("n1")) })
  }

  @Test("one that is not healthy hands over what it has, as one that drains does")
  func unhealthy() {
    var who = members(3)
    who[1].healthy = false
    let all = ranges([0, 1, 1, 2])
    let plan = planner.plan(members: who, ranges: all)
    who[1] = members(3)[1]
    who[1].draining = true
    #expect(plan == planner.plan(members: who, ranges: all))
    #expect(plan.moves.count == 2 && plan.claims.isEmpty)
  }

  @Test("differences within the threshold move nothing")
  func threshold() {
    let owners = (0..<200).map { $0 < 105 ? 0 : 1 }
    #expect(planner.plan(members: members(2), ranges: ranges(owners)).moves.isEmpty)
    let worse = (0..<200).map { $0 < 115 ? 0 : 1 }
    #expect(planner.plan(members: members(2), ranges: ranges(worse)).moves.count == 15)
  }

  @Test("of two equally good members the one with the newer version is taken")
  func version() {
    var who = members(3)
    who[2].version = 2
    let plan = planner.plan(members: who, ranges: ranges([nil]))
    #expect(plan.claims.map(\.to) == [NodeID("n2")])
  }

  @Test("the successors of each owner's ranges are spread evenly over all the others")
  func successorsSpread() {
    let who = members(5)
    let all = ranges((0..<100).map { $0 % 5 })
    let plan = planner.plan(members: who, ranges: all)
    for owner in who.map(\.id) {
      var heirs: [NodeID: Int] = [:]
      for (range, list) in zip(all, plan.successors) where range.owner == owner {
        #expect(list.count == 2 && Set(list).count == 2 && !list.contains(owner))
        heirs[list[0], default: 0] += 1
      }
      #expect(heirs.count == 4 && heirs.values.allSatisfy { $0 == 5 })
    }
  }
}

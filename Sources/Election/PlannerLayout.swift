extension Planner {
  /// Who owns what while a plan is being made.
  struct Layout {
    /// Those that may own, by id.
    let members: [Member]
    /// By first serial.
    let ranges: [Range]
    /// Index of the owner of each range, -1 while it has none.
    private(set) var owner: [Int]
    private var load: [Double]
    /// What each member would carry if weight were liquid.
    private let share: [Double]
    private let heaviest: Double

    init(members given: [Member], ranges given_: [Range]) {
      var byID: SortedMap<NodeID, Member> = [:]
      for member in given where member.mayOwn && !byID.contains(member.id) {
        byID[member.id] = member
      }
      members = byID.values
      ranges = given_.sorted { $0.first < $1.first }
      owner = ranges.map { $0.owner.flatMap(byID.index) ?? -1 }
      load = Array(repeating: 0, count: members.count)
      var total = 0.0
      var most = 0.0
      for (i, range) in ranges.enumerated() {
        let weight = Layout.weight(range)
        total += weight
        most = max(most, weight)
        if owner[i] >= 0 { load[owner[i]] += weight }
      }
      heaviest = most
      let capacity = members.reduce(0) { $0 + $1.capacity }
      share = members.map { total * $0.capacity / capacity }
    }

    static func weight(_ range: Range) -> Double { Double(max(range.weight, 1)) }

    func move(_ range: Int, from: NodeID, to: NodeID, reason: Reason) -> Move {
      Move(
        range: ranges[range].first, from: from, to: to, weight: ranges[range].weight, reason: reason
      )
    }

    /// Gives every range without an owner to the member that is then least loaded for its capacity, the
    /// heaviest first, and returns them in that order.
    mutating func placeOrphans() -> [Int] {
      let orphans = ranges.indices.filter { owner[$0] < 0 }
        .sorted { (ranges[$1].weight, ranges[$0].first) < (ranges[$0].weight, ranges[$1].first) }
      for range in orphans {
        let weight = Layout.weight(ranges[range])
        var best = 0
        for candidate in members.indices.dropFirst() {
          let a = (load[candidate] + weight) / members[candidate].capacity
          let b = (load[best] + weight) / members[best].capacity
          if a < b || (a == b && members[candidate].version > members[best].version) {
            best = candidate
          }
        }
        owner[range] = best
        load[best] += weight
      }
      return orphans
    }

    /// Moves ranges from members above their share to members below, when any is off by more than the
    /// threshold and one range; returns (range, former owner) in the order that relieves most first.
    ///
    /// Each move takes the heaviest range that neither leaves its owner below its share nor lifts the
    /// receiver above its own, so that few heavy moves are made rather than many light ones. Where no
    /// range fits and one of the two is off by more than its slack, the lightest goes if that lessens the
    /// larger of the two differences. A range moves at most once.
    mutating func balance(threshold: Double) -> [(range: Int, from: Int)] {
      let slack = members.indices.map { max(share[$0] * threshold, heaviest) }
      guard members.indices.contains(where: { abs(load[$0] - share[$0]) > slack[$0] }) else {
        return []
      }
      var held = heldByWeight()
      var exhausted = Set<Int>()
      var moves: [(range: Int, from: Int)] = []
      while let donor = mostAbove(except: exhausted), let receiver = mostBelow() {
        let excess = load[donor] - share[donor]
        let deficit = share[receiver] - load[receiver]
        let place: Int
        if let fit = heaviestFit(held[donor], room: min(excess, deficit)) {
          place = fit
        } else if excess > slack[donor] || deficit > slack[receiver],
          let lightest = held[donor].first, Layout.weight(ranges[lightest]) < excess + deficit
        {
          place = 0
        } else {
          exhausted.insert(donor)
          continue
        }
        let range = held[donor].remove(at: place)
        let weight = Layout.weight(ranges[range])
        load[donor] -= weight
        load[receiver] += weight
        owner[range] = receiver
        moves.append((range, donor))
      }
      return moves
    }

    /// Each member's ranges, the lightest first.
    private func heldByWeight() -> [[Int]] {
      var held = members.map { _ in [Int]() }
      for range in ranges.indices.sorted(by: {
        (ranges[$0].weight, ranges[$0].first) < (ranges[$1].weight, ranges[$1].first)
      }) {
        held[owner[range]].append(range)
      }
      return held
    }

    private func mostAbove(except exhausted: Set<Int>) -> Int? {
      var most: Int?
      for i in members.indices where load[i] > share[i] && !exhausted.contains(i) {
        if most.map({ (load[i] - share[i]) > (load[$0] - share[$0]) }) ?? true { most = i }
      }
      return most
    }

    private func mostBelow() -> Int? {
      var most: Int?
      for i in members.indices where load[i] < share[i] {
        guard let best = most else {
          most = i
          continue
        }
        let a = share[i] - load[i]
        let b = share[best] - load[best]
        if a > b || (a == b && members[i].version > members[best].version) { most = i }
      }
      return most
    }

    /// Place of the heaviest of `held` (sorted, lightest first) that weighs at most `room`.
    private func heaviestFit(_ held: [Int], room: Double) -> Int? {
      var low = 0
      var high = held.count
      while low < high {
        let middle = (low + high) / 2
        if Layout.weight(ranges[held[middle]]) <= room { low = middle + 1 } else { high = middle }
      }
      return low == 0 ? nil : low - 1
    }

    /// For each range of `order`, the members that follow its owner: at each rank the one that would
    /// inherit least from that owner so far, for its capacity.
    func successors(count: Int, of order: [Range]) -> [[NodeID]] {
      let ranks = min(count, members.count - 1)
      guard ranks > 0 else { return order.map { _ in [] } }
      // By owner, by rank, by candidate.
      var inherited = Array(repeating: 0.0, count: members.count * ranks * members.count)
      var lists: SortedMap<Serial, [NodeID]> = [:]
      let capacity = members.map(\.capacity)
      var taken: [Int] = []
      for (i, range) in ranges.enumerated() {
        taken.removeAll(keepingCapacity: true)
        taken.append(owner[i])
        for rank in 0..<ranks {
          let row = (owner[i] * ranks + rank) * members.count
          var best = -1
          for candidate in capacity.indices where !taken.contains(candidate) {
            if best < 0
              || inherited[row + candidate] / capacity[candidate]
                < inherited[row + best] / capacity[best]
            {
              best = candidate
            }
          }
          inherited[row + best] += Layout.weight(range)
          taken.append(best)
        }
        lists[range.first] = taken.dropFirst().map { members[$0].id }
      }
      return order.map { lists[$0.first] ?? [] }
    }
  }
}

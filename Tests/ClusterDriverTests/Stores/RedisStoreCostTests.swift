import Election
import RedisLink
import Testing

@testable import ClusterDriver

/// Prints what calls cost Redis; holds only that a heartbeat is one command.
@Suite("What the store costs Redis", .serialized)
struct RedisStoreCostTests {
  private let owners = (1...5).map { Owner(NodeID("10.0.0.\($0):5001"), Incarnation(1 << 60)) }

  private struct Cost {
    var calls = 0
    /// Of the script, by the clock: what runs beside it counts, too.
    var script = 0.0
    /// Of the server's main thread, protocol and socket included.
    var cpu = 0.0

    static func += (sum: inout Cost, cost: Cost) {
      sum = Cost(
        calls: sum.calls + cost.calls, script: sum.script + cost.script, cpu: sum.cpu + cost.cpu)
    }
  }

  private func info(_ link: RedisLink, _ section: String) async throws -> [String: String] {
    let text = try await link.send(RedisCommand("INFO", .string(section))).string ?? ""
    let pairs = text.split(separator: "\r\n").compactMap { line -> (String, String)? in
      let pair = line.split(separator: ":", maxSplits: 1)
      return pair.count == 2 ? (String(pair[0]), String(pair[1])) : nil
    }
    return Dictionary(uniqueKeysWithValues: pairs)
  }

  private func cost(_ link: RedisLink, of name: String) async throws -> Cost {
    var cost = Cost()
    for field in try await info(link, "commandstats")["cmdstat_\(name)"]?.split(separator: ",")
      ?? []
    {
      let pair = field.split(separator: "=")
      if pair[0] == "calls" { cost.calls = Int(pair[1]) ?? 0 }
      if pair[0] == "usec" { cost.script = Double(pair[1]) ?? 0 }
    }
    let cpu = try await info(link, "cpu")
    for name in ["used_cpu_user_main_thread", "used_cpu_sys_main_thread"] {
      cost.cpu += (Double(cpu[name] ?? "") ?? 0) * 1e6
    }
    return cost
  }

  private func measure(_ link: RedisLink, _ body: () async throws -> Void) async throws -> Cost {
    _ = try await link.send(RedisCommand("CONFIG", "RESETSTAT"))
    let before = try await cost(link, of: "evalsha").cpu
    try await body()
    var cost = try await cost(link, of: "evalsha")
    cost.cpu -= before
    return cost
  }

  @Test("a heartbeat is one command, however many ranges there are", arguments: [0, 1000, 10_000])
  func heartbeat(_ count: Int) async throws {
    let server = try StoreServer()
    let (store, link, keys) = try server.store()
    defer { link.close() }
    let list = MemberList(
      number: 5, added: Dictionary(uniqueKeysWithValues: owners.map { ($0.node, 1) }))
    var counter: UInt64 = 0
    func beat(
      _ owner: Owner, since: StoreView?, loads: [Serial: RangeLoad] = [:]
    ) async throws -> StoreView {
      counter += 1
      let reply = try await store.run(
        .heartbeat(
          StoreCall.Heartbeat(
            owner: owner, counter: counter, list: list, since: since?.version ?? 0,
            identity: since?.identity, loads: loads)), for: nil)
      guard case .view(let view) = reply else { throw StoreFailure.damaged("no view") }
      return view
    }
    var view = try await beat(owners[0], since: nil)
    for owner in owners { view = try await beat(owner, since: nil) }
    var asserted = Cost()
    let step = UInt64.max / UInt64(max(count, 1))
    for (n, owner) in owners.enumerated() where count > 0 {
      let own = (0..<count).filter { $0 % 5 == n }.map {
        piece(UInt64($0) * step + 1, (UInt64($0) + 1) * step, 1)
      }
      let cost = try await measure(link) {
        _ = try await store.run(.assert(owner, own), for: view.identity)
      }
      asserted += cost
    }
    view = try await beat(owners[0], since: nil)
    #expect(view.ranges.count == count)
    let wholeView = try await measure(link) { _ = try await beat(owners[0], since: nil) }
    let rounds = 400
    let atRest = try await measure(link) {
      for n in 0..<rounds { view = try await beat(owners[n % 5], since: view) }
    }
    #expect(atRest.calls == rounds)
    #expect(try await cost(link, of: "eval").calls == 0)
    let infos = try await cost(link, of: "info")
    let loads = Dictionary(
      uniqueKeysWithValues: view.ranges.filter { $0.owner == owners[0] }.prefix(20).map {
        ($0.first, RangeLoad(weight: 99))
      })
    let changing = try await measure(link) {
      view = try await beat(owners[0], since: view, loads: loads)
    }
    #expect(view.ranges.count == loads.count)
    let size = try await link.send(
      RedisCommand("MEMORY", "USAGE", .string(keys[1]), "SAMPLES", "0"))
    func text(_ cost: Cost) -> String {
      let calls = Double(max(cost.calls, 1))
      return "\((cost.script / calls).rounded()) µs (CPU \((cost.cpu / calls).rounded()) µs)"
    }
    print(
      """
      store cost, 5 nodes, \(count) ranges: heartbeat at rest \(text(atRest)), \
      of which INFO \((infos.script / Double(rounds) * 10).rounded() / 10) µs; \
      with 20 loads \(text(changing)); whole view \(text(wholeView)); \
      assertion of a fifth \(text(asserted)); ranges \(size.int64 ?? 0) bytes
      """)
  }
}

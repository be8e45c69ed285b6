import DriverProtocol
import Foundation
import GRPCCore
import GRPCNGHTTP2
import SwiftProtobuf
import Testing

@testable import clusterctl

/// A node that knows two controllers, refuses every command for serial 2, and tails three events.
private struct TwoControllers: Clusterdriver_V1_DriverAdmin.SimpleServiceProtocol {
  func getNode(
    request: Clusterdriver_V1_GetNodeRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    .with {
      $0.nodeID = "door-1:5001"
      $0.state = "serving"
      $0.role = "member"
      $0.controllers = 2
      $0.redis = "up"
      $0.vendor = "down since 3 s: refused"
    }
  }

  func restartNode(
    request: Clusterdriver_V1_RestartNodeRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    throw RPCError(code: .unimplemented, message: "this one is not restarted")
  }

  func listControllers(
    request: Clusterdriver_V1_ListNodeControllersRequest,
    response: RPCWriter<Clusterdriver_V1_NodeController>, context: ServerContext
  ) async throws {
    for serial in [1, 2] as [UInt64] where request.serial == 0 || request.serial == serial {
      try await response.write(.with { $0.status.serial = serial })
    }
  }

  func sendCommand(
    request: Clusterdriver_V1_Command, context: ServerContext
  ) async throws -> Clusterdriver_V1_CommandResult {
    .with {
      $0.id = request.id
      $0.serial = request.serial
      $0.status = request.serial == 2 ? .refused : .done
      $0.detail = request.serial == 2 ? "no door 9" : ""
    }
  }

  private var cluster: Clusterdriver_V1_ClusterStatus {
    .with {
      $0.nodeID = "door-1:5001"
      $0.leader = "door-2:5001"
      $0.term = 3
      $0.leaseMs = 900
      $0.members = [
        .with {
          $0.nodeID = "door-1:5001"
          $0.state = "alive"
          $0.ranges = 1
        },
        .with {
          $0.nodeID = "door-2:5001"
          $0.state = "dead"
        },
      ]
    }
  }

  func getCluster(
    request: Clusterdriver_V1_GetClusterRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    var cluster = self.cluster
    if !request.withoutRanges {
      let ranges: [(UInt64, UInt64)] = [(1, 99), (100, UInt64.max - 1)]
      cluster.ranges = ranges.map { first, last in
        .with {
          $0.first = first
          $0.last = last
          $0.owner = "door-1:5001"
          $0.successors = ["door-2:5001"]
        }
      }
    }
    return cluster
  }

  func setDraining(
    request: Clusterdriver_V1_SetDrainingRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus { self.cluster }

  func getPlan(
    request: Clusterdriver_V1_GetPlanRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterPlan {
    .with {
      $0.nodeID = "door-1:5001"
      $0.underWay = 1
      $0.timeLeftMs = 800
      $0.moveMs = 400
      $0.moves = ([1, 100] as [UInt64]).map { first in
        .with {
          $0.first = first
          $0.last = first + 98
          $0.from = "door-1:5001"
          $0.to = "door-2:5001"
          $0.weight = 7
          $0.reason = "balance"
        }
      }
    }
  }

  func setBalancing(
    request: Clusterdriver_V1_SetBalancingRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus { self.cluster }

  func forgetMember(
    request: Clusterdriver_V1_ForgetMemberRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    guard request.nodeID == "door-9" else {
      throw RPCError(code: .failedPrecondition, message: "not among those that were taken off")
    }
    return self.cluster
  }

  func getHistory(
    request: Clusterdriver_V1_GetHistoryRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterHistory {
    .with {
      $0.nodeID = "door-1:5001"
      $0.incarnation = 1
      // Whoever asks on is told of one more.
      let last = request.after == 0 ? 2 : request.after + 1
      $0.changes = (request.after + 1...last).map { number in
        .with {
          $0.number = number
          $0.atMs = 1_790_000_000_000
          $0.what = "moved"
          $0.first = 1
          $0.last = 99
          $0.epoch = 4
          $0.from = "door-1:5001"
          $0.node = "door-2:5001"
        }
      }
    }
  }

  func tail(
    request: Clusterdriver_V1_NodeTailRequest, response: RPCWriter<Clusterdriver_V1_NodeTailItem>,
    context: ServerContext
  ) async throws {
    for seq in 1...3 as ClosedRange<UInt64> {
      try await response.write(
        .with {
          $0.event.serial = 1
          $0.event.seq = seq
          $0.event.kind = .event
          $0.event.family = .door
          $0.event.code = 3
          $0.event.sourceType = 1
          $0.event.sourceNumber = 2
        })
    }
    try await response.write(.with { $0.missed = 5 })
  }
}

@Suite("clusterctl and a node", .timeLimit(.minutes(2)))
struct EndToEndTests {
  private struct Ended {
    var status: Int32
    var output: String
    var errors: String
  }

  /// The program built beside the tests.
  private var program: URL {
    get throws {
      var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
      while folder.path != "/" {
        let candidate = folder.appendingPathComponent("clusterctl")
        if FileManager.default.isExecutableFile(atPath: candidate.path) { return candidate }
        folder.deleteLastPathComponent()
      }
      Issue.record("no clusterctl beside \(CommandLine.arguments[0]): run swift build first")
      throw CancellationError()
    }
  }

  private func run(_ arguments: String...) async throws -> Ended {
    let process = Process()
    process.executableURL = try program
    process.arguments = arguments
    process.environment = ["PATH": "/usr/bin:/bin", "TZ": "UTC"]
    let output = Pipe()
    let errors = Pipe()
    process.standardOutput = output
    process.standardError = errors
    return try await withCheckedThrowingContinuation { continuation in
      process.terminationHandler = { process in
        continuation.resume(
          returning: Ended(
            status: process.terminationStatus,
            output: String(
              decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self),
            errors: String(
              decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)))
      }
      do { try process.run() } catch { continuation.resume(throwing: error) }
    }
  }

  private func withNode(_ body: (String) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "clusterctl-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("5001.sock").path
    let transport = try NGHTTP2ServerTransport(address: .unix(path))
    try await withGRPCServer(transport: transport, services: [TwoControllers()]) { _ in
      _ = try await transport.listeningAddress
      try await body("unix:\(path)")
    }
  }

  @Test("topology and ranges show the cluster; a drain that does not come to an end says so")
  func cluster() async throws {
    try await withNode { admin in
      let topology = try await run("topology", "--admin", admin)
      #expect(topology.status == 0, "\(topology)")
      #expect(topology.output.contains("as door-1:5001 sees it (term 3, lease for 900 ms)"))
      #expect(topology.output.contains("dead"))
      let ranges = try await run("ranges", "--admin", admin, "--serial", "100", "-f", "tsv")
      #expect(ranges.output.split(separator: "\n").count == 2, "\(ranges)")
      #expect(ranges.output.contains("18446744073709551614"), "\(ranges)")
      let drain = try await run("drain", "--admin", admin, "--within", "300ms")
      #expect(drain.status == 1 && drain.errors.contains("still owns 1 ranges"), "\(drain)")
      let atOnce = try await run("drain", "--admin", admin, "--no-wait")
      #expect(atOnce.status == 0, "\(atOnce)")
      #expect(try await run("undrain", "--admin", admin).status == 0)
    }
  }

  @Test("plan, rebalance, forget, history and watch")
  func steering() async throws {
    try await withNode { admin in
      let plan = try await run("plan", "--admin", admin)
      #expect(plan.status == 0, "\(plan)")
      #expect(plan.output.contains("Moves to make: 2, 1 under way, about 800 ms"), "\(plan)")
      let status = try await run("rebalance", "status", "--admin", admin, "-f", "tsv")
      #expect(status.output.hasSuffix("on\t1\t2\t14\t400\t800\n"), "\(status)")
      let start = try await run("rebalance", "start", "--admin", admin, "--within", "100ms")
      #expect(start.status == 1 && start.errors.contains("2 moves are left"), "\(start)")
      #expect(try await run("rebalance", "stop", "--admin", admin).status == 0)
      #expect(try await run("forget", "door-9", "--admin", admin).status == 0)
      let known = try await run("forget", "door-1", "--admin", admin)
      #expect(known.status != 0 && known.errors.contains("not among"), "\(known)")
      let history = try await run("history", "--admin", admin, "--serial", "99", "--last", "1")
      #expect(history.output.contains("2026-09-21"), "\(history)")
      #expect(history.output.split(separator: "\n").count == 5, "\(history)")
      let watch = try await run("watch", "--admin", admin, "--count", "2")
      #expect(
        watch.output.hasSuffix("moved 1…99 from door-1:5001 to door-2:5001 under 4\n"), "\(watch)")
      #expect(watch.output.split(separator: "\n").count == 2, "\(watch)")
    }
  }

  @Test(
    "a rollout that may not begin says why and restarts nothing; what it is asked has to make sense"
  )
  func rollout() async throws {
    try await withNode { admin in
      let refused = try await run("rollout", "--admin", admin)
      #expect(
        refused.status == 1 && refused.output.contains("2 controllers  waiting: "), "\(refused)")
      #expect(refused.errors.contains("nothing was restarted"), "\(refused)")
      #expect(refused.errors.contains("door-1:5001 has no vendor app"), "\(refused)")
      let unknown = try await run("rollout", "--admin", admin, "--node", "x", "y", "-f", "json")
      #expect(unknown.status == 1 && unknown.errors.isEmpty, "\(unknown)")
      #expect(unknown.output.contains(#""what": "refused""#), "\(unknown)")
      #expect(unknown.output.contains("y is no member of the cluster"), "\(unknown)")
      let none = try await run("rollout", "--admin", admin, "--max-unavailable", "0")
      #expect(none.status == 2 && none.errors.contains("--max-unavailable"), "\(none)")
    }
  }

  @Test("list, controllers, send, tail and check show what the node says, with its exit status")
  func commands() async throws {
    try await withNode { admin in
      let list = try await run("list", "--admin", admin, "-f", "json")
      #expect(list.status == 0 && list.output.contains(#""node": "door-1:5001""#), "\(list)")

      let controllers = try await run("controllers", "--admin", admin, "-f", "tsv")
      #expect(controllers.output.split(separator: "\n").count == 3, "\(controllers)")
      let one = try await run("controllers", "--admin", admin, "--serial", "2")
      #expect(one.output.contains("Controllers: 1"), "\(one)")
      let absent = try await run("controllers", "--admin", admin, "--serial", "3", "-f", "json")
      #expect(absent.output.contains(#""state": "offline""#), "\(absent)")

      let done = try await run("send", "1", "unlock", "--door", "1", "--admin", admin)
      #expect(done.status == 0 && done.output.contains("done"), "\(done)")
      let refused = try await run("send", "2", "unlock", "--door", "9", "--admin", admin)
      #expect(refused.status == 1 && refused.output.contains("no door 9"), "\(refused)")

      let tail = try await run("tail", "--admin", admin)
      #expect(tail.status == 0 && tail.errors.contains("5 events missed"), "\(tail)")
      #expect(tail.output.contains("1  door 2  forced  [0:3]"), "\(tail)")
      let two = try await run("tail", "--admin", admin, "--count", "2", "-f", "json")
      #expect(two.output.split(separator: "\n").count == 2, "\(two)")

      let check = try await run("check", "--admin", admin)
      #expect(check.status == 1 && check.errors.contains("the vendor app is down"), "\(check)")
    }
  }

  @Test("a node that isn't there, and wrong usage, have exit statuses of their own and say why")
  func failures() async throws {
    let absent = try await run("list", "--admin", "unix:/nonexistent/x.sock")
    #expect(absent.status == 5 && absent.errors.contains("can't reach the node"), "\(absent)")
    let usage = try await run("send", "1", "unlock")
    #expect(usage.status == 2 && usage.errors.contains("--door"), "\(usage)")
    let far = try await run("list", "--admin", "192.0.2.1:50")
    #expect(far.status == 2 && far.errors.contains("--insecure"), "\(far)")
    let help = try await run("send", "--help")
    #expect(help.status == 0 && help.output.contains("door-mode"), "\(help)")
  }
}

internal import DriverProtocol
internal import GRPCCore
internal import Glibc
internal import SwiftProtobuf
internal import Synchronization

extension RolloutView {
  /// A node that is asked through another one answers within a second or not at all.
  private static var quick: CallOptions {
    var options = CallOptions.defaults
    options.timeout = .seconds(2)
    return options
  }

  /// Asks a node for the cluster, and through it every other. Throws when that one does not answer.
  static func look(_ admin: Connection.Admin) async throws -> RolloutView {
    let cluster = try await admin.getCluster(.with { $0.withoutRanges = true }, options: quick)
    var view = RolloutView(cluster)
    let asked = view.members.filter { !["missing", "stopped", "dead"].contains($0.value.state) }
    await withTaskGroup(of: (String, Result<Node, Silence>).self) { group in
      for name in asked.keys { group.addTask { (name, await ask(name, admin)) } }
      for await (name, answer) in group {
        switch answer {
        case .success(let node): view.nodes[name] = node
        case .failure(let silence): view.silent[name] = silence.why
        }
      }
    }
    return view
  }

  private struct Silence: Error { var why: String }

  private static func ask(
    _ name: String, _ admin: Connection.Admin
  ) async -> Result<Node, Silence> {
    do {
      let status = try await admin.getNode(.with { $0.nodeID = name }, options: quick)
      // A node of an earlier version takes every question for one about itself.
      guard status.nodeID == name else {
        return .failure(
          Silence(
            why: "the node that was asked, \(status.nodeID), runs a program that cannot ask others;"
              + " restart that one's unit on its host"))
      }
      return .success(Node(status))
    } catch {
      return .failure(Silence(why: (error as? RPCError)?.message ?? "\(error)"))
    }
  }

  /// Has a node restart that is in this life.
  static func restart(
    _ name: String, _ incarnation: UInt64, _ admin: Connection.Admin
  ) async -> RolloutMachine.Answer {
    do {
      _ = try await admin.restartNode(
        .with {
          $0.nodeID = name
          $0.incarnation = incarnation
        }, options: quick)
      return .taken
    } catch let error as RPCError {
      switch error.code {
      case .failedPrecondition:
        if case .success(let node) = await ask(name, admin), node.incarnation != incarnation {
          return .overtaken
        }
        return .refused(error.message)
      case .notFound, .unimplemented, .invalidArgument, .permissionDenied:
        return .refused(error.message)
      default: return .unknown(error.message)
      }
    } catch {
      return .unknown("\(error)")
    }
  }
}

/// Ctrl-C and SIGTERM, once: the second one ends the program at once.
enum Interruption {
  private static let flag = Atomic<Bool>(false)

  static var happened: Bool { flag.load(ordering: .relaxed) }

  static func watch() {
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        Interruption.flag.store(true, ordering: .relaxed)
        signal(number, SIG_DFL)
      }
    }
  }
}

import GRPCCore
import GRPCNGHTTP2
import RedisLink
import Synchronization

/// `--check`: whether a node with this configuration could work, without starting one.
enum Check {
  /// For each thing that is reached over the network.
  private static let limit: Duration = .seconds(5)

  /// Prints the settings and one line for each thing looked at. True: all is well.
  static func run(_ config: NodeConfiguration, _ settings: [SettingInForce]) -> Bool {
    let width = settings.map(\.name.count).max() ?? 0
    for setting in settings {
      let name = setting.name + String(repeating: " ", count: width - setting.name.count)
      print("\(name)  \(setting.value)  (\(setting.origin))")
    }
    print("")
    let results = [
      Check.report("port", Check.port(config)),
      Check.report("redis", Check.redis(config.redis)),
      Check.report("vendor", Check.vendor(config.vendor)),
    ]
    return results.allSatisfy { $0 }
  }

  private enum Finding {
    case fine(String)
    case wrong(String)
  }

  private static func report(_ what: String, _ finding: Finding) -> Bool {
    switch finding {
    case .fine(let text):
      print("ok    \(what): \(text)")
      return true
    case .wrong(let text):
      print("FAIL  \(what): \(text)")
      return false
    }
  }

  private static func port(_ config: NodeConfiguration) -> Finding {
    do throws(ControllerLayer.Failure) {
      let layer = try ControllerLayer(config.layer)
      return .fine("controllers can be served on \(config.bind) port \(layer.port)")
    } catch {
      return .wrong("\(error); choose another with --port or --bind")
    }
  }

  private static func redis(_ setting: RedisSetting) -> Finding {
    guard case .server(let url) = setting else {
      return .fine("not needed with \(setting)")
    }
    do {
      var options = RedisLinkOptions()
      // Of a Redis Cluster the master that the node listens at.
      options.connection.slotKey = ""
      let link = try RedisLink(url, options: options)
      defer { link.close() }
      let asked = Awaited<String?> {
        do {
          _ = try await link.send(RedisCommand("PING"), timeout: Check.limit)
          return nil
        } catch {
          return "\(error)"
        }
      }
      guard let answer = asked.wait(Check.limit * 2) else {
        return .wrong("\(url) did not answer in \(Check.limit)")
      }
      if let answer { return .wrong("\(url): \(answer); is it running, and the URL right?") }
      return .fine("\(url) answers")
    } catch {
      return .wrong("\(url): \(error)")
    }
  }

  private static func vendor(_ setting: VendorSetting) -> Finding {
    let bell = Bell()
    let finding = Mutex<Finding?>(nil)
    do {
      let vendor = try VendorTransport(setting)
      vendor.events.handle { event in
        switch event {
        case .connected(let peer): finding.withLock { $0 = .fine("\(peer) speaks HTTP/2") }
        case .connectFailed(_, let reason, _):
          finding.withLock { $0 = .wrong("\(setting): \(reason); is the vendor app running?") }
        case .disconnected, .refused, .unanswered: return
        }
        bell.ring()
      }
      let connecting = Awaited<Void> { try? await vendor.transport.connect() }
      bell.wait(milliseconds: Check.limit.millisecondsRoundedUp)
      vendor.transport.beginGracefulShutdown()
      connecting.cancel()
      _ = connecting.wait(.seconds(1))
    } catch {
      return .wrong("\(setting): \(error)")
    }
    return finding.withLock { $0 } ?? .wrong("\(setting) did not answer in \(Check.limit)")
  }
}

/// What is said on a new connection, all at once, and how the replies are judged: AUTH, SELECT and
/// a PING (which a server that wants a password, is still loading or is full does not answer with
/// PONG) must succeed, and where a master was looked for the server must say that it is one (ROLE);
/// a name and scripts that the server will not have are no reason to do without
/// it.
///
/// A subscriber also has its former connection ended, as far as the server allows it. That one's end
/// may not have reached the server (a network that was cut, a host without power), which goes on
/// counting it among those who hear what is published, and sends it to nobody.
///
/// Pure.
struct Greeting {
  private enum Step {
    case required
    case role
    case optional
    case address
    case script(RedisScript)
  }

  enum Verdict: Equatable {
    case more
    case done
    case refused(RedisFailure)
  }

  private var steps: [Step] = []
  private var next = 0
  private(set) var wire: [UInt8] = []
  /// Whence the server sees this connection come; nil: it does not say (before 6.2).
  private(set) var address: String?

  /// - Parameter listens: it is a subscriber's, whose former one came from `former`.
  init(
    url: RedisURL, clientName: String, scripts: [RedisScript], listens: Bool = false,
    former: String? = nil
  ) {
    if let password = url.password { say(.required, .auth(user: url.user, password: password)) }
    if url.database != 0 {
      say(.required, RedisCommand("SELECT", .integer(Int64(url.database))))
    }
    if !clientName.isEmpty {
      say(.optional, RedisCommand("CLIENT", "SETNAME", .string(clientName)))
    }
    say(.required, pingCommand)
    switch url.place {
    case .server: break
    case .sentinels, .cluster: say(.role, RedisCommand("ROLE"))
    }
    if listens {
      if let former {
        say(.optional, RedisCommand("CLIENT", "KILL", "TYPE", "pubsub", "ADDR", .string(former)))
      }
      say(.address, RedisCommand("CLIENT", "INFO"))
    }
    for script in scripts {
      say(.script(script), RedisCommand("SCRIPT", "LOAD", .string(script.source)))
    }
  }

  private mutating func say(_ step: Step, _ command: RedisCommand) {
    steps.append(step)
    wire += command.wire
  }

  mutating func judge(_ value: RedisValue) -> Verdict {
    if next == steps.count {
      return .refused(.protocolViolation("more replies than commands: \(value.summary)"))
    }
    switch (steps[next], value) {
    case (.required, .status): break
    case (.role, .array(let parts)) where parts.first?.string != nil:
      let role = parts[0].string ?? ""
      if role != "master" { return .refused(.notMaster("its role is \(role.prefix(20))")) }
    case (.required, .error(let error)), (.role, .error(let error)):
      return .refused(.refused(error))
    case (.required, _), (.role, _):
      return .refused(.protocolViolation("\(value.summary) where OK, PONG or a role was due"))
    case (.script(let script), .bytes(let sha)): script.learn(sha)
    case (.address, .bytes(let info)): address = Greeting.address(in: info)
    case (.script, _), (.optional, _), (.address, _): break
    }
    next += 1
    return next == steps.count ? .done : .more
  }

  /// Of CLIENT INFO: `id=7 addr=10.0.0.1:41952 laddr=…`.
  private static func address(in info: [UInt8]) -> String? {
    let field = info.split(separator: UInt8(ascii: " ")).first { $0.starts(with: "addr=".utf8) }
    return field.map { String(decoding: $0.dropFirst(5), as: UTF8.self) }
  }
}

extension RedisCommand {
  static func auth(user: String?, password: String) -> RedisCommand {
    RedisCommand("AUTH", ((user.map { [$0] } ?? []) + [password]).map { .string($0) })
  }
}

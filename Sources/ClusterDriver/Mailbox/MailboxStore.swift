import Election
import RedisLink

/// The mailbox in Redis: names its keys, runs its scripts, reads their replies.
///
/// Any thread may call. Replies are told on the link's thread.
struct MailboxStore: Sendable {
  /// Of the replies to one call, about.
  static let bytesPerCall = 64 * 1024

  private let link: RedisLink
  private let owner: Owner
  private let keys: [RedisArgument]

  /// - Parameters:
  ///   - link: with `linkOptions`.
  ///   - owner: this node, and its present life, as the ownership store knows them.
  init(link: RedisLink, cluster: String, owner: Owner) {
    self.link = link
    self.owner = owner
    self.keys = MailboxStore.keys(cluster: cluster).map { .string($0) }
  }

  /// Index, commands, marks, the ownership store's ranges, and what has ended; all in one slot.
  static func keys(cluster: String) -> [String] {
    ["mail", "letters", "marks", "ranges", "ended"].map { "{cd:\(StoreText.token(cluster))}:\($0)" }
  }

  /// The channel on which a post is told: the serial, in decimal.
  static func bell(cluster: String) -> String { self.keys(cluster: cluster)[0] + ":bell" }

  static func linkOptions(cluster: String) -> RedisLinkOptions {
    var options = RedisLinkOptions()
    options.connection.slotKey = self.keys(cluster: cluster)[0]
    options.connection.clientName = "cluster-driver-mail"
    options.connection.threadName = "mail"
    options.whenDown = .fail
    options.scripts = MailboxScripts.all
    return options
  }

  /// `tell` is called once. What is not `failed` was done as a whole.
  func run(
    _ call: MailboxCall,
    then tell: @escaping @Sendable (MailboxReply, _ failure: RedisError?) -> Void
  ) {
    let judge = { @Sendable (result: Result<RedisValue, RedisError>) in
      switch result {
      case .success(let value): tell(MailboxReply(value, to: call) ?? .failed, nil)
      case .failure(let error): tell(.failed, error)
      }
    }
    do throws(RedisError) {
      if case .scan(let scan) = call {
        try self.link.submit(self.command(scan), then: judge)
      } else {
        let (script, arguments) = self.script(call)
        try self.link.run(script, keys: self.keys, arguments: arguments, then: judge)
      }
    } catch {
      tell(.failed, error)
    }
  }

  private func command(_ scan: MailboxScan) -> RedisCommand {
    let from: RedisArgument =
      scan.after.isEmpty
      ? .string(Letter.firstBound(of: scan.first)) : .bytes([UInt8(ascii: "(")] + scan.after)
    return RedisCommand(
      "ZRANGEBYLEX", self.keys[0], from, .string(Letter.bound(after: scan.last)), "LIMIT", 0,
      .integer(Int64(MailboxMachine.Settings().scanPage)))
  }

  private func script(_ call: MailboxCall) -> (RedisScript, [RedisArgument]) {
    switch call {
    case .open(let openings, let range):
      var arguments: [RedisArgument] = [
        .string(range.map(self.fence) ?? ""), .integer(Int64(MailboxStore.bytesPerCall)),
      ]
      for opening in openings {
        arguments += [
          .string(Letter.bound(in: opening.serial, after: opening.after)),
          .string(Letter.bound(after: opening.serial)), .integer(Int64(opening.count)),
          opening.marks ? "1" : "0",
        ]
      }
      return (MailboxScripts.open, arguments)
    case .decide(let letters, let results, let range):
      let pairs = zip(letters, results).flatMap { letter, result -> [RedisArgument] in
        [.string(letter.text), .bytes(result)]
      }
      return (MailboxScripts.decide, [.string(self.fence(range))] + pairs)
    case .note(let letters, let done, let range):
      let pairs = zip(letters, done).flatMap { letter, done -> [RedisArgument] in
        [.string(letter.text), .integer(Int64(done))]
      }
      return (MailboxScripts.note, [.string(self.fence(range))] + pairs)
    case .remove(let texts, let range):
      return (MailboxScripts.remove, [.string(self.fence(range))] + texts.map { .bytes($0) })
    case .scan:
      preconditionFailure("a scan is no script")
    }
  }

  /// What the range's record begins with while it is this owner's, under this epoch.
  private func fence(_ range: OwnedRange) -> String {
    let words = [
      "\(range.first.rawValue)", "\(range.last.rawValue)", "\(range.epoch.rawValue)",
      StoreText.token(self.owner.node.name), "\(self.owner.incarnation.rawValue)",
    ]
    return words.joined(separator: " ") + " "
  }
}

extension MailboxReply {
  /// Nil for what no script of ours answers.
  fileprivate init?(_ value: RedisValue, to call: MailboxCall) {
    guard let parts = value.array else { return nil }
    if case .scan = call {
      self = .scanned(parts.compactMap(\.bytes))
      return
    }
    guard let kind = parts.first?.string else { return nil }
    if kind == "other" {
      self = .notOwner
      return
    }
    guard kind == "ok" else { return nil }
    switch call {
    case .open:
      guard parts.count >= 2, (parts.count - 2) % 3 == 0, let read = parts[1].int64 else {
        return nil
      }
      var letters: [OpenedLetter] = []
      for at in stride(from: 2, to: parts.count, by: 3) {
        guard let text = parts[at].bytes, let body = parts[at + 1].bytes,
          let mark = parts[at + 2].bytes
        else { return nil }
        letters.append(OpenedLetter(text: text, body: body, mark: OpenedLetter.Mark(mark)))
      }
      self = .opened(letters, read: Int(read))
    case .decide(let letters, _, _):
      guard parts.count == letters.count + 1 else { return nil }
      self = .decided(
        parts.dropFirst().map { part in
          let said = part.bytes ?? []
          if said.isEmpty { return .taken }
          if said.first == UInt8(ascii: "r") { return .was(Array(said.dropFirst())) }
          return said == Array("ended".utf8) ? .ended : .gone
        })
    case .note: self = .noted
    case .remove: self = .removed
    case .scan: return nil
    }
  }
}

extension OpenedLetter.Mark {
  fileprivate init(_ bytes: [UInt8]) {
    switch bytes.first {
    case nil: self = .none
    case UInt8(ascii: "r"): self = .result(Array(bytes.dropFirst()))
    default: self = .given(done: Int(String(decoding: bytes.dropFirst(), as: UTF8.self)) ?? 0)
    }
  }
}

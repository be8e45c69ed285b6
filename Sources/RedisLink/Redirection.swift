/// A node of a cluster has turned a command of the link's slot away, which it then has not carried
/// out, and the connection is of no more use.
///
/// Pure.
enum Redirection: Equatable {
  /// MOVED: this one serves the slot.
  case moved(to: RedisAddress)
  /// The slot is on its way elsewhere (ASK, TRYAGAIN), or nobody may serve it now (CLUSTERDOWN).
  case refused(RedisServerError)

  /// What an error reply means on a connection to `node` that serves `slot`; nil: it is an answer
  /// like any other. What a node says of another slot is one: the key was a wrong one.
  init?(_ error: RedisServerError, slot: RedisSlot, at node: RedisAddress?) {
    switch error.code {
    case "TRYAGAIN", "CLUSTERDOWN": self = .refused(error)
    case "MOVED", "ASK":
      let words = error.message.split(separator: " ", omittingEmptySubsequences: false)
      guard words.count == 3, UInt16(words[1]) == slot.number else { return nil }
      guard error.code == "MOVED", let address = RedisAddress(redirection: words[2], from: node)
      else {
        self = .refused(error)
        return
      }
      self = .moved(to: address)
    default: return nil
    }
  }

  /// Why the connection is given up, and what a command is told that is not sent again.
  var failure: RedisFailure {
    switch self {
    case .moved: .moved
    case .refused(let error): .refused(error)
    }
  }
}

extension RedisAddress {
  /// `host:port`, IPv6 without brackets; without a host it is another port of `node`'s.
  fileprivate init?(redirection text: Substring, from node: RedisAddress?) {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let host = text[..<colon]
    // Of a node that has no name where names are preferred.
    if host == "?" { return nil }
    self.init(
      named: host.isEmpty ? node?.host : String(host), Int64(text[text.index(after: colon)...]))
  }
}

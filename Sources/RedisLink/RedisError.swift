/// Why a command brought no value, told apart by what may have happened at the server: this is what
/// decides whether it may be repeated.
public enum RedisError: Error, Sendable, Hashable {
  /// The server answered with an error.
  case server(RedisServerError)
  /// The command never reached the server whole, or a node of a cluster has turned it away (MOVED,
  /// ASK, TRYAGAIN, CLUSTERDOWN): it was not carried out, and repeating it is safe.
  case notSent(RedisFailure)
  /// It was sent and its reply did not come: carried out or not, nobody here knows.
  case unknown(RedisFailure)

  /// Whether the command was certainly not carried out, for want of being sent or taken.
  public var isSafeToRepeat: Bool {
    if case .notSent = self { true } else { false }
  }
}

/// An error reply: `WRONGTYPE Operation against…`.
public struct RedisServerError: Error, Sendable, Hashable {
  /// The whole line.
  public let message: String

  public init(message: String) {
    self.message = message
  }

  /// Its first word, as a rule in capitals: `ERR`, `NOSCRIPT`, `MOVED`.
  public var code: String {
    String(message.prefix { $0 != " " })
  }
}

extension RedisServerError {
  /// What can be done about a refusal to let us in, after a semicolon; empty if there is nothing to
  /// add.
  var advice: String {
    switch code {
    case "WRONGPASS":
      "; correct user and password in the URL (what is no letter or digit as %XX), or the server's"
        + " ACL"
    case "NOAUTH": "; write the password into the URL, as in redis://user:password@host"
    case "MOVED":
      "; this node of a Redis Cluster does not serve the key's slot: write redis+cluster:// for"
        + " redis://, and give all keys of a link the same hash tag, as in {tag}…"
    case "CROSSSLOT": "; give all keys the same hash tag, as in {tag}…"
    case "ASK", "TRYAGAIN":
      "; the slot is being moved to another node (if that does not end: redis-cli --cluster fix)"
    case "CLUSTERDOWN":
      "; a failover is under way, or slots lack a master (see redis-cli --cluster check)"
    case "ERR" where message.contains("cluster support disabled"):
      "; write redis:// for redis+cluster://, or set cluster-enabled yes at the server"
    case "NOPERM": "; grant it with ACL SETUSER at the server, or use another user in the URL"
    default: ""
    }
  }
}

/// Why a connection is not there, or why a command was given up.
public enum RedisFailure: Error, Sendable, Hashable {
  /// No attempt has ended yet.
  case notYetConnected
  /// The name of the host could not be resolved; errno.
  case unresolvable(host: String, errno: Int32)
  /// No connection could be made, or an operation on it failed; errno.
  case system(doing: String, errno: Int32)
  /// The server does not take us: wrong password, no such database, loading, too many clients.
  case refused(RedisServerError)
  /// TLS could not be had: what, why, and what to do.
  case tls(String)
  /// The server that was found is no master (any more): what it is.
  case notMaster(String)
  /// No sentinel, or no node of the cluster, could name the master: why, and what to do.
  case noMaster(String)
  /// The sentinels, or a node of the cluster, say that another server is the master now.
  case moved
  /// The server closed the connection.
  case closedByPeer
  /// The server closed a new connection, without TLS, before it had said anything.
  case closedUnheard
  /// It did not answer in time: a connection attempt, a PING (a half-open link), or this command.
  case timeout
  /// The connection was given up because an earlier command on it had timed out.
  case abandoned
  /// What came is not the Redis protocol, or no answer to anything that was asked.
  case protocolViolation(String)
  /// A reply exceeds the limits that were set.
  case replyTooLarge
  /// Too many commands or bytes, or channels, are outstanding already.
  case full
  /// The caller's task was cancelled before the command was taken.
  case cancelled
  /// The link was closed by its owner.
  case closed
}

extension RedisFailure: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notYetConnected: "not yet connected"
    case .unresolvable(let host, let errno):
      "cannot resolve \(host): \(systemErrorText(errno))"
    case .system(let doing, let errno): "\(doing): \(systemErrorText(errno))"
    case .refused(let error): "the server refused us: \(error.message)\(error.advice)"
    case .tls(let what): "TLS: \(what)"
    case .notMaster(let what): "the server is no master: \(what)"
    case .noMaster(let what): "no master is known: \(what)"
    case .moved: "another server is the master now, as sentinels or cluster say"
    case .closedByPeer: "the server closed the connection"
    case .closedUnheard:
      "the server closed the connection without a word: it may want TLS (rediss:// for redis://),"
        + " or be a proxy that has no server"
    case .timeout: "no answer in time"
    case .abandoned: "given up with the connection, on which an earlier command had timed out"
    case .protocolViolation(let what): "this is not how Redis speaks: \(what)"
    case .replyTooLarge: "a reply exceeds the limit"
    case .full: "too much is outstanding already"
    case .cancelled: "cancelled"
    case .closed: "the link is closed"
    }
  }
}

extension RedisError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .server(let error): "Redis: \(error.message)\(error.advice)"
    case .notSent(let failure): "Redis: not sent: \(failure)"
    case .unknown(let failure): "Redis: sent, outcome unknown: \(failure)"
    }
  }
}

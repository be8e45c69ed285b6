/// How a connection is made and watched; the same for a link and for a subscriber.
public struct RedisConnectionOptions: Sendable, Hashable {
  /// What CLIENT LIST shows, without blanks; empty = none.
  public var clientName = ""
  /// The name of the thread, of which 15 bytes count.
  public var threadName = "redis"
  /// For one attempt: asking sentinels or a cluster, resolving, connecting, TLS and being let in.
  public var connectTimeout = Duration.seconds(2)
  /// With sentinels or a cluster: for one of those that are asked to be connected to and to answer,
  /// at most half of `connectTimeout`. One that is dead delays a search by this only when no other
  /// names a master that may be one, or when three are dead that are asked at once.
  public var sentinelTimeout = Duration.milliseconds(500)
  /// With a cluster: a key, whose slot (`RedisSlot`) is the one this link serves. All keys of the
  /// link must lie in it, by the same hash tag: `{tag}…`. A `RedisLink` must be given one; a
  /// `RedisSubscriber`, whose channels lie in no slot, may leave it nil (slot 0's master).
  public var slotKey: String?
  /// The pause after the first failure; it doubles with each further one. Of every pause the second
  /// half is random, the first one's too, so that many nodes do not return as one.
  public var backOffFirst = Duration.milliseconds(50)
  /// The longest pause.
  public var backOffMost = Duration.seconds(2)
  /// Silence after which a PING is sent…
  public var pingAfter = Duration.seconds(5)
  /// …and within which something must then be heard. An idle half-open link is thus found within
  /// `pingAfter + pingTimeout`; one with a command in flight by that command's timeout.
  public var pingTimeout = Duration.seconds(2)
  /// The largest reply, in bytes. A larger one ends the connection.
  public var replyBytesMax = 64 << 20
  /// The longest array in a reply. A longer one ends the connection.
  public var replyElementsMax = 1 << 20

  public init() {}
}

/// What a link does with commands while it is down.
public enum RedisWhenDown: Sendable, Hashable {
  /// They wait for the connection until their timeout.
  case wait
  /// They fail at once, `.notSent`; only while the link is on its way to where it was sent
  /// (`RedisFailure.moved`) they wait.
  case fail
}

/// How a `RedisLink` behaves.
public struct RedisLinkOptions: Sendable {
  public var connection = RedisConnectionOptions()
  /// For a command that names none, from the moment it is handed over.
  public var commandTimeout = Duration.seconds(2)
  public var whenDown = RedisWhenDown.wait
  /// Commands handed over and not yet answered.
  public var commandsMax = 65_536
  /// The bytes of those commands.
  public var commandBytesMax = 64 << 20
  /// Loaded into the server at every connect, so that EVALSHA finds them.
  public var scripts: [RedisScript] = []

  public init() {}
}

/// How a `RedisSubscriber` behaves.
public struct RedisSubscriberOptions: Sendable, Hashable {
  public var connection: RedisConnectionOptions
  /// Channels wanted at a time.
  public var channelsMax = 100_000
  /// Channels named in one command, and such commands unconfirmed at a time.
  public var chunkChannels = 500
  public var chunksInFlight = 8
  /// How long the server may take to confirm any of what is outstanding.
  public var confirmTimeout = Duration.seconds(5)
  /// A longer payload is left out; its message says how long it was.
  public var payloadBytesMax = 1 << 20

  public init() {
    connection = RedisConnectionOptions()
    // Above what Redis itself lets a subscriber lag (client-output-buffer-limit pubsub 32mb), so
    // that no single oversize message ends the connection.
    connection.replyBytesMax = 40 << 20
    connection.threadName = "redis-sub"
  }
}

/// A law between the options that is broken, and how to keep it.
public struct RedisOptionsError: Error, Sendable, Hashable, CustomStringConvertible {
  public let message: String

  public var description: String { "Redis options: \(message)" }
}

extension RedisConnectionOptions {
  /// `sentinelTimeout` as it is in force, in nanoseconds.
  var askTimeout: UInt64 {
    min(sentinelTimeout.clampedNanoseconds, connectTimeout.clampedNanoseconds / 2)
  }

  /// What a URL of a cluster asks of the options, and of itself.
  func check(for url: RedisURL) throws(RedisOptionsError) {
    guard case .cluster = url.place else { return }
    try require(
      url.database == 0, "a Redis Cluster has no database \(url.database), only 0")
  }

  func check() throws(RedisOptionsError) {
    try require(
      clientName.utf8.allSatisfy { (33...126).contains($0) },
      "clientName may hold printable ASCII without blanks only")
    try require(
      connectTimeout > .zero && sentinelTimeout > .zero,
      "connectTimeout and sentinelTimeout must be above zero")
    try require(
      backOffFirst > .zero && backOffFirst <= backOffMost,
      "backOffFirst must be above zero and no longer than backOffMost, which it grows to")
    try require(
      pingAfter > .zero && pingTimeout > .zero,
      "pingAfter and pingTimeout must be above zero: without them a half-open link is never found")
    try require(
      replyBytesMax >= 64 << 10, "replyBytesMax must be 65536 or more: a reply is read in pieces")
    try require(replyElementsMax >= 16, "replyElementsMax must be 16 or more")
  }
}

extension RedisLinkOptions {
  func check(for url: RedisURL) throws(RedisOptionsError) {
    try connection.check()
    try connection.check(for: url)
    if case .cluster = url.place {
      try require(
        connection.slotKey != nil,
        "connection.slotKey must name a key, or its hash tag, whose slot in the cluster is meant")
    }
    try require(commandTimeout > .zero, "commandTimeout must be above zero")
    try require(
      commandsMax >= 1 && commandBytesMax >= 1,
      "commandsMax and commandBytesMax must be above zero")
  }
}

extension RedisSubscriberOptions {
  func check(for url: RedisURL) throws(RedisOptionsError) {
    try connection.check()
    try connection.check(for: url)
    try require(confirmTimeout > .zero, "confirmTimeout must be above zero")
    try require(
      channelsMax >= 1 && chunkChannels >= 1 && chunksInFlight >= 1,
      "channelsMax, chunkChannels and chunksInFlight must be above zero")
    try require(
      payloadBytesMax >= 0 && payloadBytesMax <= connection.replyBytesMax,
      "payloadBytesMax must lie between 0 and connection.replyBytesMax")
  }
}

private func require(_ law: Bool, _ message: String) throws(RedisOptionsError) {
  if !law { throw RedisOptionsError(message: message) }
}

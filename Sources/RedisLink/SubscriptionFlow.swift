/// One channel to be subscribed to or left.
struct SubscriptionChange: Sendable, Hashable {
  enum Kind: Sendable, Hashable { case subscribe, unsubscribe }

  let kind: Kind
  let channel: [UInt8]
  /// The caller's change that this is part of.
  let revision: UInt64
}

/// What is wanted: the truth that every new connection starts from.
///
/// Pure. Numbers the changes: a call that changes nothing has the number of the one before.
struct DesiredChannels {
  private(set) var channels: Set<[UInt8]> = []
  private(set) var revision: UInt64 = 0

  /// The changes that subscribing means. Throws, and changes nothing, beyond `max` channels.
  mutating func subscribe(
    _ wanted: some Sequence<[UInt8]>, max: Int
  ) throws(RedisFailure) -> [SubscriptionChange] {
    var added: [SubscriptionChange] = []
    for channel in wanted where channels.insert(channel).inserted {
      added.append(
        SubscriptionChange(kind: .subscribe, channel: channel, revision: revision + 1))
    }
    if channels.count > max {
      for change in added { channels.remove(change.channel) }
      throw .full
    }
    if !added.isEmpty { revision += 1 }
    return added
  }

  mutating func unsubscribe(_ unwanted: some Sequence<[UInt8]>) -> [SubscriptionChange] {
    var removed: [SubscriptionChange] = []
    for channel in unwanted where channels.remove(channel) != nil {
      removed.append(
        SubscriptionChange(kind: .unsubscribe, channel: channel, revision: revision + 1))
    }
    if !removed.isEmpty { revision += 1 }
    return removed
  }
}

/// Brings the server to what is wanted: many channels a command, some commands ahead of their
/// confirmations, everything anew on each connection.
///
/// Pure. Invariant: the server's set is the confirmed changes applied in order, so what is
/// confirmed is a count and no second set.
struct SubscriptionFlow {
  let chunkChannels: Int
  let chunksInFlight: Int

  private var unsent = Queue<SubscriptionChange>()
  private var unconfirmed = Queue<SubscriptionChange>()
  private var isConnected = false
  /// Changes up to this one came with the connection.
  private var startRevision: UInt64 = 0
  private var lastRevision: UInt64 = 0
  private(set) var subscribed = 0
  private(set) var confirmedRevision: UInt64 = 0

  init(chunkChannels: Int, chunksInFlight: Int) {
    self.chunkChannels = chunkChannels
    self.chunksInFlight = chunksInFlight
  }

  var isComplete: Bool { isConnected && unsent.isEmpty && unconfirmed.isEmpty }
  var isConfirming: Bool { !unconfirmed.isEmpty }

  /// A new connection, on which nothing is subscribed to.
  mutating func restart(with desired: DesiredChannels) {
    lose()
    isConnected = true
    startRevision = desired.revision
    lastRevision = desired.revision
    unsent = Queue(
      desired.channels.map {
        SubscriptionChange(kind: .subscribe, channel: $0, revision: desired.revision)
      })
    settle()
  }

  mutating func lose() {
    isConnected = false
    unsent = Queue()
    unconfirmed = Queue()
    subscribed = 0
  }

  /// Takes changes made since. Without a connection they are part of what the next one starts with.
  mutating func add(_ changes: [SubscriptionChange]) {
    guard isConnected else { return }
    for change in changes where change.revision > startRevision {
      unsent.append(change)
      lastRevision = change.revision
    }
  }

  /// The next command to send, if any and if enough of those before were confirmed.
  mutating func nextCommand() -> RedisCommand? {
    guard let kind = unsent.first?.kind,
      unconfirmed.count < chunkChannels * chunksInFlight
    else { return nil }
    var channels: [[UInt8]] = []
    var bytes = 0
    while let change = unsent.first, change.kind == kind, channels.count < chunkChannels,
      bytes < 64 << 10
    {
      channels.append(change.channel)
      bytes += change.channel.count
      unconfirmed.append(change)
      _ = unsent.popFirst()
    }
    return RedisCommand(kind == .subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE", bytes: channels)
  }

  /// The server confirms one channel. It must be the oldest that was sent.
  mutating func confirm(
    _ kind: SubscriptionChange.Kind, _ channel: [UInt8]
  ) throws(RedisFailure) {
    guard let change = unconfirmed.popFirst(), change.kind == kind, change.channel == channel else {
      throw .protocolViolation("a confirmation of what was not asked")
    }
    subscribed += kind == .subscribe ? 1 : -1
    let next = unconfirmed.first ?? unsent.first
    if let next, next.revision == change.revision { return }
    confirmedRevision = change.revision
    settle()
  }

  private mutating func settle() {
    if isComplete { confirmedRevision = lastRevision }
  }
}

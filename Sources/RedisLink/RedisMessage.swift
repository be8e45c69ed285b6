/// A message that was published on a channel.
public struct RedisMessage: Sendable, Hashable {
  public let channel: [UInt8]
  /// Empty if it was longer than the subscriber's `payloadBytesMax`.
  public let payload: [UInt8]
  /// Its length as published.
  public let payloadByteCount: Int

  /// Whether the payload was left out for its length.
  public var isOversize: Bool { payloadByteCount > payload.count }
}

/// How far a subscriber is.
public struct RedisSubscriberStatus: Sendable, Hashable {
  public var link: RedisLinkState
  /// Counts the connections that were let in. All channels are subscribed to anew on each.
  public var generation: UInt64 = 0
  /// Channels that are wanted.
  public var desired = 0
  /// Channels the server has confirmed on this connection.
  public var subscribed = 0
  /// All changes up to this one, as numbered by `subscribe` and `unsubscribe`, are in force.
  public var confirmedRevision: UInt64 = 0
  /// Whether the server has confirmed everything that is wanted, on this connection.
  public var isComplete = false
  /// Messages whose payload was left out for its length, so far.
  public var oversizeMessages: UInt64 = 0
}

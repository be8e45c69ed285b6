import Logging
import RedisLink
import Synchronization

/// The first door: commands published on the channel that is named after the controller's serial.
/// Listens on the channels of the controllers that are connected (see `ChannelSet`).
///
/// `sessions` is called by one thread; messages come on the subscriber's own.
final class RedisDoor: Sendable {
  /// The mailbox's own channel beside those of the controllers.
  struct MailBell: Sendable {
    var channel: String
    /// Something was posted for these; in order, once a turn.
    var rang: @Sendable ([UInt64]) -> Void
    /// From now on it is heard, on a new connection.
    var listening: @Sendable () -> Void
  }

  private let subscriber: RedisSubscriber
  private let channels: Mutex<ChannelSet>
  private let isClosed = Atomic<Bool>(false)
  private let log: Logger

  /// - Parameters:
  ///   - channelsMax: controllers there can be at a time.
  ///   - grace: how long the channel of a controller that left is listened on.
  ///   - bell: what of the mailbox is heard here.
  init(
    url: RedisURL, channelsMax: Int, grace: Duration, commands: CommandPipeline,
    bell: MailBell? = nil, log: Logger
  ) throws {
    var options = RedisSubscriberOptions()
    options.connection.clientName = "cluster-driver"
    options.payloadBytesMax = CommandPayload.bytesMax
    // Those that left within the grace are listened on too.
    options.channelsMax = channelsMax * 2 + 1
    let reporter = RedisReporter(url: url, log: log)
    let bellChannel = Array((bell?.channel ?? "").utf8)
    let heard = Mutex<UInt64>(0)
    self.subscriber = try RedisSubscriber(
      url, options: options,
      onMessages: { messages in
        var rung: [UInt64] = []
        for message in messages {
          if bell != nil, message.channel == bellChannel {
            let text = String(decoding: message.payload, as: UTF8.self)
            if let serial = CommandPayload.serial(channel: text) { rung.append(serial) }
          } else {
            RedisDoor.take(message, commands)
          }
        }
        if !rung.isEmpty { bell?.rang(rung) }
      },
      onStatus: { status in
        reporter.changed(status.link)
        guard let bell, status.isComplete else { return }
        let isNew = heard.withLock { heard in
          defer { heard = status.generation }
          return heard != status.generation
        }
        if isNew { bell.listening() }
      })
    self.channels = Mutex(ChannelSet(grace: grace))
    self.log = log
    if bell != nil { try self.subscriber.subscribe([bellChannel]) }
  }

  private static func take(_ message: RedisMessage, _ commands: CommandPipeline) {
    let channel = String(decoding: message.channel, as: UTF8.self)
    guard let serial = CommandPayload.serial(channel: channel) else { return }
    guard !message.isOversize else {
      commands.complain(
        "a payload of \(message.payloadByteCount) bytes; the limit is \(CommandPayload.bytesMax)",
        serial: serial, door: .redis)
      return
    }
    commands.take(payload: message.payload, channel: serial)
  }

  /// Sessions that began and ended, in order; or none, so that time can pass. Returns when it wants
  /// to be called next without either.
  func sessions(_ changes: [SessionChange]) -> ContinuousClock.Instant? {
    if self.isClosed.load(ordering: .acquiring) { return nil }
    return self.channels.withLock { channels in
      let now = ContinuousClock.now
      for change in changes {
        if change.isConnected {
          channels.connected(change.serial)
        } else {
          channels.disconnected(change.serial, at: now)
        }
      }
      let wanted = channels.takeChanges(at: now)
      if !wanted.isEmpty { self.apply(wanted) }
      return channels.wakeAt
    }
  }

  private func apply(_ changes: ChannelSet.Changes) {
    do {
      // In this order, so that a full set has room for those that came.
      try self.subscriber.unsubscribe(changes.unsubscribe.lazy.map { Array("\($0)".utf8) })
      try self.subscriber.subscribe(changes.subscribe.lazy.map { Array("\($0)".utf8) })
    } catch {
      self.log.error(
        "\(changes.subscribe.count) controllers cannot be reached through Redis: \(error)")
    }
  }

  var link: RedisLinkState { self.subscriber.currentStatus.link }

  /// Grows at least once a second while the subscriber's thread lives.
  var progress: UInt64 { self.subscriber.turns }

  /// Reads the files of Redis' TLS for the connections to come. BLOCKS on the disk. Throws what is wrong
  /// with them; then the former ones stay.
  func renewTLS() throws { try self.subscriber.renewTLS() }

  /// Nothing is heard any more, and nobody counted as one who hears.
  func close() {
    self.isClosed.store(true, ordering: .releasing)
    self.subscriber.close()
  }
}

/// Says once when Redis is gone and once when it is back.
private final class RedisReporter: Sendable {
  private let wasUp = Mutex<Bool?>(nil)
  private let url: RedisURL
  private let log: Logger

  init(url: RedisURL, log: Logger) {
    self.url = url
    self.log = log
  }

  func changed(_ link: RedisLinkState) {
    switch link {
    case .up:
      if self.turn(to: true) { self.log.notice("connected to \(self.url)") }
    case .down(let failure, _, let attempts):
      // The first word on a link is that nothing was tried yet.
      if failure == .notYetConnected && attempts == 0 { return }
      if self.turn(to: false) {
        self.log.warning("no connection to \(self.url), trying again: \(failure)")
      }
    case .closed:
      break
    }
  }

  private func turn(to isUp: Bool) -> Bool {
    self.wasUp.withLock { wasUp in
      defer { wasUp = isUp }
      return wasUp != isUp
    }
  }
}

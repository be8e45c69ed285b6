import DriverProtocol
import Election
import SwiftProtobuf

@testable import ClusterDriver

/// Two nodes with their mailboxes and pipelines, some controllers, Redis and a vendor app; everything
/// that happens is chosen by a seed.
struct MailboxWorld {
  struct Node {
    var mailbox: MailboxMachine
    var commands = CommandMachine()
    var calls: [(number: UInt64, call: MailboxCall)] = []
    var letters: Set<CommandID> = []
    var messages: UInt64 = 0
    var acked: UInt64 = 0
    var actsUntil = ContinuousClock.Instant.now
  }

  /// As PROTOCOL.md has it: remembers results, acts once, and not after the deadline.
  struct Controller {
    var node: Int?
    var connection: UInt64 = 0
    var results: [CommandID: CommandStatus] = [:]
    var executed: [CommandID] = []
    var inbox: [ControllerCommand] = []
    var outbox: [(CommandID, CommandStatus)] = []
  }

  var redis = MailboxModel()
  var isRedisAway = false
  var nodes: [Node]
  var controllers: [UInt64: Controller] = [:]
  /// All that was posted, and every result the vendor app was told.
  var posted: [CommandID: (letter: Letter, notAfterMs: UInt64)] = [:]
  var told: [CommandID: [CommandStatus]] = [:]
  var late: [CommandID] = []
  var now = Moment(uptime: .now, utcMs: 1_700_000_000_000)
  private var dice: SplitMix64
  private var ids: UInt64 = 0
  private var connections: UInt64 = 0
  private var isReturning = false
  private static let settings = {
    var settings = MailboxMachine.Settings()
    settings.givenMax = 3
    settings.lookPage = 2
    settings.boxesPerCall = 2
    settings.callsMax = 3
    settings.scanPage = 3
    return settings
  }()

  init(seed: UInt64) {
    self.dice = SplitMix64(seed: seed)
    self.nodes = (0..<2).map { _ in Node(mailbox: MailboxMachine(settings: Self.settings)) }
    for serial in 1...3 as ClosedRange<UInt64> { self.controllers[serial] = Controller() }
    self.tell(0, .acting([self.redis.range]))
  }

  private mutating func roll(_ n: Int) -> Int { Int(self.dice.next() % UInt64(n)) }

  // MARK: What happens

  mutating func happen() {
    let serial = UInt64(1 + self.roll(3))
    switch self.roll(40) {
    case 0...2: self.post(serial)
    case 3...5: self.connect(serial)
    case 6: if self.roll(3) == 0 { self.disconnect(serial) }
    case 7...20: self.answerCall(self.roll(2))
    case 21...26: self.deliver(serial)
    case 27...32: self.answer(serial)
    case 33: self.acknowledge(self.roll(2))
    case 34...36: self.pass(.milliseconds(self.roll(300)))
    case 37: if self.roll(8) == 0 { self.pass(.seconds(self.roll(8))) }
    case 38: if self.isRedisAway || self.roll(6) == 0 { self.isRedisAway.toggle() }
    default: if self.roll(2) == 0 { self.change(kills: self.roll(2) == 0) }
    }
  }

  mutating func post(_ serial: UInt64) {
    self.ids += 1
    var id = CommandID(high: 7, low: self.ids)
    // Sometimes once more.
    if self.ids > 1, self.roll(6) == 0 {
      id = CommandID(high: 7, low: 1 + UInt64(self.roll(Int(self.ids - 1))))
    }
    guard !self.isRedisAway else { return }
    var command = Clusterdriver_V1_Command()
    command.queryStatus = Clusterdriver_V1_QueryStatus()
    let notAfterMs = self.now.utcMs + UInt64(self.roll(15_000))
    command.notAfterMs = notAfterMs
    if let letter = self.redis.post(command, serial: serial, id: id, nowMs: self.now.utcMs) {
      self.posted[id] = (letter, notAfterMs)
    }
    // A bell is lost now and then.
    if self.roll(10) > 0 { for node in 0..<2 { self.tell(node, .rang([serial])) } }
  }

  mutating func connect(_ serial: UInt64) {
    guard self.controllers[serial]!.node == nil else { return }
    self.connections += 1
    let owner = self.redis.owner
    self.controllers[serial]!.node = owner
    self.controllers[serial]!.connection = self.connections
    self.session(serial, on: owner, isConnected: true)
  }

  /// What is on its way is lost.
  mutating func disconnect(_ serial: UInt64) {
    guard let node = self.controllers[serial]!.node else { return }
    self.controllers[serial]!.node = nil
    self.controllers[serial]!.inbox = []
    self.controllers[serial]!.outbox = []
    self.session(serial, on: node, isConnected: false)
  }

  private mutating func session(_ serial: UInt64, on node: Int, isConnected: Bool) {
    let connection = self.controllers[serial]!.connection
    self.tell(
      node,
      .sessions([SessionChange(serial: serial, connection: connection, isConnected: isConnected)]))
    self.apply(
      node,
      isConnected
        ? .connected(serial: serial, connection: connection)
        : .disconnected(serial: serial, connection: connection))
  }

  /// Redis answers a call, or it is lost before or behind.
  mutating func answerCall(_ node: Int) {
    guard !self.nodes[node].calls.isEmpty else { return }
    let (number, call) = self.nodes[node].calls.removeFirst()
    let luck = self.roll(12)
    if self.isRedisAway || luck == 0 { return self.tell(node, .replied(number, .failed)) }
    let reply = self.redis.run(call, by: node)
    self.tell(node, .replied(number, luck == 1 ? .failed : reply))
  }

  mutating func deliver(_ serial: UInt64) {
    guard !self.controllers[serial]!.inbox.isEmpty else { return }
    let command = self.controllers[serial]!.inbox.removeFirst()
    var status = self.controllers[serial]!.results[command.id]
    if status == nil {
      status = command.notAfterMs <= self.now.utcMs ? .expired : .done
      self.controllers[serial]!.results[command.id] = status
      if status == .done {
        self.controllers[serial]!.executed.append(command.id)
        if command.notAfterMs < self.now.utcMs { self.late.append(command.id) }
      }
    }
    self.controllers[serial]!.outbox.append((command.id, status!))
  }

  mutating func answer(_ serial: UInt64) {
    guard let node = self.controllers[serial]!.node, !self.controllers[serial]!.outbox.isEmpty
    else {
      return
    }
    let (id, status) = self.controllers[serial]!.outbox.removeFirst()
    self.apply(node, .result(id, status: status, reason: 0, index: 0, body: []))
  }

  mutating func acknowledge(_ node: Int) {
    self.nodes[node].acked = self.nodes[node].messages
    self.tell(node, .acked(through: self.nodes[node].messages))
  }

  mutating func pass(_ time: Duration) {
    self.now = Moment(
      uptime: self.now.uptime.advanced(by: time),
      utcMs: self.now.utcMs + time.microseconds / 1000)
    for node in 0..<2 {
      self.apply(node, .tick)
      self.tell(node, .tick)
    }
  }

  /// The other node takes over; the former may be dead, or not have noticed yet.
  mutating func change(kills: Bool) {
    guard !self.isRedisAway else { return }
    let former = self.redis.owner
    let next = 1 - former
    for serial in self.controllers.keys.sorted() { self.disconnect(serial) }
    self.redis.owner = next
    self.redis.range.epoch = Epoch(self.redis.range.epoch.rawValue + 1)
    if kills {
      self.nodes[former] = Node(mailbox: MailboxMachine(settings: Self.settings))
    } else if self.roll(2) == 0 {
      self.tell(former, .acting([]))
    }
    self.tell(next, .acting([self.redis.range]))
  }

  // MARK: The shells

  private mutating func tell(_ node: Int, _ event: MailboxMachine.Event) {
    for directive in self.nodes[node].mailbox.step(event, at: self.now) {
      switch directive {
      case .call(let number, let call): self.nodes[node].calls.append((number, call))
      case .give(let commands):
        self.isReturning = false
        for command in commands {
          // As CommandPipeline: where one comes back at once, none behind it goes.
          if self.isReturning {
            self.tell(node, .pipeline(.putBack(command.id)))
          } else {
            self.nodes[node].letters.insert(command.id)
            self.apply(node, .taken(command, .mailbox))
          }
        }
      case .send(let ids, let results):
        for result in results {
          let result = try! Clusterdriver_V1_CommandResult(serializedBytes: result)
          self.told[CommandID(result.id)!, default: []].append(
            CommandStatus(rawValue: UInt8(result.status.rawValue))!)
        }
        self.nodes[node].messages += 1
        self.tell(node, .sent(ids, message: self.nodes[node].messages))
      case .complain: break
      case .noted: preconditionFailure("there are no lists")
      }
    }
  }

  private mutating func apply(_ node: Int, _ event: CommandMachine.Event) {
    for directive in self.nodes[node].commands.step(event, at: self.now) {
      switch directive {
      case .post(let command):
        let controller = self.controllers[command.serial]!
        if controller.node != node {
          self.apply(node, .notPosted(command.id, .notConnected))
        } else if case .taken = event, self.roll(15) == 0 {
          // Of a session that has just begun the queue is empty.
          self.apply(node, .notPosted(command.id, .queueFull))
        } else if command.notAfterMs <= self.now.utcMs,
          command.notAfterMs != ControllerCommand.notAfterPast
        {
          self.apply(node, .expired(command.id))
        } else {
          self.controllers[command.serial]!.inbox.append(command)
          self.apply(node, .sent(command.id, connection: controller.connection))
        }
      case .finish(let result), .deliverAgain(let result):
        if self.nodes[node].letters.remove(result.id) != nil {
          self.tell(node, .pipeline(.ended(result)))
        }
      case .putBack(let id):
        self.isReturning = true
        if self.nodes[node].letters.remove(id) != nil { self.tell(node, .pipeline(.putBack(id))) }
      case .pass, .awaitResult, .tell, .tellMissing:
        preconditionFailure("whoever is on its own passes nothing on")
      }
    }
  }

  // MARK: The end

  /// All is well for long enough that everything has to have ended.
  mutating func heal() {
    self.isRedisAway = false
    for round in 0..<600
    where !self.redis.index.isEmpty || !self.nodes[self.redis.owner].mailbox.isIdle {
      for serial in self.controllers.keys.sorted() {
        if round > 300 || self.roll(2) == 0 { self.connect(serial) }
        self.deliver(serial)
        self.answer(serial)
      }
      for node in 0..<2 {
        for _ in 0..<3 { self.answerCall(node) }
        self.acknowledge(node)
      }
      self.pass(.milliseconds(500))
    }
  }
}

import CSCP
import CSystem
import Glibc
import Logging

/// A node's life: the order in which its parts begin and end.
///
/// Begins: log, the controllers' port, metrics and admin service, the link to the vendor app, and only
/// then the cluster is joined, and controllers are welcomed as far as they are this node's. Neither the
/// vendor app nor Redis has to be there; without Redis nothing is this node's. Ends, on SIGTERM or
/// SIGINT: no new controllers, those that are here are told to go, what is under way is carried to its
/// end within a limit, what the node owns is given back, and then everything is closed. A second
/// signal ends the process at once.
///
/// With `--parking` it is not for this process to say whether it ends for good: the service manager
/// says so, by keeping the connections or not. So nobody is told to go and nothing is given back; what
/// the vendor app has not acknowledged comes again, to the next process.
final class Daemon {
  /// Controllers that are told to go come back after a random part of this.
  static let goAwaySpread: Duration = .seconds(2)
  /// For what is under way: events to be acknowledged, commands to be answered.
  static let stopLimit: Duration = .seconds(5)
  /// For the vendor app to close its side of the stream.
  static let detachLimit: Duration = .seconds(1)

  private let node: Node
  /// In force.
  private var config: NodeConfiguration
  private let reader: ConfigurationReader
  private let log: Logger
  private var metrics: MetricsServer?
  private var admin: (server: AdminServer, serving: Awaited<AdminServer.Failure?>)?
  private var link: Awaited<Void>?
  private var chores: Chores?
  private var readyFile: ReadyFile?

  /// Binds the controllers' port. Nothing is served yet.
  ///
  /// - Parameter reader: of the configuration; asked again when it is to be reloaded.
  init(_ config: NodeConfiguration, reader: ConfigurationReader, log: NodeLog) throws {
    self.config = config
    self.reader = reader
    self.node = try Node(config, log: log)
    self.log = log.logger("node")
    self.logs = log
  }

  private let logs: NodeLog

  /// Serves until a signal comes. What is thrown is why it could not begin; it has cleaned up then.
  func run(_ signals: borrowing Signals) throws {
    do {
      try self.start()
    } catch {
      self.close()
      throw error
    }
    while signals.wait(nil) == .reload { self.reload() }
    self.stop(signals)
    self.close()
  }

  // MARK: Start

  private func start() throws {
    let port = self.node.layer.port
    if let address = self.config.metrics.address(controllerPort: port) {
      self.metrics = try MetricsServer(address: address, source: self.node)
    }
    let adminAddress = try self.startAdmin(port: port)
    let node = self.node
    self.link = Awaited { await node.link.run() }
    self.node.mailbox?.start()
    self.node.ownership.begin()
    self.node.taker.start()
    self.node.state = .serving
    let chores = Chores(self.node, admin: self.admin?.server, log: self.log)
    chores.start()
    self.chores = chores
    let metricsAddress = self.metrics?.address.description
    if let path = self.config.readyFile {
      let file = ReadyFile(path: path)
      try file.write(
        ReadyFile.contents(
          port: port, admin: adminAddress.description, metrics: metricsAddress, pid: getpid()))
      self.readyFile = file
    }
    ServiceManager.tell("READY=1")
    self.tellWhatWasLeft()
    self.log.notice(
      "serving controllers",
      metadata: [
        "port": "\(port)", "node": "\(self.node.identity.nodeID)",
        "admin": "\(adminAddress)", "metrics": "\(metricsAddress ?? "off")",
        "vendor": "\(self.config.vendor)", "redis": "\(self.config.redis)",
        "version": "\(NodeVersion.current)",
      ])
  }

  private func tellWhatWasLeft() {
    let resumption = self.node.layer.resumption
    if let summary = resumption.summary { self.log.notice("\(summary)") }
    if let trouble = resumption.trouble { self.log.error("\(trouble)") }
  }

  private func startAdmin(port: UInt16) throws -> AdminAddress {
    let wanted: AdminAddress
    if let address = self.config.admin {
      wanted = address
    } else {
      wanted = .unix(
        try AdminSocket.usualPath(port: port, environment: ProcessEnvironment.variables))
    }
    let server = try AdminServer(address: wanted, node: self.node, log: self.logs.logger("admin"))
    let serving = Awaited<AdminServer.Failure?> {
      do throws(AdminServer.Failure) {
        try await server.serve()
        return nil
      } catch {
        return error
      }
    }
    self.admin = (server: server, serving: serving)
    let bound = Awaited<Result<AdminAddress, AdminServer.Failure>> {
      do throws(AdminServer.Failure) {
        return .success(try await server.address)
      } catch {
        return .failure(error)
      }
    }
    guard let result = bound.wait(.seconds(10)) else {
      throw AdminServer.Failure(description: "the admin service at \(wanted) did not start in 10 s")
    }
    return try result.get()
  }

  // MARK: Reload

  /// Takes what has changed in the configuration's files, and the certificates; all of it or, when
  /// anything is wrong with it, nothing.
  private func reload() {
    ServiceManager.tell("RELOADING=1\nMONOTONIC_USEC=\(ServiceManager.monotonicMicroseconds)")
    do {
      if case .run(let new, _) = try self.reader.read() { try self.take(new) }
    } catch {
      let problems = (error as? ConfigurationError)?.problems ?? ["\(error)"]
      for problem in problems {
        self.log.error("the configuration stays as it was: \(problem)")
      }
      self.node.refusal = problems.first
    }
    ServiceManager.tell("READY=1\nSTATUS=\(self.chores?.status ?? "")")
  }

  private func take(_ new: NodeConfiguration) throws {
    try self.node.renewTLS()
    let change = ConfigurationChange(from: self.config, to: new)
    self.logs.queue.level = new.logLevel.level
    self.node.outbox.bound(bytesMax: new.inFlightBytes)
    self.config.logLevel = new.logLevel
    self.config.inFlightBytes = new.inFlightBytes
    self.node.refusal = nil
    let taken = change.taken.isEmpty ? "nothing" : change.taken.joined(separator: ",")
    self.log.notice("the configuration was read again", metadata: ["changed": "\(taken)"])
    guard !change.left.isEmpty else { return }
    self.log.warning(
      "these settings have changed and need a restart; with --parking that disconnects nobody",
      metadata: ["settings": "\(change.left.joined(separator: ","))"])
  }

  // MARK: Stop

  private func stop(_ signals: borrowing Signals) {
    self.log.notice("stopping")
    ServiceManager.tell("STOPPING=1")
    self.node.state = .stopping
    self.readyFile?.remove()
    guard !self.node.layer.isParked else { return }
    self.node.layer.stopAccepting(
      goAway: true, spreadMs: UInt32(Daemon.goAwaySpread.millisecondsRoundedUp))
    self.node.ownership.stop()
    self.node.mailbox?.happened(.stop)
    self.node.commands.stop()
    let end = ContinuousClock.now.advanced(by: Daemon.stopLimit)
    while !self.isDone && .now < end {
      if signals.wait(.milliseconds(20)) == .end { Daemon.endAtOnce() }
    }
    // Nothing more is heard: whoever publishes is told that nobody does.
    self.node.redis?.close()
    self.node.commands.end()
    self.handOver()
    self.node.ownership.finish()
  }

  /// What the vendor app has not acknowledged: the events are the controllers' to keep, the results are
  /// in this process only.
  private func handOver() {
    let left = self.node.outbox.counters
    guard left.messages > 0 else { return }
    let results = self.node.commands.unacknowledgedResults
    let kept = results.isEmpty ? 0 : self.node.ownership.handOver(results)
    self.log.warning(
      """
      \(left.events) events and \(left.results) results were not acknowledged by the vendor app in \
      time; the controllers keep the events and send them to whoever serves them next
      """, metadata: ["kept_by_peers": "\(kept)"])
  }

  /// Nothing is under way any more. With the vendor app away only what goes to peers is waited for.
  private var isDone: Bool {
    let counters = self.node.layer.counters()
    guard counters.sessions == 0 else { return false }
    if self.node.link.up == nil { return self.node.commands.away == 0 }
    return self.node.outbox.isEmpty && self.node.commands.isIdle
      && self.node.mailbox?.isDone ?? true
  }

  private static func endAtOnce() -> Never {
    _exit(1)
  }

  /// Ends whatever was begun.
  private func close() {
    self.readyFile?.remove()
    self.node.taker.stop()
    self.node.link.stop()
    if let link = self.link {
      if self.node.link.up == nil || link.wait(Daemon.detachLimit) == nil { link.cancel() }
      _ = link.wait(Daemon.detachLimit)
    }
    if let admin = self.admin {
      admin.server.shutDown()
      _ = admin.serving.wait(.seconds(2))
    }
    self.node.ownership.close()
    self.node.redis?.close()
    self.node.mailbox?.close()
    self.chores?.stop()
    self.metrics = nil
    self.log.notice("stopped")
  }
}

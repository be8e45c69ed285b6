import CSystem
import Glibc
import Logging

/// A node's life: the order in which its parts begin and end.
///
/// Begins: log, the controllers' port, metrics and admin service, the link to the vendor app, and only
/// then the cluster is joined, and controllers are welcomed as far as they are this node's. Neither the
/// vendor app nor Redis has to be there; without Redis nothing is this node's. Ends, on SIGTERM or
/// SIGINT, as `Departure` says, and then everything is closed. A second signal ends the process at once.
///
/// With `--parking` SIGTERM and SIGINT are not the node's end: the next process goes on with its
/// connections. So nobody is told to go and nothing is given back; what the vendor app has not
/// acknowledged comes again. That there is no next process SIGUSR1 says (Docs/adr/0019-stop-or-restart.md),
/// which whoever stops the unit lets come before SIGTERM.
final class Daemon {
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
  private let lives: LivesFile?

  /// Binds the controllers' port. Nothing is served yet.
  ///
  /// - Parameter reader: of the configuration; asked again when it is to be reloaded.
  init(_ config: NodeConfiguration, reader: ConfigurationReader, log: NodeLog) throws {
    self.config = config
    self.reader = reader
    self.node = try Node(config, log: log)
    self.log = log.logger("node")
    self.logs = log
    self.lives =
      config.port == 0
      ? nil : LivesFile(port: config.port, environment: ProcessEnvironment.variables)
  }

  private let logs: NodeLog

  /// Serves until a signal comes. What is thrown is why it could not begin; it has cleaned up then.
  func run(_ signals: borrowing Signals) throws {
    var order: Signals.Order?
    do {
      order = self.pauseIfItKeepsDying(signals)
      if order == nil { try self.start() }
    } catch {
      self.close()
      throw error
    }
    if order == nil { order = signals.wait(nil) }
    while order == .reload {
      self.reload()
      order = signals.wait(nil)
    }
    self.lives?.end()
    // The SIGTERM that comes after SIGUSR1 says nothing new.
    self.stop(
      signals, forGood: order == .leave || !self.node.layer.isParked, ends: order == .leave ? 1 : 0)
    self.close()
  }

  // MARK: Start

  /// A node that dies again and again lets its session run out before it joins, so that its peers serve its
  /// controllers; those that came in by it stay connected. Returns the signal that came meanwhile.
  private func pauseIfItKeepsDying(_ signals: borrowing Signals) -> Signals.Order? {
    guard self.lives?.begin() == true else { return nil }
    self.log.critical(
      """
      this node has begun more than \(Lives.deathsMax) times in \(Lives.window) and never ended in order: \
      for \(Lives.pause) it stays out of its cluster, so that the others take what it had
      """)
    let end = ContinuousClock.now.advanced(by: Lives.pause)
    while .now < end {
      if let order = signals.wait(end - .now), order != .reload { return order }
    }
    return nil
  }

  private func start() throws {
    let port = self.node.layer.port
    if let address = self.config.metrics.address(controllerPort: port) {
      self.metrics = try MetricsServer(address: address, source: self.node)
    }
    let adminAddress = try self.startAdmin(port: port)
    let node = self.node
    self.link = Awaited { await node.link.run() }
    self.node.mailbox?.start()
    self.node.ownership.serve(NodeDesk(self.node))
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

  /// - Parameter forGood: there is no next process that the connections are left to.
  private func stop(_ signals: borrowing Signals, forGood: Bool, ends: Int) {
    self.log.notice(forGood ? "stopping" : "ending; the connections are the next process'")
    ServiceManager.tell("STOPPING=1")
    self.node.state = .stopping
    self.readyFile?.remove()
    guard forGood else { return }
    var departure = Departure(self.node, ends: ends, log: self.log)
    departure.run(signals)
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

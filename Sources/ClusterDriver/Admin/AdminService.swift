internal import DriverProtocol
internal import Election
internal import GRPCCore
internal import SwiftProtobuf

/// `DriverAdmin` (driver_admin.proto), answered from a ``NodeView``.
struct AdminService: Clusterdriver_V1_DriverAdmin.SimpleServiceProtocol {
  /// Controllers asked for at a time.
  static let pageSize = 512

  let node: any NodeView

  func getNode(
    request: Clusterdriver_V1_GetNodeRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    guard let (other, peers) = try self.other(request.nodeID) else { return self.node.status() }
    return try await peers.describe(other)
  }

  func restartNode(
    request: Clusterdriver_V1_RestartNodeRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_NodeStatus {
    if let (other, peers) = try self.other(request.nodeID) {
      return try await peers.restart(other, incarnation: request.incarnation)
    }
    let node = self.node
    return try NodeDesk(describe: { node.status() }, restart: { node.restart() })
      .restart(incarnation: request.incarnation)
  }

  /// Another node than this one, and the way there; nil: it is this one.
  private func other(_ name: String) throws -> (NodeID, any NodePeers)? {
    if name.isEmpty || name == self.node.status().nodeID { return nil }
    let view = try self.cluster()
    let node = NodeID(name)
    let known = Set(view.peers.sessions.map(\.node)).union(view.list.nodes)
    guard known.contains(node), let peers = self.node.peers else {
      throw RPCError(
        code: .notFound,
        message: "the cluster has no node \"\(name.prefix(128))\"; it has "
          + known.sorted().map(\.name).joined(separator: ", "))
    }
    return (node, peers)
  }

  func listControllers(
    request: Clusterdriver_V1_ListNodeControllersRequest,
    response: RPCWriter<Clusterdriver_V1_NodeController>, context: ServerContext
  ) async throws {
    if request.serial != 0 {
      let found = try await self.page(from: request.serial, limit: 1)
      try await response.write(
        contentsOf: found.filter {
          $0.status.serial == request.serial && $0.backlog >= request.backlogMin
        })
      return
    }
    var from: UInt64 = 1
    while true {
      let page = try await self.page(from: from, limit: AdminService.pageSize)
      try await response.write(contentsOf: page.filter { $0.backlog >= request.backlogMin })
      guard page.count >= AdminService.pageSize, let last = page.last?.status.serial,
        last >= from, last < .max
      else { return }
      from = last + 1
    }
  }

  func sendCommand(
    request: Clusterdriver_V1_Command, context: ServerContext
  ) async throws -> Clusterdriver_V1_CommandResult {
    let awaited = AwaitedResult()
    // The command goes on to its end even when nobody waits any more.
    Task { awaited.end(with: await self.node.send(request)) }
    return try await withRPCCancellationHandler {
      try await awaited.value()
    } onCancelRPC: {
      awaited.giveUp()
    }
  }

  func tail(
    request: Clusterdriver_V1_NodeTailRequest, response: RPCWriter<Clusterdriver_V1_NodeTailItem>,
    context: ServerContext
  ) async throws {
    let hub = self.node.tail
    guard let reader = hub.open(serial: request.serial) else {
      throw RPCError(
        code: .resourceExhausted,
        message: "\(TailHub.readersMax) readers are tailing already; end one of them")
    }
    defer { hub.close(reader) }
    try await withRPCCancellationHandler {
      while let batch = await reader.next() {
        var items: [Clusterdriver_V1_NodeTailItem] = []
        items.reserveCapacity(batch.events.count + 1)
        if batch.missed > 0 { items.append(.with { $0.missed = batch.missed }) }
        for event in batch.events { items.append(.with { $0.event = event }) }
        try await response.write(contentsOf: items)
      }
    } onCancelRPC: {
      hub.close(reader)
    }
  }

  func getCluster(
    request: Clusterdriver_V1_GetClusterRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    Clusterdriver_V1_ClusterStatus(
      try self.cluster(), withRanges: !request.withoutRanges, at: .now)
  }

  func setDraining(
    request: Clusterdriver_V1_SetDrainingRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    _ = try self.cluster()
    self.node.drain(request.draining)
    return Clusterdriver_V1_ClusterStatus(try self.cluster(), withRanges: false, at: .now)
  }

  func getPlan(
    request: Clusterdriver_V1_GetPlanRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterPlan {
    let view = try self.cluster()
    return Clusterdriver_V1_ClusterPlan(
      view, moves: view.plannedMoves(at: .now), moveMs: self.node.history?.moveMs)
  }

  func setBalancing(
    request: Clusterdriver_V1_SetBalancingRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    try await self.order(.pauseBalancing(request.paused)) { $0.isPaused == request.paused }
  }

  func forgetMember(
    request: Clusterdriver_V1_ForgetMemberRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    let node = NodeID(request.nodeID)
    let list = try self.cluster().list
    guard list.removed.contains(node) else {
      let known = list.removed.map(\.name).joined(separator: ", ")
      throw RPCError(
        code: .failedPrecondition,
        message: "\"\(node.name.prefix(80))\" is not among the members that were taken off the list"
          + " (\(known.isEmpty ? "there are none" : known)): one that is listed is taken off 10 s after it"
          + " is dead")
    }
    return try await self.order(.forget(node)) { !$0.list.removed.contains(node) }
  }

  func getHistory(
    request: Clusterdriver_V1_GetHistoryRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_ClusterHistory {
    Clusterdriver_V1_ClusterHistory(
      try self.cluster().me, self.node.history?.entries(after: request.after) ?? [])
  }

  /// How long an order may take to show in the node's view.
  static let orderLimit = Duration.seconds(3)

  private func order(
    _ order: OperatorOrder, isDone: (OwnershipView) -> Bool
  ) async throws -> Clusterdriver_V1_ClusterStatus {
    _ = try self.cluster()
    self.node.order(order)
    let end = ContinuousClock.now.advanced(by: AdminService.orderLimit)
    while true {
      let view = try self.cluster()
      if isDone(view) { return Clusterdriver_V1_ClusterStatus(view, withRanges: false, at: .now) }
      guard .now < end else {
        throw RPCError(
          code: .unavailable,
          message: "Redis has not shown within \(AdminService.orderLimit) that it was done; look at"
            + " `clusterctl topology`, and give the order again when Redis answers")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private func cluster() throws -> OwnershipView {
    if let cluster = self.node.cluster { return cluster }
    throw RPCError(
      code: .failedPrecondition,
      message: "the node is not in a cluster: it is on its own (--redis memory:), or has not"
        + " reached Redis yet")
  }

  private func page(
    from serial: UInt64, limit: Int
  ) async throws -> [Clusterdriver_V1_NodeController] {
    let answer = await onThreadOfItsOwn("admin-list") {
      Result { () throws(NodeViewError) in try self.node.sessions(from: serial, limit: limit) }
    }
    switch answer {
    case .success(let page): return page
    case .failure(.timedOut(let why)): throw RPCError(code: .unavailable, message: why)
    case nil:
      throw RPCError(code: .resourceExhausted, message: "the node cannot start another thread")
    }
  }
}

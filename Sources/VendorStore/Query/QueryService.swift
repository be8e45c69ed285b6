internal import DriverProtocol
internal import GRPCCore

/// `VendorQuery`: what people and tools ask.
struct QueryService: Clusterdriver_V1_VendorQuery.SimpleServiceProtocol {
  static let listMax = 100_000

  var store: any EventStore
  var counters: Counters
  var tailHub: TailHub
  var commands: CommandDesk
  var roster: NodeRoster
  var directory: ControllerDirectory

  func listControllers(
    request: Clusterdriver_V1_ListControllersRequest,
    response: RPCWriter<Clusterdriver_V1_ControllerRecord>, context: ServerContext
  ) async throws {
    let records = try await asked { try await store.controllers(serial: request.serial) }
    for record in records
    where request.state == .unspecified || record.status.state == request.state {
      try await response.write(record)
    }
  }

  func listEvents(
    request: Clusterdriver_V1_ListEventsRequest,
    response: RPCWriter<Clusterdriver_V1_Event>, context: ServerContext
  ) async throws {
    guard request.limit <= Self.listMax else {
      throw RPCError(
        code: .invalidArgument,
        message: "limit \(request.limit) is over \(Self.listMax); ask for a span of time instead.")
    }
    let query = EventQuery(
      serial: request.serial, from: request.fromMs, before: request.beforeMs,
      limit: request.limit == 0 ? 1_000 : Int(request.limit))
    let events = try await asked { try await store.events(query) }
    try await write(events, to: response) { $0 }
  }

  func tail(
    request: Clusterdriver_V1_TailRequest,
    response: RPCWriter<Clusterdriver_V1_TailItem>, context: ServerContext
  ) async throws {
    let reader = try tailHub.open(serial: request.serial)
    defer { tailHub.close(reader) }
    try await withTaskCancellationHandler {
      try await withRPCCancellationHandler {
        while let items = await reader.next() {
          for item in items { try await write(item, to: response) }
        }
      } onCancelRPC: {
        reader.close()
      }
    } onCancel: {
      reader.close()
    }
  }

  private func write(
    _ item: TailReader.Item, to response: RPCWriter<Clusterdriver_V1_TailItem>
  ) async throws {
    switch item {
    case .missed(let count):
      var missed = Clusterdriver_V1_TailItem()
      missed.missed = count
      try await response.write(missed)
    case .events(let events):
      try await write(events, to: response) { event in
        var item = Clusterdriver_V1_TailItem()
        item.event = event
        return item
      }
    }
  }

  /// In portions: as objects the events take several times the room they have as rows.
  private func write<Element>(
    _ events: EventRows, to response: RPCWriter<Element>,
    as element: (Clusterdriver_V1_Event) -> Element
  ) async throws {
    for start in stride(from: 0, to: events.count, by: 256) {
      let portion = (start..<min(start + 256, events.count)).map { element(events.event(at: $0)) }
      try await response.write(contentsOf: portion)
    }
  }

  func audit(
    request: Clusterdriver_V1_AuditRequest,
    response: RPCWriter<Clusterdriver_V1_LogAudit>, context: ServerContext
  ) async throws {
    let last = request.lastSerial == 0 ? UInt64.max : request.lastSerial
    guard request.firstSerial <= last else {
      throw RPCError(
        code: .invalidArgument,
        message: "first_serial \(request.firstSerial) is over last_serial \(last).")
    }
    let audits = try await asked { try await store.audit(request.firstSerial...last) }
    try await response.write(contentsOf: audits)
  }

  func getStats(
    request: Clusterdriver_V1_GetStatsRequest, context: ServerContext
  ) async throws -> Clusterdriver_V1_Stats {
    var stats = counters.stats
    stats.nodesAttached = UInt32(roster.count)
    stats.controllersOnline = UInt64(directory.online)
    return stats
  }

  func sendCommand(
    request: Clusterdriver_V1_Command, context: ServerContext
  ) async throws -> Clusterdriver_V1_CommandResult {
    // A repeated id gets its first result, also after that has left every memory but the disk.
    if let id = CommandID(request.id), let first = try? await store.result(id: id) { return first }
    var request = request
    // A list goes on where it was when the vendor app last heard of it, in whatever life of its own.
    if request.isSequence, let id = CommandID(request.id),
      let known = try await asked({ try await store.progress(id: id) })
    {
      request.resume(at: known.done)
    }
    return try await commands.carryOut(request)
  }

  func listSequences(
    request: Clusterdriver_V1_ListSequencesRequest,
    response: RPCWriter<Clusterdriver_V1_SequenceRecord>, context: ServerContext
  ) async throws {
    try await response.write(
      contentsOf: try await asked { try await store.sequences(serial: request.serial) })
  }

  private func asked<T>(_ query: () async throws -> T) async throws -> T {
    do {
      return try await query()
    } catch let error as StoreError {
      throw RPCError(code: .unavailable, message: "\(error)", cause: error)
    }
  }
}

internal import DriverProtocol
internal import GRPCCore
internal import Logging
internal import Synchronization

/// One call of Attach: a task that reads, and the call's own, which writes what the outbox holds and
/// ends with it.
final class AttachSession: Sendable {
  fileprivate struct State {
    var reader: Task<Void, Never>?
    var stream: AttachedStream?
  }

  private let service: AttachService
  private let peer: String
  private let outbox = Outbox()
  private let state = Mutex(State())

  init(service: AttachService, peer: String) {
    self.service = service
    self.peer = peer
  }

  func run(
    _ messages: RPCAsyncSequence<NodeMessage, any Error>, _ writer: RPCWriter<Outgoing>
  ) async throws {
    // Not awaited at the end: should a transport's stream not heed the task's cancellation, it ends
    // with the call, and the call ends now.
    let reader = Task { await read(messages) }
    state.withLock { $0.reader = reader }
    defer { leave() }
    try await withTaskCancellationHandler {
      try await withRPCCancellationHandler {
        while let batch = try await outbox.next() {
          try await writer.write(contentsOf: batch.map { Outgoing($0, service.misbehaviour) })
        }
      } onCancelRPC: {
        self.outbox.finish(.failure(.cancelledCall))
      }
    } onCancel: {
      outbox.finish(.failure(.cancelledCall))
    }
  }

  private func leave() {
    let (reader, stream) = state.withLock { state in
      defer { state = State() }
      return (state.reader, state.stream)
    }
    // Before the queue forgets: what the reader still submits afterwards is refused.
    outbox.finish(.failure(.cancelledCall))
    reader?.cancel()
    guard let stream else { return }
    stream.budget.close()
    service.desks.queue.forget(stream: stream.id)
    if service.desks.roster.detach(stream) {
      service.logger.notice("node detached", metadata: ["node": "\(stream.node.id)"])
    }
  }

  // MARK: The reader

  private func read(_ messages: RPCAsyncSequence<NodeMessage, any Error>) async {
    var order = MessageOrder()
    var stream: AttachedStream?
    do {
      for try await message in messages {
        try order.take(message)
        if let stream {
          guard await take(message, stream) else { return }
        } else if case .hello(let hello) = message.content {
          stream = try open(hello)
        }
      }
      guard let stream else { throw RPCError.invalid("the stream ended before Hello") }
      // Its end, or that of our patience with it.
      stream.finishWhenDone(stream.isStopping ? .failure(.stopping) : .success(()))
    } catch {
      if let stream, stream.isStopping {
        stream.finishWhenDone(.failure(.stopping))
      } else {
        refuse(error, stream)
      }
    }
  }

  private func refuse(_ error: any Error, _ stream: AttachedStream?) {
    let status = error as? RPCError ?? .cancelledCall
    if status.code == .invalidArgument || status.code == .failedPrecondition {
      service.logger.error(
        "a stream is ended: \(status.message)",
        metadata: ["node": "\(stream?.node.id ?? "unknown")", "peer": "\(peer)"])
    }
    outbox.finish(.failure(status))
  }

  private func open(_ hello: Clusterdriver_V1_Hello) throws -> AttachedStream {
    let stream = AttachedStream(
      id: service.desks.roster.newStreamID(), hello: hello, outbox: outbox,
      budget: service.budget, flowBytes: service.flowBytes,
      cancelReader: { [self] in state.withLock { $0.reader }?.cancel() })
    state.withLock { $0.stream = stream }
    try service.desks.roster.attach(stream)
    service.logger.notice(
      "node attached",
      metadata: [
        "node": "\(hello.nodeID)", "version": "\(hello.version)", "peer": "\(peer)",
        "incarnation": "\(hello.incarnation)", "next": "\(hello.nextNumber)",
      ])
    service.desks.commands.attached(stream)
    Task { await warnOfHole(before: hello.nextNumber, node: stream.node) }
    return stream
  }

  /// A node that goes on beyond what was committed has lost what is between, or this database has
  /// (restored from a backup). Told, not refused: to refuse would lose what comes as well.
  private func warnOfHole(before next: UInt64, node: NodeIdentity) async {
    guard let through = try? await service.desks.store.committedThrough(node) else { return }
    if next - 1 > through {
      service.logger.error(
        """
        node \(node.id) goes on at message \(next), but only \(through) is committed: the messages \
        between are missing here. Compare with `Audit`; was the database replaced?
        """)
    }
  }

  /// False when the stream has ended meanwhile.
  private func take(_ message: NodeMessage, _ stream: AttachedStream) async -> Bool {
    let desks = service.desks
    let content: Submission.Content
    let bytes: Int
    switch message.content {
    case .hello:
      return true
    case .events(let events):
      desks.access.answer(events, on: stream, now: .nowUTC)
      if message.number == 0 {
        desks.counters.sawAdvisories(events.count)
        return true
      }
      content = .events(events)
      bytes = events.byteCount
    case .results(let results):
      desks.commands.resolve(results)
      content = .results(results)
      bytes = results.reduce(0) { $0 + 256 + $1.body.count + $1.detail.utf8.count }
    case .statuses(let statuses):
      desks.directory.note(statuses, from: stream.node.id)
      desks.commands.reported(statuses)
      content = .statuses(statuses)
      bytes = statuses.reduce(0) { $0 + 512 + $1.reason.utf8.count + $1.peer.utf8.count }
    case .progress(let progress):
      desks.commands.progressed(progress, on: stream)
      content = .progress(progress)
      bytes = progress.count * 128
    }
    await stream.budget.take(bytes)
    if outbox.isFinished { return false }
    stream.submitted(message.number)
    desks.queue.add(
      CommitQueue.Entry(
        submission: Submission(
          stream: stream.id, node: stream.node, number: message.number, content: content),
        bytes: bytes, client: stream))
    return true
  }
}

extension RPCError {
  fileprivate static let cancelledCall = RPCError(
    code: .cancelled, message: "The call was cancelled.")
}

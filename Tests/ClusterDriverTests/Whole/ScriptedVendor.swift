import DriverProtocol
import GRPCCore
import GRPCNGHTTP2
import SwiftProtobuf
import Synchronization

@testable import ClusterDriver

/// A vendor app for tests: takes the Attach stream and behaves as it is told.
final class ScriptedVendor: Sendable {
  struct Identity: Hashable, Sendable {
    var serial: UInt64
    var seq: UInt64
  }

  enum Manner: Sendable {
    /// Acknowledges each message.
    case honest
    /// Takes messages and acknowledges nothing.
    case silent
    /// Does not even read.
    case hung
    /// Acknowledges what it was never sent.
    case ahead
    /// Answers with bytes that are no message.
    case garbage
    /// Refuses events below this owner epoch.
    case epochAtLeast(UInt64)
  }

  struct Seen: Sendable {
    var hellos: [Clusterdriver_V1_Hello] = []
    /// Of each stream, the numbers in the order they came.
    var numbers: [[UInt64]] = []
    var stored: [Identity: Int] = [:]
    var results: [Clusterdriver_V1_CommandResult] = []
    var statuses: [Clusterdriver_V1_ControllerStatus] = []
    var refused = 0
    var ended = 0
  }

  private struct State {
    var manner: Manner
    var seen = Seen()
    var commands: [Clusterdriver_V1_VendorMessage] = []
  }

  private let state: Mutex<State>
  private let server: GRPCServer<NGHTTP2ServerTransport>
  private let transport: NGHTTP2ServerTransport
  private let serving: Mutex<Task<Void, Never>?> = Mutex(nil)

  /// - Parameter port: 0 = any free one.
  init(port: Int = 0, manner: Manner = .honest) throws {
    self.state = Mutex(State(manner: manner))
    var config = NGHTTP2ServerConfig()
    config.shutdownGrace = .milliseconds(100)
    self.transport = try NGHTTP2ServerTransport(
      address: .tcp(host: "127.0.0.1", port: port), config: config)
    let service = Service()
    self.server = GRPCServer(transport: self.transport, services: [service])
    service.vendor.withLock { $0 = self }
    let server = self.server
    self.serving.withLock { $0 = Task { try? await server.serve() } }
  }

  var port: Int {
    get async throws {
      guard case .tcp(_, let port) = try await self.transport.listeningAddress else { return 0 }
      return port
    }
  }

  /// As if its process had ended.
  func die() async {
    self.serving.withLock { $0 }?.cancel()
    await self.serving.withLock { $0 }?.value
  }

  var now: Seen { self.state.withLock { $0.seen } }

  func behave(_ manner: Manner) { self.state.withLock { $0.manner = manner } }

  /// Sends a command, or whatever it is, on the stream.
  func say(_ message: Clusterdriver_V1_VendorMessage) {
    self.state.withLock { $0.commands.append(message) }
  }

  func command(_ command: Clusterdriver_V1_Command) {
    self.say(.with { $0.command = command })
  }

  private final class Service: RegistrableRPCService {
    let vendor = Mutex<ScriptedVendor?>(nil)

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
      router.registerHandler(
        forMethod: Clusterdriver_V1_DriverGateway.Method.Attach.descriptor,
        deserializer: Decoder(), serializer: RawMessageSerializer(),
        handler: { request, _ in
          guard let vendor = self.vendor.withLock({ $0 }) else { throw CancellationError() }
          return StreamingServerResponse { writer in
            try await vendor.attach(request.messages, writer)
            return [:]
          }
        })
    }
  }

  private struct Decoder: MessageDeserializer {
    func deserialize<Bytes: GRPCContiguousBytes>(
      _ bytes: Bytes
    ) throws -> Clusterdriver_V1_DriverMessage {
      try bytes.withUnsafeBytes { try Clusterdriver_V1_DriverMessage(serializedBytes: [UInt8]($0)) }
    }
  }

  private func attach(
    _ messages: RPCAsyncSequence<Clusterdriver_V1_DriverMessage, any Error>,
    _ writer: RPCWriter<[UInt8]>
  ) async throws {
    defer { self.state.withLock { $0.seen.ended += 1 } }
    self.state.withLock { $0.seen.numbers.append([]) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        while true {
          let commands = self.state.withLock { state in
            defer { state.commands = [] }
            return state.commands
          }
          for command in commands { try await writer.write(command.serializedBytes()) }
          try await Task.sleep(for: .milliseconds(2))
        }
      }
      for try await message in messages {
        while case .hung = self.state.withLock({ $0.manner }) {
          try await Task.sleep(for: .milliseconds(5))
        }
        if let answer = self.take(message) { try await writer.write(answer) }
      }
      group.cancelAll()
    }
  }

  private func take(_ message: Clusterdriver_V1_DriverMessage) -> [UInt8]? {
    self.state.withLock { state -> [UInt8]? in
      if case .hello(let hello) = message.content {
        state.seen.hellos.append(hello)
        return nil
      }
      guard message.number > 0 else { return nil }
      state.seen.numbers[state.seen.numbers.count - 1].append(message.number)
      var answer = Clusterdriver_V1_VendorMessage()
      answer.ack.through = message.number
      switch state.manner {
      case .honest: break
      case .silent, .hung: return nil
      case .ahead:
        answer.ack.through = message.number + 1_000_000
        return answer.wireBytes()
      case .garbage: return [0xFF, 0xFF, 0xFF, 0xFF]
      case .epochAtLeast(let epoch):
        for event in message.events.events where event.ownerEpoch < epoch {
          state.seen.refused += 1
          if answer.ack.stale.contains(where: { $0.serial == event.serial }) { continue }
          answer.ack.stale.append(
            .with {
              $0.serial = event.serial
              $0.ownerEpochSeen = epoch
              $0.number = message.number
            })
        }
      }
      // Event by event: a message may hold a controller's events of two sessions, under two epochs.
      for event in message.events.events {
        let refusal = answer.ack.stale.first { $0.serial == event.serial }
        if let refusal, event.ownerEpoch < refusal.ownerEpochSeen { continue }
        state.seen.stored[Identity(serial: event.serial, seq: event.seq), default: 0] += 1
      }
      state.seen.results += message.results.results
      state.seen.statuses += message.statuses.statuses
      return answer.wireBytes()
    }
  }
}

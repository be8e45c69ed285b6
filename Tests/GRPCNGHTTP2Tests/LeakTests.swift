import GRPCCore
import GRPCNGHTTP2
import Testing

/// In processes of their own: descriptors and memory are counted.
@Suite("Nothing is left behind")
struct LeakTests {
  @Test("100,000 RPCs leave no descriptor and no memory behind", .timeLimit(.minutes(5)))
  func calls() async {
    await #expect(processExitsWith: .success) {
      try await withPair(within: .seconds(240)) { pair in
        func run(_ n: Int) async throws {
          try await withThrowingTaskGroup(of: Void.self) { group in
            for i in 0..<16 {
              group.addTask {
                let message = [UInt8](repeating: UInt8(i), count: 200)
                for j in 0..<(n / 16) {
                  switch j % 16 {
                  case 0: _ = try? await pair.client.get(message, method: Method.fail)
                  case 1:
                    // Given up in the middle.
                    let task = Task { try await pair.client.get(message) }
                    task.cancel()
                    _ = await task.result
                  default: _ = try await pair.client.get(message)
                  }
                }
              }
            }
            try await group.waitForAll()
          }
        }
        try await run(20_000)
        let memory = residentBytes()
        let descriptors = openDescriptors()
        try await run(100_000)
        let growth = residentBytes() - memory
        // 100,000 leaked objects of the smallest kind would be 1.6 MB and more.
        #expect(growth < 1_500_000, "resident memory grew by \(growth) bytes")
        // The threads of the last server end a moment after it.
        let areClosed = try await eventually { openDescriptors() <= descriptors }
        #expect(areClosed, "\(openDescriptors() - descriptors) descriptors are left open")
      }
    }
  }

  @Test("1,000 reconnects leave no descriptor and no memory behind", .timeLimit(.minutes(5)))
  func reconnects() async {
    await #expect(processExitsWith: .success) {
      try await within(.seconds(240)) {
        let config = clientConfig {
          $0.backoff = NGHTTP2Backoff(initial: .milliseconds(1), maximum: .milliseconds(5))
        }
        let path = "/tmp/grpc-nghttp2-\(UInt64.random(in: 0 ... .max)).sock"
        let events = EventLog()
        try await withClient(.unix(path), events: events, config) { client in
          func run(_ n: Int) async throws {
            for _ in 0..<n {
              try await withServer(.unix(path), serverConfig { $0.shutdownGrace = .zero }) {
                _, _, _, _ in
                var options = CallOptions.defaults
                options.waitForReady = true
                _ = try await client.get([1], options: options)
              }
            }
          }
          try await run(100)
          let memory = residentBytes()
          let descriptors = openDescriptors()
          try await run(1000)
          let growth = residentBytes() - memory
          #expect(growth < 4_000_000, "resident memory grew by \(growth) bytes")
          // The threads of the last server end a moment after it.
          let areClosed = try await eventually { openDescriptors() <= descriptors }
          #expect(areClosed, "\(openDescriptors() - descriptors) descriptors are left open")
        }
        #expect(events.connected >= 1100)
      }
    }
  }
}

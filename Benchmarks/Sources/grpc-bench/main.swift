// The own gRPC transport beside GRPCCore's in-process one, in one run: client and server in this
// process, the own one over TCP on loopback. CPU is that of both sides together.
//
//   grpc-bench [SCALE]                      all measurements; SCALE 1 takes about 15 s
//   grpc-bench single|batch|large|unary N   one of them, of the own transport alone

import GRPCCore
import GRPCInProcessTransport
import GRPCNGHTTP2
import Glibc

struct Cost: Sendable {
  var wall: Double
  var cpu: Double
}

/// CPU time of the whole process.
func cpuSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func measure(_ body: () async throws -> Void) async rethrows -> Cost {
  let cpu = cpuSeconds()
  let start = ContinuousClock.now
  try await body()
  let wall = ContinuousClock.now - start
  return Cost(
    wall: Double(wall.components.seconds) + Double(wall.components.attoseconds) / 1e18,
    cpu: cpuSeconds() - cpu)
}

struct Bench<Transport: ClientTransport>: Sendable {
  let client: GRPCClient<Transport>

  func stream(_ n: Int, batch: Int, size: Int) async throws -> Cost {
    let message = [UInt8](repeating: 7, count: size)
    return try await measure {
      let request = StreamingClientRequest<[UInt8]> { writer in
        if batch == 1 {
          for _ in 0..<n { try await writer.write(message) }
        } else {
          let messages = [[UInt8]](repeating: message, count: batch)
          for _ in 0..<(n / batch) { try await writer.write(contentsOf: messages) }
        }
      }
      let counted = try await client.clientStreaming(
        request: request, descriptor: Method.count, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { try $0.message }
      precondition(String(decoding: counted, as: UTF8.self) == "\(n / batch * batch * size)")
    }
  }

  func mirror(_ n: Int, size: Int) async throws -> Cost {
    let message = [UInt8](repeating: 7, count: size)
    return try await measure {
      let returned = try await client.bidirectionalStreaming(
        request: StreamingClientRequest<[UInt8]> { writer in
          for _ in 0..<n { try await writer.write(message) }
        }, descriptor: Method.mirror, serializer: RawSerializer(),
        deserializer: RawDeserializer(), options: .defaults
      ) { response in
        var n = 0
        for try await _ in response.messages { n += 1 }
        return n
      }
      precondition(returned == n)
    }
  }

  func unary(_ n: Int, size: Int) async throws -> Cost {
    let message = [UInt8](repeating: 7, count: size)
    return try await measure {
      for _ in 0..<n {
        _ = try await client.unary(
          request: ClientRequest(message: message), descriptor: Method.echo,
          serializer: RawSerializer(), deserializer: RawDeserializer(), options: .defaults
        ) { try $0.message }
      }
    }
  }
}

struct Results: Sendable {
  var single = 0.0
  var batched = 0.0
  var large = 0.0
  var mirrored = 0.0
  var unaryWall = 0.0
  var unaryCPU = 0.0
}

/// Costs per message in µs, throughputs in MB/s.
func run<Transport: ClientTransport>(
  _ client: GRPCClient<Transport>, scale: Double
) async throws -> Results {
  let bench = Bench(client: client)
  func n(_ count: Double) -> Int { max(64, Int(count * scale)) }
  _ = try await bench.stream(n(50_000), batch: 64, size: 128)
  _ = try await bench.unary(n(1000), size: 128)

  var results = Results()
  let single = n(500_000)
  results.single = try await bench.stream(single, batch: 1, size: 128).cpu / Double(single) * 1e6
  let batched = n(2_000_000)
  results.batched =
    try await bench.stream(batched, batch: 64, size: 128).cpu / Double(batched) * 1e6
  let large = n(20_000)
  results.large =
    Double(large) * 0.1 / (try await bench.stream(large, batch: 1, size: 100_000).wall)
  let mirrored = n(10_000)
  results.mirrored = Double(mirrored) * 0.1 / (try await bench.mirror(mirrored, size: 100_000).wall)
  let calls = n(10_000)
  let unary = try await bench.unary(calls, size: 128)
  results.unaryWall = unary.wall / Double(calls) * 1e6
  results.unaryCPU = unary.cpu / Double(calls) * 1e6
  return results
}

func residentMegabytes() -> Double {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 128)
  guard fgets(&line, 128, file) != nil else { return 0 }
  let text = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  return Double((Int(text.split(separator: " ")[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE))) / 1e6
}

func padded(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}

func rounded(_ value: Double, _ digits: Int = 2) -> String {
  let factor = digits == 0 ? 1.0 : 100.0
  let scaled = (value * factor).rounded()
  if digits == 0 { return "\(Int(scaled))" }
  let fraction = Int(scaled) % 100
  return "\(Int(scaled) / 100).\(fraction < 10 ? "0" : "")\(fraction)"
}

/// The own transport's client and server, for as long as `body` takes.
func withOwnTransport<T: Sendable>(
  _ body: @escaping @Sendable (GRPCClient<NGHTTP2ClientTransport>) async throws -> T
) async throws -> T {
  let transport = try NGHTTP2ServerTransport(address: .tcp(host: "127.0.0.1", port: 0))
  let server = GRPCServer(transport: transport, router: makeRouter(for: transport))
  async let serving: Void = server.serve()
  let target = try await transport.listeningAddress
  let result = try await withGRPCClient(
    transport: try NGHTTP2ClientTransport(target: target), handleClient: body)
  server.beginGracefulShutdown()
  try await serving
  return result
}

func withInProcessTransport<T: Sendable>(
  _ body: @escaping @Sendable (GRPCClient<InProcessTransport.Client>) async throws -> T
) async throws -> T {
  let transport = InProcessTransport()
  let server = GRPCServer(transport: transport.server, router: makeRouter(for: transport.server))
  async let serving: Void = server.serve()
  let result = try await withGRPCClient(transport: transport.client, handleClient: body)
  server.beginGracefulShutdown()
  try await serving
  return result
}

/// One measurement of the own transport alone, for a profiler.
func measureOne(_ kind: String, _ n: Int) async throws {
  let cost = try await withOwnTransport { client in
    let bench = Bench(client: client)
    switch kind {
    case "single": return try await bench.stream(n, batch: 1, size: 128)
    case "batch": return try await bench.stream(n, batch: 64, size: 128)
    case "large": return try await bench.mirror(n, size: 100_000)
    default: return try await bench.unary(n, size: 128)
    }
  }
  let (cpu, wall) = (cost.cpu / Double(n) * 1e6, cost.wall / Double(n) * 1e6)
  print("\(kind): \(rounded(cpu)) µs of CPU, \(rounded(wall)) µs each")
}

func compare(scale: Double) async throws {
  let inProcess = try await withInProcessTransport { try await run($0, scale: scale) }
  let before = residentMegabytes()
  let own = try await withOwnTransport { try await run($0, scale: scale) }
  let after = residentMegabytes()

  print("                                        in-process     nghttp2       ratio")
  func line(_ name: String, _ a: Double, _ b: Double, _ digits: Int = 2) {
    let columns = [rounded(a, digits), rounded(b, digits), rounded(b / a)]
    let name = name + String(repeating: " ", count: max(0, 38 - name.count))
    print(name + columns.map { padded($0, 12) }.joined())
  }
  line("128-byte message, singly, µs of CPU", inProcess.single, own.single)
  line("128-byte message, by 64, µs of CPU", inProcess.batched, own.batched)
  line("100 KB messages, one way, MB/s", inProcess.large, own.large, 0)
  line("100 KB messages, there and back, MB/s", inProcess.mirrored, own.mirrored, 0)
  line("unary call, µs", inProcess.unaryWall, own.unaryWall)
  line("unary call, µs of CPU", inProcess.unaryCPU, own.unaryCPU)
  print("resident before and after nghttp2, MB: \(rounded(before)) \(rounded(after))")
}

let arguments = CommandLine.arguments
if arguments.count == 3, let n = Int(arguments[2]) {
  try await measureOne(arguments[1], n)
} else {
  try await compare(scale: arguments.count > 1 ? Double(arguments[1]) ?? 1 : 1)
}

// swift-tools-version:6.2
import PackageDescription

// Benchmarks against peers that the project itself does not link.
let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "ClusterDriver", path: ".."),
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
  ],
  targets: [
    .executableTarget(
      name: "grpc-bench",
      dependencies: [
        .product(name: "GRPCNGHTTP2", package: "ClusterDriver"),
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCInProcessTransport", package: "grpc-swift-2"),
      ],
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "planner-bench", dependencies: [.product(name: "Election", package: "ClusterDriver")],
      swiftSettings: [.swiftLanguageMode(.v6)]),
  ]
)

// swift-tools-version:6.2
import PackageDescription

// Warnings are errors everywhere, and the upcoming language features that make an API's promises
// explicit are on. The arrows between the targets are the architecture's first rule
// (Docs/ARCHITECTURE.md); Tests/ArchitectureTests reads the import lines and fails on any other.
let swift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .treatAllWarnings(as: .error),
]

let c: [CSetting] = [
  .define("_GNU_SOURCE"),
  .enableWarning("all"),
  .enableWarning("extra"),
  .enableWarning("conversion"),
  .treatAllWarnings(as: .error),
]

let grpcCore: Target.Dependency = .product(name: "GRPCCore", package: "grpc-swift-2")
let grpcInProcess: Target.Dependency = .product(
  name: "GRPCInProcessTransport", package: "grpc-swift-2")
let grpcProtobuf: Target.Dependency = .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf")
let swiftProtobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let argumentParser: Target.Dependency = .product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let grdbSQLite: Target.Dependency = .product(name: "GRDBSQLite", package: "GRDB.swift")

let package = Package(
  name: "ClusterDriver",
  platforms: [.macOS(.v15)],
  products: [
    // A gRPC transport of its own right, and what Benchmarks/ measures.
    .library(name: "GRPCNGHTTP2", targets: ["GRPCNGHTTP2"]),
    // For Benchmarks/.
    .library(name: "Election", targets: ["Election"]),
  ],
  dependencies: [
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
    .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.4.1"),
    // Without its default traits SwiftProtobuf needs FoundationEssentials only.
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    // MARK: Libraries
    .target(name: "CSystem", cSettings: c),
    // Without pkgConfig: its flags hold a -D, which the package manager refuses with a warning.
    .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
    .target(
      name: "CTLS", cSettings: c,
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(
      name: "RedisLink", dependencies: ["CHiredis", "CSystem", "CTLS"], swiftSettings: swift),
    .target(
      name: "DriverProtocol",
      dependencies: [grpcCore, grpcProtobuf, swiftProtobuf],
      exclude: ["Protos"],
      // Generated code is held to the compiler's rules, not to ours.
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .target(name: "CSCP", cSettings: c),
    .target(
      name: "CFleet", dependencies: ["CSCP"], cSettings: c, linkerSettings: [.linkedLibrary("m")]),
    // Pure: imports nothing.
    .target(name: "Election", swiftSettings: swift),
    // Simulated clock, store and network. Never in a product.
    .target(name: "ClusterTestKit", dependencies: ["Election"], swiftSettings: swift),
    .executableTarget(
      name: "cluster-sim", dependencies: ["ClusterTestKit", "Election", argumentParser],
      swiftSettings: swift),
    .systemLibrary(
      name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .target(name: "CHTTP2", dependencies: ["CNGHTTP2"], cSettings: c),
    .target(
      name: "GRPCNGHTTP2", dependencies: ["CHTTP2", grpcCore], swiftSettings: swift),
    .target(
      name: "CMetricsHTTP", cSettings: c, linkerSettings: [.linkedLibrary("microhttpd")]),
    .target(
      name: "ClusterDriver",
      dependencies: [
        "CMetricsHTTP", "CSCP", "CSystem", "DriverProtocol", "Election", "GRPCNGHTTP2",
        "RedisLink", grpcCore, grpcProtobuf, swiftProtobuf, logging,
      ],
      swiftSettings: swift),

    // MARK: Executables
    // A member of a cluster without controllers, for tests of ownership. Never in a product.
    .executableTarget(
      name: "cluster-holder",
      dependencies: [
        "CSystem", "ClusterDriver", "Election", "RedisLink", argumentParser, logging,
      ],
      swiftSettings: swift),
    .executableTarget(
      name: "cluster-driver", dependencies: ["ClusterDriver"], swiftSettings: swift),
    .executableTarget(
      name: "vendor-app",
      dependencies: [
        "VendorStore", "GRPCNGHTTP2", argumentParser, grpcCore, logging,
      ],
      swiftSettings: swift),
    .executableTarget(
      name: "clusterctl",
      dependencies: [
        "DriverProtocol", "GRPCNGHTTP2", argumentParser, grpcCore, swiftProtobuf,
      ],
      swiftSettings: swift),
    .target(
      name: "VendorStore",
      dependencies: [
        "DriverProtocol", grpcCore, grpcProtobuf, swiftProtobuf, logging, grdb, grdbSQLite,
      ],
      swiftSettings: swift),

    .executableTarget(
      name: "scp-fleet",
      dependencies: [
        "CFleet", "DriverProtocol", "GRPCNGHTTP2", argumentParser, grpcCore, swiftProtobuf,
      ],
      swiftSettings: swift),

    // MARK: Tests
    .testTarget(name: "ArchitectureTests", swiftSettings: swift),
    .testTarget(
      name: "VendorStoreTests",
      dependencies: [
        "VendorStore", "vendor-app", "DriverProtocol", "GRPCNGHTTP2", grpcCore, grpcInProcess,
        swiftProtobuf, logging, grdb,
      ],
      swiftSettings: swift),
    .testTarget(
      name: "ClusterctlTests",
      dependencies: [
        "clusterctl", "ClusterDriver", "DriverProtocol", "GRPCNGHTTP2", grpcCore, swiftProtobuf,
      ],
      swiftSettings: swift),
    .testTarget(
      name: "RedisLinkTests", dependencies: ["RedisLink", "CSystem"], swiftSettings: swift),
    .testTarget(name: "ElectionTests", dependencies: ["Election"], swiftSettings: swift),
    .testTarget(
      name: "ClusterTestKitTests", dependencies: ["ClusterTestKit", "Election"],
      exclude: ["Traces"], swiftSettings: swift),
    .testTarget(
      name: "GRPCNGHTTP2Tests", dependencies: ["GRPCNGHTTP2", grpcCore], swiftSettings: swift),
    .testTarget(
      name: "ClusterDriverTests",
      dependencies: [
        "CSCP", "CSystem", "ClusterDriver", "DriverProtocol", "Election", "GRPCNGHTTP2",
        "RedisLink", grpcCore, logging, swiftProtobuf,
      ],
      swiftSettings: swift),
  ]
)

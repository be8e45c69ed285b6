/// Which arrows there are between the targets: what each folder of Sources may import or include.
///
/// A Swift target names modules. A C target names libraries by the groups of ``SystemHeaders``, and
/// other targets' headers either all (`CSCP`) or one by one (`CSCP/cscp_frame.h`).
/// Docs/ARCHITECTURE.md says why the arrows are as they are.
struct Table {
  var rows: [String: Set<String>]

  static let project = Table(rows: [
    // C: each a leaf on the libraries it wraps.
    "CSystem": ["libc"],
    "CSCP": ["libc", "openssl"],
    "CFleet": ["libc", "CSCP/cscp_frame.h"],
    "CNGHTTP2": ["nghttp2"],
    "CHTTP2": ["libc", "nghttp2", "openssl", "CNGHTTP2"],
    "CHiredis": ["libc", "hiredis"],
    "CMetricsHTTP": ["libc", "microhttpd"],
    "CTLS": ["libc", "openssl"],

    // Pure: decides, and does nothing else.
    "Election": [],
    "ClusterTestKit": ["Election"],
    "cluster-sim": ["ClusterTestKit", "Election", "ArgumentParser"],

    // Links to the outside, without knowledge of doors.
    "RedisLink": system.union(["CHiredis", "CTLS"]),
    "GRPCNGHTTP2": system.union(["CHTTP2", "GRPCCore"]),
    "DriverProtocol": protobuf.union(["Foundation", "FoundationEssentials"]),

    // The node.
    "ClusterDriver": system.union(protobuf).union([
      "Election", "CSCP", "CMetricsHTTP", "RedisLink", "GRPCNGHTTP2", "DriverProtocol", "Logging",
      "FoundationEssentials",
    ]),
    "cluster-driver": system.union(["ClusterDriver", "Logging"]),
    "cluster-holder": system.union([
      "ClusterDriver", "Election", "RedisLink", "ArgumentParser", "Logging",
    ]),

    // The other programs.
    "clusterctl": system.union(protobuf).union([
      "DriverProtocol", "GRPCNGHTTP2", "Election", "RedisLink", "ArgumentParser", "Foundation",
    ]),
    "VendorStore": system.union(protobuf).union([
      "DriverProtocol", "GRDB", "GRDBSQLite", "Logging", "Dispatch", "Foundation",
      "FoundationEssentials",
    ]),
    "vendor-app": system.union(protobuf).union([
      "VendorStore", "DriverProtocol", "GRPCNGHTTP2", "ArgumentParser", "Logging", "Dispatch",
      "Foundation",
    ]),
    "scp-fleet": system.union(protobuf).union([
      "CFleet", "DriverProtocol", "GRPCNGHTTP2", "ArgumentParser", "Dispatch", "Foundation",
    ]),
  ])

  /// Targets that run inside a node: a few megabytes are the budget, and full Foundation exceeds it.
  static let withoutFoundation: Set = [
    "ClusterDriver", "cluster-driver", "RedisLink", "GRPCNGHTTP2", "Election",
  ]

  /// The operating system, as Swift sees it and as our C shim completes it.
  private static let system: Set = ["Glibc", "Synchronization", "CSystem"]
  private static let protobuf: Set = ["GRPCCore", "GRPCProtobuf", "SwiftProtobuf"]

  /// A way from a target back to itself, if there is one.
  func cycle() -> [String]? {
    func search(_ name: String, _ path: [String]) -> [String]? {
      if let start = path.firstIndex(of: name) { return Array(path[start...]) + [name] }
      for next in (self.rows[name] ?? []).sorted() {
        let target = String(next.prefix { $0 != "/" })
        if self.rows[target] != nil, let found = search(target, path + [name]) { return found }
      }
      return nil
    }
    for name in self.rows.keys.sorted() {
      if let found = search(name, []) { return found }
    }
    return nil
  }
}

/// Headers that belong to no target, by the library they are of.
enum SystemHeaders {
  private static let libraries = [
    "nghttp2/": "nghttp2", "openssl/": "openssl", "hiredis/": "hiredis",
    "hiredis.h": "hiredis", "systemd/": "systemd",
    "microhttpd.h": "microhttpd", "sqlite3.h": "sqlite3",
  ]
  private static let libcFolders = ["sys/", "netinet/", "net/", "arpa/", "linux/", "bits/"]
  private static let libcFiles: Set = [
    "assert.h", "byteswap.h", "ctype.h", "dirent.h", "dlfcn.h", "endian.h", "err.h", "errno.h",
    "fcntl.h", "features.h", "fnmatch.h", "getopt.h", "grp.h", "inttypes.h", "langinfo.h",
    "libgen.h", "limits.h", "locale.h", "malloc.h", "math.h", "netdb.h", "poll.h", "pthread.h",
    "pwd.h", "regex.h", "sched.h", "semaphore.h", "setjmp.h", "signal.h", "spawn.h", "stdalign.h",
    "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h",
    "stdnoreturn.h", "string.h", "strings.h", "syscall.h", "syslog.h", "termios.h", "threads.h",
    "time.h", "unistd.h", "wchar.h",
    // The compiler's own: instructions of the processor.
    "arm_acle.h", "arm_neon.h", "immintrin.h", "nmmintrin.h", "x86intrin.h",
  ]

  static func library(of header: String) -> String? {
    if Self.libcFiles.contains(header) { return "libc" }
    if Self.libcFolders.contains(where: header.hasPrefix) { return "libc" }
    return Self.libraries.first { header.hasPrefix($0.key) }?.value
  }
}

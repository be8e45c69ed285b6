internal import GRPCNGHTTP2
internal import Glibc

/// Finds the admin sockets of the nodes on this host.
enum Sockets {
  struct Problem: Error, CustomStringConvertible {
    var description: String
  }

  /// Where nodes put their sockets when nobody says otherwise (Docs/OPERATING.md), in the order they
  /// prefer.
  static func directories(environment: [String: String], user: UInt32) -> [String] {
    var directories = ["/run/cluster-driver"]
    if let runtime = environment["XDG_RUNTIME_DIR"], runtime.hasPrefix("/") {
      directories.append(runtime + "/cluster-driver")
    }
    return directories + ["/tmp/cluster-driver-\(user)"]
  }

  /// The nodes to ask: the one named by `--admin` or `CLUSTER_DRIVER_ADMIN`, else every socket found.
  static func addresses(
    admin: String?, environment: [String: String], found: ([String]) -> [String]
  ) throws(Problem) -> [NGHTTP2Address] {
    let (named, source) =
      admin.map { ($0, "--admin") } ?? (environment["CLUSTER_DRIVER_ADMIN"], "CLUSTER_DRIVER_ADMIN")
    if let named, !named.isEmpty {
      guard let address = NGHTTP2Address(named) else {
        throw Problem(
          description: "\(source) is “\(named)”, which is no address: give unix:/PATH or host:port")
      }
      return [address]
    }
    let directories = directories(environment: environment, user: geteuid())
    let sockets = found(directories)
    guard !sockets.isEmpty else {
      throw Problem(
        description: "no node's socket in \(directories.joined(separator: ", ")): is a node running"
          + " here? Name one with --admin unix:/PATH or --admin host:port")
    }
    return sockets.map(NGHTTP2Address.unix)
  }

  /// The one node to ask; an error names the choice when there are several.
  static func address(
    admin: String?, environment: [String: String], found: ([String]) -> [String]
  ) throws(Problem) -> NGHTTP2Address {
    let all = try addresses(admin: admin, environment: environment, found: found)
    guard all.count == 1 else {
      throw Problem(
        description: "several nodes run here; say which with --admin: "
          + all.map(\.description).joined(separator: ", "))
    }
    return all[0]
  }

  /// Sockets in the directories, by path. A dead node's socket is listed too: asking it tells.
  static func find(in directories: [String]) -> [String] {
    var sockets: [String] = []
    for directory in directories {
      guard let stream = opendir(directory) else { continue }
      defer { closedir(stream) }
      while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
          String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        let path = "\(directory)/\(name)"
        var status = stat()
        if name.hasSuffix(".sock"), stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK {
          sockets.append(path)
        }
      }
    }
    return sockets.sorted()
  }
}

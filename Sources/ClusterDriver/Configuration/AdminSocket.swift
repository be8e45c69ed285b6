internal import Glibc

/// Where the admin socket is when nobody said: `PORT.sock` in the first of these directories that
/// can be written to. `clusterctl` looks for sockets in the same places.
enum AdminSocket {
  /// In order of preference.
  static func directories(environment: [String: String], user: UInt32) -> [String] {
    var directories = ["/run/cluster-driver"]
    if let runtime = environment["XDG_RUNTIME_DIR"], runtime.hasPrefix("/") {
      directories.append(runtime + "/cluster-driver")
    }
    return directories + ["/tmp/cluster-driver-\(user)"]
  }

  /// The path for a node on `port`. Creates the directory where it can (mode 0755 under /run, 0700
  /// elsewhere), and does not take one that another user could have put there. Throws when no
  /// directory can be used.
  static func usualPath(
    port: UInt16, environment: [String: String]
  ) throws(ConfigurationError) -> String {
    let directories = directories(environment: environment, user: geteuid())
    for directory in directories
    where prepare(directory, mode: directory.hasPrefix("/run/cluster") ? 0o755 : 0o700) {
      let path = "\(directory)/\(port).sock"
      if path.utf8.count <= 107 { return path }
    }
    throw ConfigurationError(problems: [
      "no place for the admin socket: none of \(directories.joined(separator: ", ")) can be"
        + " written to; name one with --admin unix:/PATH"
    ])
  }

  /// Whether the directory is there, ours (or root's) and writable.
  static func prepare(_ directory: String, mode: UInt32) -> Bool {
    mkdir(directory, mode)
    var status = stat()
    guard lstat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return false }
    guard status.st_uid == geteuid() || status.st_uid == 0 else { return false }
    return access(directory, W_OK | X_OK) == 0
  }
}

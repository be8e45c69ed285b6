internal import CSystem
internal import Glibc

/// What the process uses of the machine.
struct ProcessUsage: Sendable, Equatable {
  var residentBytes: UInt64 = 0
  var cpuSeconds: Double = 0
  var openFiles: UInt64 = 0
  var openFilesMax: UInt64 = 0

  init() {}

  /// Of this process, now. Counts descriptors by reading a directory: for scrapes, not for more.
  static func current() -> ProcessUsage {
    var usage = ProcessUsage()
    usage.residentBytes = UInt64(max(0, csys_memory_rss()))
    usage.cpuSeconds = Double(csys_clock_process_cpu()) / 1e9
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      usage.openFilesMax = UInt64(limit.rlim_cur)
    }
    if let directory = opendir("/proc/self/fd") {
      defer { closedir(directory) }
      // ".", ".." and the directory's own descriptor are not counted.
      var entries = 0
      while readdir(directory) != nil { entries += 1 }
      usage.openFiles = UInt64(max(0, entries - 3))
    }
    return usage
  }
}

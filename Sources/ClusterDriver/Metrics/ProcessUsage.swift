internal import CSystem
internal import Glibc

/// What the process uses of the machine.
struct ProcessUsage: Sendable, Equatable {
  var residentBytes: UInt64 = 0
  var cpuSeconds: Double = 0
  var openFiles: UInt64 = 0
  var openFilesMax: UInt64 = 0

  init() {}

  /// Of this process, now.
  static func current() -> ProcessUsage {
    var usage = ProcessUsage()
    usage.residentBytes = UInt64(max(0, csys_memory_rss()))
    usage.cpuSeconds = Double(csys_clock_process_cpu()) / 1e9
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      usage.openFilesMax = UInt64(limit.rlim_cur)
    }
    usage.openFiles = ProcessUsage.countOpenFiles()
    return usage
  }

  /// As the size of their directory, where the kernel says it (Linux 6.2). Reading the directory would leave an
  /// entry in the kernel for each, which whoever reaps the process has to remove one by one: with 10,000 of
  /// them half of what a restart costs the service manager.
  private static func countOpenFiles() -> UInt64 {
    var directory = stat()
    if stat("/proc/self/fd", &directory) == 0 && directory.st_size > 0 {
      return UInt64(directory.st_size)
    }
    guard let entries = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(entries) }
    var n = 0
    while readdir(entries) != nil { n += 1 }
    // ".", ".." and the directory's own descriptor are not counted.
    return UInt64(max(0, n - 3))
  }
}

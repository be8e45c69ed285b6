import CSystem
import Glibc

/// What must reach the service manager. Without one all of it is said to nobody.
enum ServiceManager {
  /// How long it may take to listen, and to answer; one that is busy needs milliseconds.
  static let limit: Duration = .seconds(5)
  private static let fullPause: UInt32 = 2_000

  /// Lines of sd_notify, with a descriptor if one is to go along. BLOCKS while the service manager's queue is
  /// full, until `end` at most. 0, or a negative errno; -ENOTCONN without a service manager.
  @discardableResult
  static func tell(
    _ state: String, _ descriptor: Int32? = nil,
    until end: ContinuousClock.Instant = .now.advanced(by: ServiceManager.limit)
  ) -> Int32 {
    while true {
      var result: Int32
      if var descriptor {
        result = csys_notify_send(state, &descriptor, 1)
      } else {
        result = csys_notify_send(state, nil, 0)
      }
      if result == 0 { result = -ENOTCONN }
      guard result == -EAGAIN && .now < end else { return min(result, 0) }
      usleep(ServiceManager.fullPause)
    }
  }

  /// By the clock it goes by when it looks how old a message is.
  static var monotonicMicroseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
  }
}

import CSystem
import Glibc

/// SIGTERM and SIGINT as something that can be waited for. Made before any thread, so that all
/// threads have them blocked.
struct Signals: ~Copyable {
  private let signals: Int32
  private let epoll: Int32

  init() {
    let wanted = [SIGTERM, SIGINT]
    self.signals = csys_signals_open(wanted, wanted.count)
    self.epoll = csys_epoll_new()
    precondition(self.signals >= 0 && self.epoll >= 0, "no descriptors for the signals")
    csys_epoll_set(self.epoll, self.signals, UInt32(CSYS_READABLE), 0)
  }

  deinit {
    csys_fd_close(self.epoll)
    csys_fd_close(self.signals)
  }

  /// BLOCKS until one of them comes, or so long. True: one came.
  func wait(_ limit: Duration?) -> Bool {
    let end = limit.map { ContinuousClock.now.advanced(by: $0) }
    while true {
      if csys_signals_read(self.signals) > 0 { return true }
      var timeout: Int64 = -1
      if let end {
        let rest = end - .now
        guard rest > .zero else { return false }
        timeout = Int64(rest.microseconds) * 1000 + 1000
      }
      var event = csys_event()
      csys_epoll_wait(self.epoll, &event, 1, timeout)
    }
  }
}

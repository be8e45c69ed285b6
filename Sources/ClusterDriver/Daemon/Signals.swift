import CSystem
import Glibc

/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 as something that can be waited for. Made before any thread, so that all
/// threads have them blocked.
struct Signals: ~Copyable {
  enum Order: Sendable {
    /// SIGTERM, SIGINT.
    case end
    /// SIGHUP.
    case reload
    /// SIGUSR1: the node ends for good.
    case leave
  }

  private let signals: Int32
  private let epoll: Int32

  init() {
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGUSR1]
    self.signals = csys_signals_open(wanted, wanted.count)
    self.epoll = csys_epoll_new()
    precondition(self.signals >= 0 && self.epoll >= 0, "no descriptors for the signals")
    csys_epoll_set(self.epoll, self.signals, UInt32(CSYS_READABLE), 0)
  }

  deinit {
    csys_fd_close(self.epoll)
    csys_fd_close(self.signals)
  }

  /// BLOCKS until one of them comes, or so long; nil: none came.
  func wait(_ limit: Duration?) -> Order? {
    let end = limit.map { ContinuousClock.now.advanced(by: $0) }
    while true {
      let signal = csys_signals_read(self.signals)
      switch signal {
      case SIGHUP: return .reload
      case SIGUSR1: return .leave
      case 1...: return .end
      default: break
      }
      var timeout: Int64 = -1
      if let end {
        let rest = end - .now
        guard rest > .zero else { return nil }
        timeout = Int64(rest.microseconds) * 1000 + 1000
      }
      var event = csys_event()
      csys_epoll_wait(self.epoll, &event, 1, timeout)
    }
  }
}

import CSCP
import CSystem
import Glibc

/// The service manager's store of descriptors (FDSTORE), as the keeper of the parking lot: what it has
/// outlives this process, and is handed to the next one of the unit.
///
/// Any thread; `keep` BLOCKS until the service manager has taken note, and both while its queue is
/// full, for `ServiceManager.limit` at most.
final class DescriptorStore: Sendable {
  /// A descriptor that the service manager handed to this process.
  struct Inherited: Sendable, Equatable {
    var name: String
    var descriptor: Int32
  }

  /// Is there a service manager to speak of?
  static func isThere(environment: [String: String]) -> Bool {
    !(environment["NOTIFY_SOCKET"] ?? "").isEmpty
  }

  /// What `sd_listen_fds_with_names` gives: descriptors from 3 on, for this very process, by name.
  static func inherited(environment: [String: String], pid: Int32) -> [Inherited] {
    guard environment["LISTEN_PID"] == "\(pid)",
      let count = environment["LISTEN_FDS"].flatMap({ Int32($0) }), count > 0, count <= 1 << 16
    else { return [] }
    let names = (environment["LISTEN_FDNAMES"] ?? "").split(
      separator: ":", omittingEmptySubsequences: false)
    return (0..<count).map { index in
      Inherited(
        name: Int(index) < names.count ? String(names[Int(index)]) : "unknown",
        descriptor: 3 + index)
    }
  }

  /// Stores a copy of the descriptor. It is not watched: what is in a row must stay there whatever
  /// becomes of its other end. 0, or a negative errno.
  func keep(_ name: String, _ descriptor: Int32) -> Int32 {
    let end = ContinuousClock.now.advanced(by: ServiceManager.limit)
    let result = ServiceManager.tell("FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0", descriptor, until: end)
    return result < 0 ? result : self.awaitAnswer(until: end)
  }

  /// Lets go of what has this name. Nothing depends on when: it is told, and not waited for. 0, or a
  /// negative errno.
  func drop(_ name: String) -> Int32 {
    ServiceManager.tell("FDSTOREREMOVE=1\nFDNAME=\(name)")
  }

  /// BARRIER=1: the other end of a pipe is closed once everything before has been dealt with.
  private func awaitAnswer(until end: ContinuousClock.Instant) -> Int32 {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return -errno }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    let result = ServiceManager.tell("BARRIER=1", ends[1], until: end)
    close(ends[1])
    guard result == 0 else { return result }
    while true {
      let left = end - .now
      guard left > .zero else { return -ETIMEDOUT }
      var wait = pollfd(fd: ends[0], events: 0, revents: 0)
      if poll(&wait, 1, Int32(left.millisecondsRoundedUp)) > 0 { return 0 }
    }
  }
}

extension DescriptorStore {
  /// As the controller layer knows it. `self` must live as long as the layer does.
  var keeper: cscp_keeper {
    cscp_keeper(
      keep: { context, name, descriptor in
        Unmanaged<DescriptorStore>.fromOpaque(context!).takeUnretainedValue()
          .keep(String(cString: name), descriptor)
      },
      drop: { context, name in
        Unmanaged<DescriptorStore>.fromOpaque(context!).takeUnretainedValue()
          .drop(String(cString: name))
      },
      context: Unmanaged.passUnretained(self).toOpaque())
  }
}

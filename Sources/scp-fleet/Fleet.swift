internal import CFleet
internal import Glibc

/// The engine's fleet, used from the main thread only.
final class Fleet {
  private let raw: OpaquePointer

  init(_ options: Options) throws {
    var made: OpaquePointer?
    var why = [CChar](repeating: 0, count: Int(FLEET_WHY_SIZE))
    let result = options.withConfig { fleet_new($0, &made, &why) }
    guard result == 0, let made else {
      let text = why.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw Failure(String(decoding: text, as: UTF8.self))
    }
    raw = made
  }

  deinit { fleet_free(raw) }

  func start() throws {
    let result = fleet_start(raw)
    guard result == 0 else { throw Failure(String(cString: strerror(-result))) }
  }

  /// Returns when the fleet has finished. The first SIGINT or SIGTERM ends the events and leaves
  /// five seconds for their acknowledgements, the second ends at once.
  func watch(progress: Options.ProgressStyle) {
    var interrupts = 0
    while true {
      let outcome = fleet_wait(raw, 1000)
      if outcome == Int32(FLEET_INTERRUPTED) {
        interrupts += 1
        fleet_stop(raw, interrupts == 1 ? 5 : 0)
        continue
      }
      var now = report()
      switch progress {
      case .none: break
      case .text: fleet_report_print_progress(&now, 2)
      case .json: fleet_report_print_progress_json(&now, 2)
      }
      if outcome == Int32(FLEET_FINISHED) { break }
    }
    if progress == .text { Standard.error("") }
  }

  func report() -> fleet_report {
    var report = fleet_report()
    fleet_get_report(raw, &report)
    return report
  }

  func print(_ report: fleet_report, json: Bool) {
    withUnsafePointer(to: report) {
      json ? fleet_report_print_json($0, 1) : fleet_report_print_text(raw, $0, 1)
    }
  }

  func write(ledger: String?, commands: String?) throws {
    if let ledger { try check(fleet_write_ledger(raw, ledger), ledger) }
    if let commands { try check(fleet_write_commands(raw, commands), commands) }
  }

  private func check(_ result: Int32, _ path: String) throws {
    guard result == 0 else {
      throw Failure("cannot write \(path): \(String(cString: strerror(-result)))")
    }
  }

  func verify(_ audit: fleet_audit) {
    withUnsafePointer(to: audit) { fleet_verify_log(raw, $0) }
  }

  func verifyFinish() { fleet_verify_finish(raw) }
}

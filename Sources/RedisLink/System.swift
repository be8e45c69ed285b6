internal import CSystem

/// CLOCK_BOOTTIME, in nanoseconds: the clock of every deadline here.
func boottimeNow() -> UInt64 { csys_clock_boottime() }

/// What errno `number` means, in words.
func systemErrorText(_ number: Int32) -> String {
  String(cString: csys_error_text(number))
}

extension Duration {
  /// Whole nanoseconds, from 0 to about 292 years.
  var clampedNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    if seconds < 0 || (seconds == 0 && attoseconds < 0) { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    if overflow || whole > UInt64(Int64.max) { return UInt64(Int64.max) }
    return whole + UInt64(attoseconds / 1_000_000_000)
  }
}

extension UInt64 {
  /// This moment and a while: `.max` (never) rather than an overflow.
  func plus(_ nanoseconds: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(nanoseconds)
    return overflow ? .max : sum
  }
}

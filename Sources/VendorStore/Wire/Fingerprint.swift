/// The fingerprint of a record as Docs/PROTOCOL.md defines it: FNV-1a, 64 bits, over serial,
/// log_epoch, seq, occurred_at, family, code, source type, source number and the body, in network
/// byte order. Logs are compared by the sum, modulo 2⁶⁴, over their records of kind EVENT.
struct Fingerprint {
  private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  init(of row: EventRow, body: UnsafeRawBufferPointer) {
    mix(row.serial)
    mix(row.logEpoch)
    mix(row.seq)
    mix(row.occurredAt)
    mix(row.family)
    mix(row.code)
    mix(row.sourceType)
    mix(row.sourceNumber)
    for byte in body { mix(byte) }
  }

  @inline(__always)
  private mutating func mix(_ number: some FixedWidthInteger & UnsignedInteger) {
    var shift = number.bitWidth
    while shift > 0 {
      shift -= 8
      value ^= UInt64(truncatingIfNeeded: number >> shift) & 0xFF
      value = value &* 0x100_0000_01B3
    }
  }
}

/// Lays a record out as fields of a journal entry.
enum JournalFields {
  /// Names and values; the names are such as the journal takes.
  static func fields(_ record: LogRecord) -> [(name: String, value: String)] {
    var fields = [
      ("MESSAGE", "\(record.label): \(record.message)"),
      ("PRIORITY", "\(record.level.syslogPriority)"),
      ("SYSLOG_IDENTIFIER", "cluster-driver"),
      ("LOGGER", record.label),
    ]
    if !record.file.isEmpty {
      fields.append(("CODE_FILE", record.file))
      fields.append(("CODE_LINE", "\(record.line)"))
    }
    return fields + record.fields.map { (name($0.key), $0.value) }
  }

  /// A key as a field's name: `serial` becomes `CONTROLLER_SERIAL`, `owner-epoch` `OWNER_EPOCH`.
  static func name(_ key: String) -> String {
    if key == "serial" { return "CONTROLLER_SERIAL" }
    let upper = key.utf8.prefix(56).map { byte -> UInt8 in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"): return byte - 32
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
        return byte
      default: return UInt8(ascii: "_")
      }
    }
    let name = String(decoding: upper, as: UTF8.self)
    // The journal keeps a leading _ to itself and takes no leading digit; and the fields above are
    // not for keys to overwrite.
    let isLetter = upper.first.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) }
    return isLetter != true || reserved.contains(name) ? "FIELD_" + name : name
  }

  private static let reserved: Set<String> = [
    "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "CODE_FILE", "CODE_LINE",
  ]
}

/// What a command found out, before it is shown in one format or another.
enum Value: Equatable, Sendable {
  case null
  case bool(Bool)
  case unsigned(UInt64)
  case number(Double)
  case text(String)
  case list([Value])
  case record(Record)
}

/// Named values in the order they are shown.
struct Record: Equatable, Sendable {
  struct Field: Equatable, Sendable {
    var name: String
    var value: Value
  }

  var fields: [Field] = []

  init() {}

  init(_ fields: KeyValuePairs<String, Value>) {
    self.fields = fields.map { Field(name: $0.key, value: $0.value) }
  }

  subscript(name: String) -> Value {
    fields.first { $0.name == name }?.value ?? .null
  }
}

extension Value {
  /// An empty text becomes null: "not known" reads better than "".
  static func optional(_ text: String) -> Value { text.isEmpty ? .null : .text(text) }
  /// 0 becomes null, where 0 means "none".
  static func optional(_ number: UInt64) -> Value { number == 0 ? .null : .unsigned(number) }

  /// In one line, without quotes: for tables and TSV.
  var plain: String {
    switch self {
    case .null: ""
    case .bool(let value): value ? "yes" : "no"
    case .unsigned(let value): String(value)
    case .number(let value): Value.rounded(value)
    case .text(let value): value
    case .list(let values): values.map(\.plain).joined(separator: ",")
    case .record(let record):
      record.fields.map { "\($0.name)=\($0.value.plain)" }.joined(separator: " ")
    }
  }

  /// A number with at most one decimal.
  static func rounded(_ value: Double) -> String {
    let tenths = (value * 10).rounded()
    guard tenths.magnitude < 1e15 else { return "\(value)" }
    let whole = Int64(tenths) / 10
    let rest = Int64(tenths.magnitude) % 10
    let sign = tenths < 0 && whole == 0 ? "-" : ""
    return rest == 0 ? "\(whole)" : "\(sign)\(whole).\(rest)"
  }
}

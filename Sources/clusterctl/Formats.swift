internal import ArgumentParser

/// The formats of `-f`.
enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
  case pretty, json, yaml, tsv
}

extension Value {
  /// JSON (RFC 8259). `indent` nil: in one line.
  func json(indent: Int? = 0) -> String {
    var out = ""
    appendJSON(to: &out, indent: indent)
    return out
  }

  private func appendJSON(to out: inout String, indent: Int?) {
    switch self {
    case .null: out += "null"
    case .bool(let value): out += value ? "true" : "false"
    case .unsigned(let value): out += "\(value)"
    case .number(let value): out += value.isFinite ? Value.rounded(value) : "null"
    case .text(let value): out += Value.quoted(value)
    case .list(let values):
      Value.appendGroup("[", "]", values, to: &out, indent: indent) { value, out, indent in
        value.appendJSON(to: &out, indent: indent)
      }
    case .record(let record):
      Value.appendGroup("{", "}", record.fields, to: &out, indent: indent) { field, out, indent in
        out += Value.quoted(field.name) + ": "
        field.value.appendJSON(to: &out, indent: indent)
      }
    }
  }

  private static func appendGroup<T>(
    _ open: String, _ close: String, _ items: [T], to out: inout String, indent: Int?,
    item append: (T, inout String, Int?) -> Void
  ) {
    out += open
    let inner = indent.map { $0 + 2 }
    for (i, item) in items.enumerated() {
      if i > 0 { out += inner == nil ? ", " : "," }
      if let inner { out += "\n" + String(repeating: " ", count: inner) }
      append(item, &out, inner)
    }
    if let indent, !items.isEmpty { out += "\n" + String(repeating: " ", count: indent) }
    out += close
  }

  /// A JSON string; also a YAML one.
  static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let hex = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }

  /// YAML 1.2 in block style, without a final newline. Texts are quoted unless they are plain words.
  func yaml() -> String {
    yamlLines().joined(separator: "\n")
  }

  private func yamlLines() -> [String] {
    switch self {
    case .list(let values) where !values.isEmpty:
      values.flatMap { value in
        value.yamlLines().enumerated().map {
          $0.offset == 0 ? "- " + $0.element : "  " + $0.element
        }
      }
    case .record(let record) where !record.fields.isEmpty:
      record.fields.flatMap { field in
        switch field.value {
        case .list(let values) where !values.isEmpty:
          [field.name + ":"] + field.value.yamlLines()
        case .record(let inner) where !inner.fields.isEmpty:
          [field.name + ":"] + field.value.yamlLines().map { "  " + $0 }
        default:
          [field.name + ": " + field.value.yamlLines()[0]]
        }
      }
    case .text(let text): [Value.isPlainWord(text) ? text : Value.quoted(text)]
    default: [json(indent: nil)]
    }
  }

  private static func isPlainWord(_ text: String) -> Bool {
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
    guard let first = text.unicodeScalars.first, first.properties.isAlphabetic, first.isASCII,
      !reserved.contains(text.lowercased())
    else { return false }
    return text.unicodeScalars.allSatisfy {
      $0.isASCII
        && ($0.properties.isAlphabetic || ("0"..."9").contains($0)
          || "_-./".unicodeScalars.contains($0))
    }
  }

  /// One cell of tab-separated values: tab, newline and backslash as \t, \n, \\.
  var tsv: String {
    var out = ""
    for scalar in plain.unicodeScalars {
      switch scalar {
      case "\t": out += "\\t"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\\": out += "\\\\"
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}

/// Reads Prometheus' text format as its specification has it, and says what is wrong with a page.
struct PrometheusChecker {
  struct Sample: Equatable {
    let name: String
    /// As `key="value"`, sorted.
    let labels: [String]
    let value: Double

    var series: String { "\(self.name){\(self.labels.joined(separator: ","))}" }

    func label(_ key: String) -> String? {
      self.labels.first { $0.hasPrefix("\(key)=\"") }.map {
        String($0.dropFirst(key.count + 2).dropLast())
      }
    }
  }

  private(set) var samples: [Sample] = []
  private(set) var types: [String: String] = [:]
  private(set) var problems: [String] = []
  private var helps: Set<String> = []
  private var family = ""

  init(_ page: String) {
    if !page.hasSuffix("\n") { self.problems.append("the last line has no end") }
    for line in page.split(separator: "\n") { self.take(line: line) }
    let series = self.samples.map(\.series)
    if Set(series).count != series.count { self.problems.append("a series stands twice") }
    for (name, type) in self.types {
      if (type == "counter") != name.hasSuffix("_total") {
        self.problems.append("\(type) \(name): counters alone end in _total")
      }
      if type == "histogram" { self.checkHistogram(name) }
    }
  }

  subscript(_ series: String) -> Double? {
    self.samples.first { $0.series == series }?.value
  }

  private mutating func take(line: Substring) {
    let words = line.split(separator: " ", maxSplits: 3)
    if line.hasPrefix("# HELP ") {
      self.family = String(words[2])
      if !self.helps.insert(self.family).inserted { self.problems.append("twice HELP: \(line)") }
      if words.count < 4 { self.problems.append("empty HELP: \(line)") }
    } else if line.hasPrefix("# TYPE ") {
      if words[2] != self.family { self.problems.append("TYPE without its HELP: \(line)") }
      if self.types.updateValue(String(words[3]), forKey: self.family) != nil {
        self.problems.append("twice TYPE: \(line)")
      }
      if !["counter", "gauge", "histogram"].contains(words[3]) {
        self.problems.append("unknown type: \(line)")
      }
    } else if let sample = PrometheusChecker.sample(line) {
      self.samples.append(sample)
      let suffixes = self.types[self.family] == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
      if !suffixes.contains(where: { sample.name == self.family + $0 }) {
        self.problems.append("sample outside its family \(self.family): \(line)")
      }
    } else {
      self.problems.append("not a sample: \(line)")
    }
  }

  private mutating func checkHistogram(_ name: String) {
    let buckets = self.samples.filter { $0.name == name + "_bucket" }
    let bounds = buckets.map { bucket -> Double in
      let bound = bucket.label("le") ?? ""
      return bound == "+Inf" ? .infinity : Double(bound) ?? .nan
    }
    if bounds != bounds.sorted() || bounds.last != .infinity {
      self.problems.append("\(name): bounds out of order, or without +Inf")
    }
    let values = buckets.map(\.value)
    if values != values.sorted() { self.problems.append("\(name): buckets not cumulative") }
    if values.last != self["\(name)_count{}"] { self.problems.append("\(name): +Inf is not count") }
    if self["\(name)_sum{}"] == nil { self.problems.append("\(name): no sum") }
  }

  /// `name{key="value",…} number`
  private static func sample(_ line: Substring) -> Sample? {
    let name = line.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == ":") }
    guard let first = name.first, !first.isNumber else { return nil }
    var rest = line[name.endIndex...]
    var labels: [String] = []
    if rest.first == "{" {
      repeat {
        rest = rest.dropFirst()
        guard let label = label(&rest) else { return nil }
        labels.append(label)
      } while rest.first == ","
      guard rest.popFirst() == "}" else { return nil }
    }
    guard rest.popFirst() == " " else { return nil }
    let value: Double?
    switch rest {
    case "+Inf": value = .infinity
    case "-Inf": value = -.infinity
    case "NaN": value = .nan
    default: value = Double(rest)
    }
    return value.map { Sample(name: String(name), labels: labels.sorted(), value: $0) }
  }

  /// `key="value"`, taken off the front.
  private static func label(_ rest: inout Substring) -> String? {
    let key = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
    rest = rest[key.endIndex...]
    guard !key.isEmpty, rest.hasPrefix("=\"") else { return nil }
    rest = rest.dropFirst(2)
    var value = ""
    while let character = rest.popFirst() {
      if character == "\"" { return "\(key)=\"\(value)\"" }
      value.append(character)
      guard character == "\\" else { continue }
      guard let escaped = rest.popFirst(), "\\\"n".contains(escaped) else { return nil }
      value.append(escaped)
    }
    return nil
  }
}

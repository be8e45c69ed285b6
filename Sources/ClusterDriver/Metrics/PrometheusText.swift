/// Writes Prometheus' text format, version 0.0.4: families with HELP and TYPE, and their samples.
struct PrometheusText {
  enum Kind: String {
    case counter, gauge, histogram
  }

  typealias Labels = KeyValuePairs<String, String>

  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private(set) var text = ""
  private var family = ""

  init() {
    self.text.reserveCapacity(16 << 10)
  }

  /// Begins a family: the samples that follow are its.
  mutating func family(_ name: String, _ kind: Kind, _ help: String) {
    self.family = name
    self.text += "# HELP \(name) "
    self.appendEscaped(help, quotes: false)
    self.text += "\n# TYPE \(name) \(kind.rawValue)\n"
  }

  mutating func sample(_ value: UInt64, _ labels: Labels = [:]) {
    self.sample(suffix: "", labels, String(value))
  }

  mutating func sample(_ value: Double, _ labels: Labels = [:]) {
    self.sample(suffix: "", labels, PrometheusText.show(value))
  }

  /// A family of one sample.
  mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: UInt64) {
    self.family(name, kind, help)
    self.sample(value)
  }

  /// A histogram in seconds.
  mutating func histogram(_ name: String, _ help: String, _ snapshot: LatencyHistogram.Snapshot) {
    self.family(name, .histogram, help)
    var cumulative: UInt64 = 0
    for (bound, count) in zip(LatencyHistogram.boundsUs, snapshot.counts) {
      cumulative &+= count
      self.sample(
        suffix: "_bucket", ["le": PrometheusText.show(Double(bound) / 1e6)], String(cumulative))
    }
    self.sample(suffix: "_bucket", ["le": "+Inf"], String(snapshot.count))
    self.sample(suffix: "_sum", [:], PrometheusText.show(Double(snapshot.sumUs) / 1e6))
    self.sample(suffix: "_count", [:], String(snapshot.count))
  }

  private mutating func sample(suffix: String, _ labels: Labels, _ value: String) {
    self.text += self.family
    self.text += suffix
    if !labels.isEmpty {
      var separator = "{"
      for (key, value) in labels {
        self.text += "\(separator)\(key)=\""
        self.appendEscaped(value, quotes: true)
        self.text += "\""
        separator = ","
      }
      self.text += "}"
    }
    self.text += " \(value)\n"
  }

  private mutating func appendEscaped(_ text: String, quotes: Bool) {
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": self.text += "\\\\"
      case "\n": self.text += "\\n"
      case "\"" where quotes: self.text += "\\\""
      default: self.text.unicodeScalars.append(scalar)
      }
    }
  }

  private static func show(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    let text = value.description
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}

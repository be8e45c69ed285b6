import Glibc
import Testing

@testable import ClusterDriver

/// Docs/OPERATING.md lists settings and metrics for people; this holds it to what there is.
@Suite("Operating guide")
struct OperatingGuideTests {
  static let guide: String = {
    // Tests/ClusterDriverTests/Configuration/… in the project's folder.
    let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
    guard let file = fopen("/\(root)/Docs/OPERATING.md", "r") else { return "" }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[..<count]
    }
  }()

  @Test("every setting is in the guide, with its default")
  func settings() {
    for option in ConfigurationOption.all {
      let row = Self.guide.split(separator: "\n").first { $0.hasPrefix("| `\(option.flag)`") }
      #expect(row != nil, "\(option.flag)")
      if let standard = option.standard, option.form != .toggle {
        #expect(row?.contains(standard) == true, "\(option.flag): default \(standard)")
      }
    }
  }

  @Test("every metric is in the guide, and none that does not exist")
  func metrics() {
    var snapshot = MetricsPageTests.snapshot()
    snapshot.redis = MetricsSnapshot.Link()
    snapshot.ownership = MetricsSnapshot.Ownership()
    snapshot.mailbox = MailboxMachine.Counts()
    let families = PrometheusChecker(MetricsPage.render(snapshot)).types
    let rows = Self.guide.split(separator: "\n").filter {
      $0.hasPrefix("| `cluster_driver_") || $0.hasPrefix("| `process_")
    }
    let listed = rows.flatMap { row in
      row.split(separator: "|")[0].split(separator: "`").filter { $0.contains("_") }
        .map { String($0.prefix { $0 != "{" }) }
    }
    #expect(Set(listed) == Set(families.keys))
    #expect(listed.count == families.count)
  }
}

import Testing

@Suite("The project keeps to its architecture")
struct ProjectTests {
  @Test("no arrow, length or leftover that the rules do not allow")
  func noViolations() throws {
    let files = try SourceFile.project()
    // Guards against a check that passes because it looked in the wrong place.
    try #require(files.contains { $0.path == "Sources/CSCP/include/cscp.h" })
    try #require(files.contains { $0.path == "scripts/lint" })
    for violation in Checker(table: .project, files: files).violations() {
      Issue.record("\(violation)")
    }
  }

  @Test("no target depends on itself by way of others")
  func noCycle() {
    let cycle = Table.project.cycle()
    #expect(cycle == nil, "\(cycle?.joined(separator: " → ") ?? "")")
  }

  @Test("nothing imports a program")
  func nothingImportsAProgram() {
    let programs: Set = ["cluster-driver", "clusterctl", "scp-fleet", "vendor-app"]
    for (name, allowed) in Table.project.rows {
      #expect(allowed.isDisjoint(with: programs), "\(name)")
    }
  }
}

import Testing

@Suite("The checker finds what it is there to find")
struct CheckerTests {
  private func violations(
    _ files: [(path: String, text: String)], _ rows: [String: Set<String>] = sample
  ) -> [String] {
    Checker(table: Table(rows: rows), files: files.map { SourceFile(path: $0.path, text: $0.text) })
      .violations()
  }

  private static let sample: [String: Set<String>] = [
    "Pure": [], "Shell": ["Pure", "Glibc", "CBase"], "CBase": ["libc"],
    "CTop": ["libc", "CBase/base.h"], "ClusterDriver": ["Foundation", "Glibc"],
  ]

  @Test(
    "an import is found behind any attribute, access level or kind",
    arguments: [
      "import Glibc", "  import Glibc", "public import Glibc", "@testable import Glibc",
      "@preconcurrency internal import Glibc", "@_spi(Inner) @_exported public import Glibc",
      "import struct Glibc.stat", "import Glibc.signal", "let a = 1; import Glibc",
      "/* why */ import Glibc // because", "#if os(Linux)\nimport Glibc\n#endif",
    ])
  func findsImport(_ text: String) {
    #expect(ImportLines.swift(text).map(\.name) == ["Glibc"])
  }

  @Test(
    "what only looks like an import is none",
    arguments: [
      "// import Glibc", "/* import Glibc */", "/* /* */ import Glibc */", "let important = 1",
      "let text = \"\"\"\nimport Glibc\n\"\"\"", "let text = \"; import Glibc\"", "reimport Glibc",
    ])
  func ignoresLookalike(_ text: String) {
    #expect(ImportLines.swift(text).isEmpty)
  }

  @Test("an import is reported with the line it stands in, comments and strings counted")
  func reportsLine() {
    let text = "/*\n\n*/\nlet a = \"\"\"\n\n\"\"\"\npublic import Glibc\n"
    #expect(ImportLines.swift(text) == [ImportLine(line: 7, name: "Glibc")])
  }

  @Test(
    "an include is found however it is written",
    arguments: [
      "#include <stdio.h>", "  #  include<stdio.h>", "#import <stdio.h>",
      "/* a\n */ #include <stdio.h> // b", "#include_next <stdio.h>",
    ])
  func findsInclude(_ text: String) {
    #expect(ImportLines.c(text).map(\.name) == ["stdio.h"])
  }

  @Test("an arrow that is not in the table is refused, with what is allowed and what to do")
  func refusesArrow() {
    let found = violations([("Sources/Pure/Rule.swift", "\npublic import Glibc\n")])
    #expect(found.count == 1)
    #expect(
      found.first?.hasPrefix(
        "Sources/Pure/Rule.swift:2: Pure may not import Glibc; it may import nothing. Move") == true
    )
  }

  @Test("an arrow that is in the table is not")
  func allowsArrow() {
    let text = "import Pure\ninternal import CBase\nprivate import Glibc\n"
    #expect(violations([("Sources/Shell/Loop.swift", text)]).isEmpty)
  }

  @Test("a folder that is not in the table is refused")
  func refusesUnknownFolder() {
    let found = violations([("Sources/Extra/A.swift", "import Anything\n")])
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix("Sources/Extra: not in the table") == true)
  }

  @Test("a node's target may not import Foundation even where the table were to allow it")
  func refusesFoundation() {
    let found = violations([("Sources/ClusterDriver/A.swift", "import Foundation\n")])
    #expect(found.first?.contains("runs in a node and may not import Foundation") == true)
  }

  private static let base = (path: "Sources/CBase/include/base.h", text: "#include <stdint.h>\n")
  private static let inner = (path: "Sources/CBase/inner.h", text: "")

  @Test(
    "C may include its own headers, libc, and another target's header named in its row",
    arguments: [
      "#include \"top.h\"", "#include <sys/epoll.h>", "#include <base.h>", "#include \"base.h\"",
    ]
  )
  func allowsInclude(_ line: String) {
    let files = [Self.base, ("Sources/CTop/top.h", ""), ("Sources/CTop/top.c", line + "\n")]
    #expect(violations(files).isEmpty)
  }

  @Test(
    "C may not include another library, a private header, another target's header, or the unknown",
    arguments: [
      ("#include <openssl/ssl.h>", "CTop may not include openssl"),
      ("#include \"../CBase/inner.h\"", "CTop may not include CBase's private inner.h"),
      ("#include <other.h>", "CTop may not include CBase's other.h"),
      ("#include <nowhere.h>", "nowhere.h is neither"),
      ("#include HEADER", "HEADER is neither"),
    ])
  func refusesInclude(_ line: String, _ message: String) {
    let files = [
      Self.base, Self.inner, (path: "Sources/CBase/include/other.h", text: ""),
      ("Sources/CTop/top.c", line + "\n"),
    ]
    let found = violations(files)
    #expect(found.count == 1)
    #expect(found.first?.contains(message) == true, "\(found)")
  }

  @Test("a file of more than 600 lines is refused, a generated one is not")
  func refusesLongFile() {
    let long = String(repeating: "\n", count: 601)
    #expect(violations([("Sources/Pure/A.swift", String(long.dropLast()))]).isEmpty)
    #expect(violations([("Sources/Pure/A.swift", long)]).first?.contains("601 lines") == true)
    #expect(violations([("Sources/Pure/Generated/A.swift", long)]).isEmpty)
  }

  @Test(
    "work left for later is refused, wherever it is written",
    arguments: ["TO" + "DO", "FIX" + "ME"])
  func refusesLeftover(_ word: String) {
    let found = violations([("Docs/A.md", "first\nsecond \(word)\n")])
    #expect(found == ["Docs/A.md:2: \(word). Do it now, or leave it out whole."])
  }

  @Test("a way back is found, through a header too")
  func findsCycle() {
    let rows: [String: Set<String>] = ["A": ["B"], "B": ["C/c.h", "libc"], "C": ["A"]]
    #expect(Table(rows: rows).cycle() == ["A", "B", "C", "A"])
    #expect(Table(rows: Self.sample).cycle() == nil)
  }
}

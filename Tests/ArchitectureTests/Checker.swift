/// Holds source files to the architecture. Pure: files in, what is wrong with them out.
struct Checker {
  static let linesMax = 600

  var table: Table
  var files: [SourceFile]
  /// All paths, to find what an `#include` means.
  private var paths: Set<String>

  init(table: Table, files: [SourceFile]) {
    self.table = table
    self.files = files
    self.paths = Set(files.map(\.path))
  }

  /// Every violation, as `path:line: what. What to do.`
  func violations() -> [String] {
    self.unknownTargets()
      + self.files.flatMap { file in
        self.arrows(of: file) + self.length(of: file) + self.leftovers(in: file)
      }
  }

  // MARK: Rules

  private func unknownTargets() -> [String] {
    Set(self.files.compactMap(\.target)).subtracting(self.table.rows.keys).sorted().map {
      "Sources/\($0): not in the table of targets. Add a row to Tests/ArchitectureTests/Table.swift"
        + " that says what it may import, and a line to Docs/ARCHITECTURE.md."
    }
  }

  private func arrows(of file: SourceFile) -> [String] {
    guard let target = file.target, let allowed = self.table.rows[target] else { return [] }
    switch file.kind {
    case .swift:
      return ImportLines.swift(file.text).compactMap { line in
        if line.name == "Foundation", Table.withoutFoundation.contains(target) {
          return
            "\(file.path):\(line.line): \(target) runs in a node and may not import Foundation."
            + " Use Glibc, or a shim in CSystem."
        }
        if allowed.contains(line.name) { return nil }
        return self.refusal(file, line, target, allowed, verb: "import", what: line.name)
      }
    case .c:
      return ImportLines.c(file.text).compactMap { line in
        let meant = self.meaning(of: line, in: file, target)
        switch meant {
        case .own: return nil
        case .library(let name) where allowed.contains(name): return nil
        case .header(let owner, let header)
        where allowed.contains(owner) || allowed.contains("\(owner)/\(header)"):
          return nil
        case .unknown:
          return "\(file.path):\(line.line): \(line.name) is neither a header of a target nor of a"
            + " known library. Name its library in SystemHeaders"
            + " (Tests/ArchitectureTests/Table.swift), or include it by its full name."
        default:
          return self.refusal(file, line, target, allowed, verb: "include", what: meant.description)
        }
      }
    case .other:
      return []
    }
  }

  private func length(of file: SourceFile) -> [String] {
    guard file.kind != .other || file.path.hasSuffix(".py"), !file.isGenerated else { return [] }
    let lines = file.text.split(separator: "\n", omittingEmptySubsequences: false).count - 1
    guard lines > Self.linesMax else { return [] }
    return [
      "\(file.path): \(lines) lines, \(Self.linesMax) are the limit. Split it by concern."
    ]
  }

  private func leftovers(in file: SourceFile) -> [String] {
    // Written so that these lines do not find themselves.
    let words = ["TO" + "DO", "FIX" + "ME"]
    guard !file.isGenerated, words.contains(where: file.text.contains) else { return [] }
    let lines = file.text.split(separator: "\n", omittingEmptySubsequences: false)
    return lines.enumerated().compactMap { index, line in
      words.first(where: line.contains).map {
        "\(file.path):\(index + 1): \($0). Do it now, or leave it out whole."
      }
    }
  }

  // MARK: What an #include means

  private enum Meaning: CustomStringConvertible {
    case own
    case header(owner: String, String)
    case privateHeader(owner: String, String)
    case library(String)
    case unknown

    var description: String {
      switch self {
      case .own: "its own header"
      case .header(let owner, let header): "\(owner)'s \(header)"
      case .privateHeader(let owner, let header): "\(owner)'s private \(header)"
      case .library(let name): name
      case .unknown: "an unknown header"
      }
    }
  }

  private func meaning(of line: ImportLine, in file: SourceFile, _ target: String) -> Meaning {
    let here = file.path.split(separator: "/").dropLast().joined(separator: "/")
    var candidates = ["Sources/\(target)/\(line.name)", "Sources/\(target)/include/\(line.name)"]
    if line.isQuoted { candidates.insert("\(here)/\(line.name)", at: 0) }
    for candidate in candidates.map(Self.normalized) where self.paths.contains(candidate) {
      let parts = candidate.split(separator: "/").map(String.init)
      guard parts.count > 2, parts[0] == "Sources" else { return .unknown }
      if parts[1] == target { return .own }
      let header = parts.dropFirst(parts[2] == "include" ? 3 : 2).joined(separator: "/")
      return parts[2] == "include"
        ? .header(owner: parts[1], header) : .privateHeader(owner: parts[1], header)
    }
    if let library = SystemHeaders.library(of: line.name) { return .library(library) }
    for owner in self.table.rows.keys.sorted()
    where self.paths.contains("Sources/\(owner)/include/\(line.name)") {
      return .header(owner: owner, line.name)
    }
    return .unknown
  }

  private static func normalized(_ path: String) -> String {
    var parts: [Substring] = []
    for part in path.split(separator: "/") where part != "." {
      if part == ".." { parts = parts.dropLast() } else { parts.append(part) }
    }
    return parts.joined(separator: "/")
  }

  private func refusal(
    _ file: SourceFile, _ line: ImportLine, _ target: String, _ allowed: Set<String>, verb: String,
    what: String
  ) -> String {
    let may = allowed.isEmpty ? "nothing" : allowed.sorted().joined(separator: ", ")
    return "\(file.path):\(line.line): \(target) may not \(verb) \(what); it may \(verb) \(may)."
      + " Move the code to a target that may, or change the row in"
      + " Tests/ArchitectureTests/Table.swift and say why in Docs/adr/."
  }
}

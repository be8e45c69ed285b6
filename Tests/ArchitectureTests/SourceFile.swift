import Foundation

/// A text file of the project, by its path from the project's folder.
struct SourceFile {
  enum Kind { case swift, c, other }

  var path: String
  var text: String

  var kind: Kind {
    if self.path.hasSuffix(".swift") { return .swift }
    return self.path.hasSuffix(".c") || self.path.hasSuffix(".h") ? .c : .other
  }

  var isGenerated: Bool { self.path.contains("/Generated/") }

  /// The target whose folder it is in.
  var target: String? {
    let parts = self.path.split(separator: "/")
    return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
  }
}

extension SourceFile {
  private static let suffixes = [
    ".swift", ".c", ".h", ".py", ".proto", ".md", ".mk", ".sh", ".modulemap", ".txt",
  ]

  /// All text files of the project that people write, and the generated ones.
  static func project() throws -> [SourceFile] {
    // …/Tests/ArchitectureTests/SourceFile.swift
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    var files: [SourceFile] = []
    for folder in ["Sources", "Tests", "Benchmarks", "Docs", "scripts", "systemd"] {
      let base = root.appendingPathComponent(folder).path
      guard let names = FileManager.default.enumerator(atPath: base) else { continue }
      while let name = names.nextObject() as? String {
        let leaf = name.split(separator: "/").last ?? ""
        if leaf == "__pycache__" || leaf.hasPrefix(".") {
          names.skipDescendants()
        } else if Self.suffixes.contains(where: leaf.hasSuffix)
          || (folder == "scripts" && !leaf.contains("."))
        {
          try files.append(Self.read("\(folder)/\(name)", root))
        }
      }
    }
    for name in ["Package.swift", "Makefile", "README.md", "CONTRIBUTING.md"]
    where FileManager.default.fileExists(atPath: root.appendingPathComponent(name).path) {
      try files.append(Self.read(name, root))
    }
    return files
  }

  private static func read(_ path: String, _ root: URL) throws -> SourceFile {
    let data = try Data(contentsOf: root.appendingPathComponent(path))
    return SourceFile(path: path, text: String(decoding: data, as: UTF8.self))
  }
}

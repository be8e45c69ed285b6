import ClusterTestKit
import Foundation
import Testing

/// UPDATE_TRACES=1 in the environment writes the traces anew; what `git diff` then shows is reviewed.
@Suite("Stories")
struct StoryTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "Traces")

  @Test("each story goes as it is written down, line by line", arguments: Tale.all)
  func told(_ tale: Tale) throws {
    var story = tale.begun()
    try story.run()
    let file = Self.folder.appending(path: tale.name.replacing(" ", with: "-") + ".txt")
    let text = story.lines.joined(separator: "\n") + "\n"
    if ProcessInfo.processInfo.environment["UPDATE_TRACES"] != nil {
      try text.write(to: file, atomically: true, encoding: .utf8)
      return
    }
    let golden = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
    for (i, line) in story.lines.enumerated() {
      try #require(i < golden.count, "line \(i + 1) is new: \(line)")
      try #require(line == golden[i], "line \(i + 1) of \(file.lastPathComponent)")
    }
    #expect(story.lines.count == golden.count, "the story ends before its time")
  }

  @Test(
    "whoever acts may crash after any line: no promise is broken, and all is well in the end",
    arguments: Tale.all)
  func crashes(_ tale: Tale) throws {
    var whole = tale.begun()
    try whole.run()
    try whole.endWell()
    var crashes = 0
    for line in 0..<whole.lines.count {
      var story = tale.begun()
      do {
        try story.run(crashAfterLine: line)
        try story.endWell()
        if story.hasCrashed { crashes += 1 }
      } catch {
        Issue.record("a crash after line \(line + 1), \(whole.lines[line]): \(error)")
      }
    }
    #expect(crashes * 2 > whole.lines.count, "of \(whole.lines.count) lines")
  }
}

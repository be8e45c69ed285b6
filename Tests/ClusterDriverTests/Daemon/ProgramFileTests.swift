import Glibc
import Testing

@testable import ClusterDriver

@Suite("The program's file")
struct ProgramFileTests {
  /// A folder with an executable file "program", and the file as it is seen by a process started from it.
  private func withProgram(_ body: (_ folder: String, _ file: ProgramFile) throws -> Void) throws {
    let folder = "/tmp/cluster-driver-program-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    try #require(mkdir(folder, 0o700) == 0)
    defer {
      for name in ["program", "new", "old", "link"] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }
    try make("\(folder)/program")
    try body(
      folder,
      ProgramFile(path: "\(folder)/program", running: ProgramFile.Identity("\(folder)/program")))
  }

  private func make(_ path: String, mode: mode_t = 0o700) throws {
    let file = open(path, O_CREAT | O_WRONLY, mode)
    try #require(file >= 0)
    close(file)
  }

  @Test("one that is renamed over it, as a package does, is another program")
  func renamed() throws {
    try withProgram { folder, file in
      #expect(file.state == .same)
      try make("\(folder)/new")
      #expect(rename("\(folder)/new", "\(folder)/program") == 0)
      #expect(file.state == .replaced)
      #expect(file.whyNotRestartable(isParked: true) == nil)
    }
  }

  @Test("moved aside it is missing, and the node cannot be restarted; put back it is the same")
  func movedAside() throws {
    try withProgram { folder, file in
      #expect(rename("\(folder)/program", "\(folder)/old") == 0)
      guard case .unusable = file.state else {
        Issue.record("\(file.state)")
        return
      }
      #expect(file.whyNotRestartable(isParked: true)?.contains("\(folder)/program") == true)
      #expect(rename("\(folder)/old", "\(folder)/program") == 0)
      #expect(file.state == .same)
    }
  }

  @Test("a link is followed at the time of asking")
  func linked() throws {
    try withProgram { folder, file in
      let link = "\(folder)/link"
      #expect(symlink(file.path, link) == 0)
      let linked = ProgramFile(path: link, running: ProgramFile.Identity(link))
      #expect(linked.state == .same)
      try make("\(folder)/new")
      unlink(link)
      #expect(symlink("\(folder)/new", link) == 0)
      #expect(linked.state == .replaced && file.state == .same)
    }
  }

  @Test(
    "without execute permission, or without --parking, a restart is not offered, and why is said")
  func notRestartable() throws {
    try withProgram { folder, file in
      #expect(file.whyNotRestartable(isParked: false)?.contains("--parking") == true)
      #expect(chmod(file.path, 0o600) == 0)
      #expect(file.whyNotRestartable(isParked: true)?.contains("executed") == true)
    }
  }

  @Test("this process' program is found, and is the one that runs")
  func own() {
    #expect(ProgramFile.own.path.hasPrefix("/"))
    #expect(ProgramFile.own.state == .same, "\(ProgramFile.own.path)")
  }
}

import Glibc
import Testing

@testable import ClusterDriver

@Suite("A node that dies again and again")
struct LivesTests {
  /// Processes that begin at these ms: which of them are to pause.
  private static func pauses(_ begins: [UInt64], _ text: String = "") -> [Bool] {
    var lives = Lives(text)
    return begins.map { lives.begin(at: $0) }
  }

  @Test("it is one when five processes began within half a minute and none ended in order")
  func dies() {
    let begins: [UInt64] = [100_000, 101_000, 102_000, 103_000, 104_000, 105_000, 110_000]
    #expect(Self.pauses(begins) == [false, false, false, false, false, true, true])
  }

  @Test("deaths that lie further apart are not counted together")
  func apart() {
    #expect(!Self.pauses((0..<20).map { $0 * 7_000 }).contains(true))
  }

  @Test("what is written down is read again, and what is no time of this boot is left out")
  func text() {
    var lives = Lives()
    for begin in 0..<5 { _ = lives.begin(at: UInt64(1000 + begin)) }
    #expect(Lives(lives.text) == lives)
    var damaged = Lives("1000 x 1001\n-3 99999999 1002 1003 99999999999999999999\n")
    let isDying = damaged.begin(at: 2000)
    #expect(!isDying)
    #expect(damaged.beganAt == [1000, 1001, 1002, 1003, 2000])
  }

  @Test("its file grows no longer than what is counted")
  func short() {
    var lives = Lives()
    for begin in 0..<1000 { _ = lives.begin(at: UInt64(begin)) }
    #expect(lives.beganAt.count == Lives.deathsMax + 1)
  }

  @Test("an end in order is forgotten, and without a directory nothing is noted")
  func file() throws {
    let folder = "/tmp/cluster-driver-lives-\(getpid())"
    mkdir(folder, 0o700)
    defer { rmdir(folder) }
    let file = try #require(LivesFile(port: 7, environment: ["RUNTIME_DIRECTORY": "\(folder):/x"]))
    defer { file.end() }
    for _ in 0..<5 { #expect(!file.begin()) }
    #expect(file.begin())
    file.end()
    #expect(!file.begin())
    #expect(LivesFile(port: 7, environment: [:]) == nil)
  }
}

@Suite("The lock of a state file")
struct StateLockTests {
  @Test("one process has it at a time, and it ends with who has it")
  func exclusive() throws {
    let path = "/tmp/cluster-driver-lock-\(getpid())"
    defer { unlink(path + ".lock") }
    var lock: StateLock? = try StateLock(path)
    #expect(lock != nil)
    #expect(throws: StateLock.Failure.self) { try StateLock(path) }
    lock = nil
    _ = try StateLock(path)
  }
}

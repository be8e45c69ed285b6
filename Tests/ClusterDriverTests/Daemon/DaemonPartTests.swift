import CSystem
import Glibc
import Testing

@testable import ClusterDriver

@Suite("Parts of the daemon")
struct DaemonPartTests {
  @Test("a loop that does not move for the patience is stuck, and well again when it moves")
  func pulse() {
    var pulse = Pulse()
    let t0 = ContinuousClock.now
    func look(_ count: UInt64, after seconds: Int) -> [String] {
      pulse.look([Beat("loop", count)], at: t0.advanced(by: .seconds(seconds)))
    }
    #expect(look(1, after: 0) == [])
    #expect(look(1, after: 9) == [])
    #expect(look(1, after: 10) == ["loop"])
    #expect(look(2, after: 11) == [])
    #expect(look(2, after: 20) == [])
    #expect(look(2, after: 21) == ["loop"])
  }

  @Test("a loop that was gone is not judged by what it was before")
  func pulseForgets() {
    var pulse = Pulse()
    let t0 = ContinuousClock.now
    func look(_ beats: [Beat], after seconds: Int) -> [String] {
      pulse.look(beats, at: t0.advanced(by: .seconds(seconds)))
    }
    #expect(look([Beat("loop", 1)], after: 0) == [])
    #expect(look([], after: 9) == [])
    #expect(look([Beat("loop", 1)], after: 11) == [])
  }

  @Test("the pool is found to move, look by look")
  func poolProbe() async {
    let probe = PoolProbe()
    #expect(probe.look() == 0)
    let until = ContinuousClock.now.advanced(by: .seconds(20))
    var count: UInt64 = 0
    while count < 3, .now < until {
      await Task.yield()
      count = probe.look()
    }
    #expect(count == 3)
  }

  @Test("the title names the controllers, and of many the first few and how many there are")
  func title() {
    #expect(
      Chores.title(port: 5001, sequences: 7, controllers: 2, serials: [12345, 67890])
        == "cluster-driver v1.0.0 port: 5001 sequences: 7 controllers: 12345, 67890")
    #expect(
      Chores.title(port: 5001, sequences: 0, controllers: 900, serials: (1...9).map { $0 })
        == """
        cluster-driver v1.0.0 port: 5001 sequences: 0 controllers: 900: 1, 2, 3, 4, 5, 6, 7, 8, …
        """)
  }

  @Test("the ready file is JSON whatever the path is called, and null stands for no metrics")
  func readyFile() {
    #expect(
      ReadyFile.contents(port: 5001, admin: "unix:/a\"b\\c\u{1}", metrics: nil, pid: 7)
        == "{\"port\":5001,\"admin\":\"unix:/a\\\"b\\\\c\\u0001\",\"metrics\":null,\"pid\":7}\n")
  }

  @Test("the ready file appears whole, goes when it is removed, and says why it cannot be written")
  func readyFileWritten() throws {
    let folder = "/tmp/cluster-driver-test-\(getpid())"
    mkdir(folder, 0o700)
    defer { rmdir(folder) }
    let file = ReadyFile(path: folder + "/ready")
    try file.write("text\n")
    #expect(access(file.path, R_OK) == 0)
    file.remove()
    #expect(access(file.path, R_OK) != 0)
    #expect(throws: ReadyFile.Failure.self) {
      try ReadyFile(path: folder + "/no/such/ready").write("text\n")
    }
  }

  @Test("what a task ends with can be waited for by a thread, and not longer than asked")
  func awaited() async {
    let slow = Awaited<Int> {
      try? await Task.sleep(for: .seconds(60))
      return 1
    }
    let quick = Awaited<Int> { 2 }
    await withCheckedContinuation { done in
      let work = Work {
        #expect(quick.wait(.seconds(20)) == 2)
        #expect(slow.wait(.milliseconds(10)) == nil)
        slow.cancel()
        #expect(slow.wait(.seconds(20)) == 1)
        done.resume()
      }
      csys_thread_start(
        "test", { Unmanaged<Work>.fromOpaque($0!).takeRetainedValue().body() },
        Unmanaged.passRetained(work).toOpaque(), nil)
    }
  }

  private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
  }
}

@Suite("Emptying a node that ends")
struct DrainingTests {
  /// So many ranges are there at first, and then so many after so many ms: what is waited for.
  private static func waits(_ first: Int, _ looks: [(left: Int, ms: Int)]) -> [Bool] {
    let t0 = ContinuousClock.now
    var draining = Draining(left: first, at: t0)
    return looks.map {
      draining.goesOn(left: $0.left, at: t0.advanced(by: .milliseconds($0.ms)))
    }
  }

  @Test("it is waited for as long as ranges go, and until none is left")
  func moves() {
    #expect(
      Self.waits(3, [(3, 1900), (2, 1950), (1, 3900), (0, 3950)]) == [true, true, true, false])
  }

  @Test("when nothing has gone for the patience nothing will, whatever came meanwhile")
  func stalls() {
    #expect(Self.waits(3, [(5, 1000), (5, 2000)]) == [true, false])
  }

  @Test("it ends at its limit, however much is left")
  func limit() {
    let looks = (1...60).map { (left: 1000 - $0, ms: $0 * 1000) }
    #expect(Self.waits(1000, looks) == Array(repeating: true, count: 59) + [false])
  }
}

import Election
import Glibc
import Logging
import Testing

@testable import ClusterDriver

@Suite("What a node keeps over its lives")
struct MemoryKeeperTests {
  private let path: String
  private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  init() throws {
    var folder = Array("/tmp/cd-memory-XXXXXX".utf8CString)
    try #require(mkdtemp(&folder) != nil)
    let name = folder.dropLast().map { UInt8(bitPattern: $0) }
    path = String(decoding: name, as: UTF8.self) + "/state"
  }

  private func remove() {
    for suffix in ["", ".new", ".unreadable"] { unlink(path + suffix) }
    rmdir(String(path.dropLast("/state".count)))
  }

  private static var memory: NodeMachine.Memory {
    var memory = NodeMachine.Memory()
    memory.list = MemberList(number: 7, added: [NodeID("a"): 1, NodeID("b c"): 7])
    memory.listKnown = [NodeID("b c"): 7, NodeID("gone"): .max]
    memory.floors.raiseFloor(of: Serial(10)...Serial(20), to: Epoch(5))
    memory.floors.raiseFloor(of: Serial(.max - 1)...Serial(.max - 1), to: Epoch(.max))
    return memory
  }

  @Test("what was kept is what the next life begins with, under a higher incarnation")
  func nextLife() throws {
    defer { remove() }
    let first = try MemoryKeeper(path: path, incarnation: Incarnation(100), log: log)
    #expect(first.memory == NodeMachine.Memory())
    first.keep(MemoryKeeperTests.memory)
    first.close()
    // The clock was set back meanwhile.
    let second = try MemoryKeeper(path: path, incarnation: Incarnation(50), log: log)
    #expect(second.memory.list == MemoryKeeperTests.memory.list)
    #expect(second.memory.listKnown == MemoryKeeperTests.memory.listKnown)
    #expect(second.memory.floors.ranges == MemoryKeeperTests.memory.floors.ranges)
    #expect(second.incarnation == Incarnation(101))
    second.close()
    // A life that kept nothing, killed at once, has been one all the same.
    let third = try MemoryKeeper(path: path, incarnation: Incarnation(0), log: log)
    #expect(third.incarnation == Incarnation(102))
    third.close()
  }

  @Test("of much that comes at once the newest is written")
  func newest() throws {
    defer { remove() }
    let keeper = try MemoryKeeper(path: path, incarnation: Incarnation(1), log: log)
    var memory = NodeMachine.Memory()
    for number in 1...1000 as ClosedRange<UInt64> {
      memory.list.number = number
      keeper.keep(memory)
    }
    keeper.close()
    let next = try MemoryKeeper(path: path, incarnation: Incarnation(2), log: log)
    #expect(next.memory.list.number == 1000)
    next.close()
  }

  @Test(
    "a file that no node has written whole is set aside, not used",
    arguments: [
      "", "end\n", "cluster-driver memory 2\nincarnation 1\nfloor 1 0\nend\n",
      "cluster-driver memory 1\nfloor 1 0\nend\n",
      "cluster-driver memory 1\nincarnation 1\nfloor 2 0\nend\n",
      "cluster-driver memory 1\nincarnation 1\nfloor 1 0\nfloor 1 0\nend\n",
      "cluster-driver memory 1\nincarnation 1\nlist 3 a\nfloor 1 0\nend\n",
      "cluster-driver memory 1\nincarnation 1\nfloor 1 0\n",
      "cluster-driver memory 1\nincarnation 1\nfloor 1 0\nsurprise 1\nend\n",
      "cluster-driver memory 1\nincarnation -1\nfloor 1 0\nend\n",
      "cluster-driver memory 1\nincarnation 1\nfloor 1 0 0\nend\n",
    ])
  func damaged(_ text: String) throws {
    defer { remove() }
    let file = try #require(fopen(path, "w"))
    fputs(text, file)
    fclose(file)
    let keeper = try MemoryKeeper(path: path, incarnation: Incarnation(9), log: log)
    #expect(keeper.memory == NodeMachine.Memory())
    #expect(keeper.incarnation == Incarnation(9))
    #expect(access(path + ".unreadable", F_OK) == 0)
    keeper.close()
  }

  @Test("where nothing can be written a node does not begin, and says where")
  func unwritable() throws {
    defer { remove() }
    #expect {
      try MemoryKeeper(path: path + "/x", incarnation: Incarnation(1), log: log)
    } throws: { "\($0)".contains(path) && "\($0)".contains("--state-file") }
  }
}

import Election

/// What a node keeps over its lives, as text: the file that `MemoryKeeper` writes.
///
/// ```
/// cluster-driver memory 1
/// incarnation 1790000000000000000
/// list 3 node-a 1 node-b 2
/// knows node-b 3
/// floor 1 17
/// end
/// ```
/// `knows`: the highest list number that node has shown. `floor`: the first serial of some, and the
/// highest epoch known of them, up to the next floor. `end` tells a file that is whole from one that
/// was cut.
struct MemoryText {
  private static let head = "cluster-driver memory 1"

  /// Of the life that wrote it: the next one's is above.
  var incarnation: Incarnation
  var memory: NodeMachine.Memory

  var text: String {
    var lines = [
      MemoryText.head, "incarnation \(self.incarnation.rawValue)",
      "list \(StoreText.line(self.memory.list))",
    ]
    lines += self.memory.listKnown.sorted { $0.key < $1.key }.map {
      "knows \(StoreText.token($0.key.name)) \($0.value)"
    }
    lines += self.memory.floors.ranges.map { "floor \($0.first) \($0.floor.rawValue)" }
    lines.append("end")
    return lines.joined(separator: "\n") + "\n"
  }

  init(incarnation: Incarnation, memory: NodeMachine.Memory) {
    self.incarnation = incarnation
    self.memory = memory
  }

  /// Throws why the text is none that a node has written.
  init(_ text: String) throws(StoreFailure) {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.popLast() == "", lines.popLast() == "end" else {
      throw .damaged("it does not end with \"end\"")
    }
    guard lines.first == Substring(MemoryText.head) else {
      throw .damaged("its first line is not \"\(MemoryText.head)\"")
    }
    var memory = NodeMachine.Memory()
    var incarnation: UInt64?
    var floors: [(first: Serial, floor: Epoch)] = []
    for line in lines.dropFirst() {
      var words = StoreWords(line)
      switch try words.word() {
      case "incarnation": incarnation = try words.number()
      case "list":
        let rest = line.dropFirst("list ".count)
        memory.list = try StoreWords.list(String(rest))
        continue
      case "knows": memory.listKnown[try words.node()] = try words.number()
      case "floor":
        floors.append((first: Serial(try words.number()), floor: Epoch(try words.number())))
      case let word: throw words.bad("\"\(word.prefix(40))\" is nothing it can begin with")
      }
      try words.end()
    }
    guard let incarnation else { throw .damaged("no line \"incarnation\"") }
    guard let map = RangeMap(stored: floors, version: 1) else {
      throw .damaged("its floors are not sorted, or not from serial 1 on")
    }
    memory.floors = map
    self.incarnation = Incarnation(incarnation)
    self.memory = memory
  }
}

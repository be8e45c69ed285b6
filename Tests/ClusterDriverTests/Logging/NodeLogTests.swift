import CSystem
import Glibc
import Logging
import Synchronization
import Testing

@testable import ClusterDriver

@Suite("Log", .timeLimit(.minutes(1)))
struct NodeLogTests {
  /// Keeps what is written.
  final class Kept: LogSink {
    let records = Mutex<[LogRecord]>([])

    func write(_ record: LogRecord) -> Bool {
      self.records.withLock { $0.append(record) }
      return true
    }
  }

  /// A pipe nobody reads until told to; both ends closed at the end.
  final class StuckPipe: Sendable {
    let reader: CInt
    let writer: CInt

    init() {
      var ends: [CInt] = [-1, -1]
      #expect(pipe(&ends) == 0)
      (self.reader, self.writer) = (ends[0], ends[1])
    }

    deinit {
      close(self.reader)
      close(self.writer)
    }

    /// Reads until the text contains `end`.
    func read(until end: String) -> String {
      var bytes: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while true {
        let count = Glibc.read(self.reader, &buffer, buffer.count)
        guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
        bytes += buffer[..<count]
        let tail = String(decoding: bytes.suffix(512), as: UTF8.self)
        if tail.contains(end) { return String(decoding: bytes, as: UTF8.self) }
      }
    }
  }

  @Test("metadata of the logger, then of the line, become fields")
  func metadata() {
    let kept = Kept()
    let log = NodeLog(sink: kept, level: .info)
    var logger = log.logger("redis")
    logger[metadataKey: "serial"] = "1"
    logger[metadataKey: "epoch"] = "2"
    logger.info("up", metadata: ["epoch": "3"])
    logger.debug("not logged")
    #expect(log.close())
    let records = kept.records.withLock { $0 }
    #expect(records.count == 1)
    #expect(records.first?.label == "redis")
    #expect(records.first?.message == "up")
    #expect(records.first?.fields.map { "\($0.key)=\($0.value)" } == ["epoch=3", "serial=1"])
    #expect(records.first?.file.hasSuffix("NodeLogTests.swift") == true)
  }

  @Test("all that was logged before close is written, in order, from several threads")
  func order() async {
    let kept = Kept()
    let log = NodeLog(sink: kept, level: .info)
    await withTaskGroup(of: Void.self) { group in
      for part in 0..<4 {
        group.addTask {
          let logger = log.logger("\(part)")
          for number in 0..<500 { logger.info("\(number)") }
        }
      }
    }
    #expect(log.close())
    let records = kept.records.withLock { $0 }
    #expect(records.count == 2_000)
    for part in 0..<4 {
      #expect(
        records.filter { $0.label == "\(part)" }.map(\.message) == (0..<500).map(String.init))
    }
    #expect(log.queue.writtenTotal == 2_000)
    #expect(log.queue.droppedTotal == 0)
  }

  @Test("a log that nobody reads stops nobody; what was dropped is counted and told")
  func blockedPipe() throws {
    let pipe = StuckPipe()
    let log = NodeLog(sink: DescriptorSink(fd: pipe.writer, style: .plain), level: .info)
    let logger = log.logger("events")
    let text: Logger.Message = "a line that takes some room in the pipe and in the queue"
    let count = 50_000
    // Nothing reads: if logging waited, this loop would never end.
    for number in 0..<count { logger.info(text, metadata: ["number": "\(number)"]) }
    let dropped = log.queue.droppedTotal
    #expect(dropped > 0)
    #expect(dropped < count)

    let read = pipe.read(until: "dropped=\(dropped)\n")
    #expect(read.contains("warning log: lines were dropped because the log does not take them"))
    #expect(log.close())
    let lines = read.split(separator: "\n")
    #expect(lines.count == count - Int(dropped) + 1)
    #expect(lines.first?.hasSuffix("number=0") == true)
  }

  @Test("close gives up on a log that nobody reads")
  func closeGivesUp() {
    let pipe = StuckPipe()
    let log = NodeLog(sink: DescriptorSink(fd: pipe.writer, style: .plain), level: .info)
    let logger = log.logger("events")
    for _ in 0..<5_000 { logger.info("a line that takes some room in the pipe") }
    #expect(!log.close(within: .milliseconds(50)))
    logger.info("after close")
    // Lets the writer go.
    _ = pipe.read(until: "dropped=1\n")
    #expect(log.close())
  }

  @Test("a descriptor that is closed or broken drops lines, and counts them")
  func brokenDescriptor() {
    let log = NodeLog(sink: DescriptorSink(fd: -1, style: .plain), level: .info)
    log.logger("events").info("nowhere")
    #expect(log.close())
    #expect(log.queue.droppedTotal == 1)
    #expect(log.queue.writtenTotal == 0)
  }

  @Test("a non-blocking descriptor that is full is waited for, by the writer alone")
  func nonBlockingDescriptor() {
    let pipe = StuckPipe()
    var flag: CInt = 1
    #expect(ioctl(pipe.writer, UInt(FIONBIO), &flag) == 0)
    let log = NodeLog(sink: DescriptorSink(fd: pipe.writer, style: .plain), level: .info)
    let logger = log.logger("events")
    for number in 0..<5_000 { logger.info("line", metadata: ["number": "\(number)"]) }
    let read = pipe.read(until: "number=4999\n")
    #expect(read.split(separator: "\n").count == 5_000)
    #expect(log.close())
  }

  @Test(
    "what the journal does not take goes to standard error's sink",
    .enabled(if: access("/run/systemd/journal/socket", F_OK) != 0, "no journal on this machine"))
  func journalAway() throws {
    let pipe = StuckPipe()
    let sink = try JournalSink(fallback: DescriptorSink(fd: pipe.writer, style: .plain))
    #expect(sink.write(LogTextTests.record("kept")))
    #expect(pipe.read(until: "\n") == LogTextTests.text(LogTextTests.record("kept")))
  }
}

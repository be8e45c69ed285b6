import DriverProtocol
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Sequence encoding")
struct SequenceEncodingTests {
  typealias Command = Clusterdriver_V1_Command

  static func list(_ change: (inout Clusterdriver_V1_CommandList) -> Void = { _ in }) -> Command {
    CommandEncodingTests.command {
      $0.lane = .urgent
      $0.list = .with { list in
        list.commands = [
          .with { $0.unlock = .with { $0.door = 1 } },
          .with {
            $0.notAfterMs = 1_600_000_000_000
            $0.setOutput = .with {
              $0.output = 2
              $0.state = .on
            }
          },
        ]
        change(&list)
      }
    }
  }

  static func complaint(_ command: Command) -> String {
    switch CommandEncoding.encode(command) {
    case .success: ""
    case .failure(let refusal): refusal.detail
    }
  }

  @Test("a list's commands have ids that follow from its own, its lane, and the earlier deadline")
  func steps() throws {
    let command = try CommandEncoding.encode(Self.list { $0.done = 1 }).get()
    guard case .list(let steps, let done)? = command.sequence else {
      Issue.record("no list: \(command)")
      return
    }
    let id = try #require(CommandID(CommandEncodingTests.id))
    #expect(steps.map(\.id) == [id.step(0), id.step(1)])
    #expect(Set([id.step(0), id.step(1), id.step(0, round: 1), id]).count == 4)
    #expect(steps.map(\.lane) == [0, 0])
    #expect(steps.map(\.serial) == [42, 42])
    #expect(steps.map(\.notAfterMs) == [1_700_000_000_000, 1_600_000_000_000])
    #expect(steps.map(\.code) == [1, 4])
    #expect(done == 1)
  }

  @Test("what is wrong with a list is said, with the command's place in it")
  func wrongLists() {
    #expect(Self.complaint(Self.list { $0.commands = [] }).contains("1 to 256"))
    #expect(Self.complaint(Self.list { $0.done = 3 }).contains("3, of 2"))
    let many = Self.list {
      $0.commands = [Command](repeating: .with { $0.queryStatus = .init() }, count: 257)
    }
    #expect(Self.complaint(many).contains("not 257"))
    #expect(
      Self.complaint(Self.list { $0.commands[1].setOutput.output = 0 })
        .hasPrefix("list.commands[1]: set_output.output"))
    #expect(Self.complaint(Self.list { $0.commands[1].serial = 42 }).contains("leave them out"))
    #expect(
      Self.complaint(Self.list { $0.commands[0].list = .init() }).contains("none within a list"))
    let large = Self.list {
      $0.commands = [Command](
        repeating: .with {
          $0.raw = .with {
            $0.code = 99
            $0.body = .init(repeating: 0, count: 4000)
          }
        }, count: 17)
    }
    #expect(Self.complaint(large).contains("68000 bytes"))
    var late = Self.list()
    late.notAfterMs = 0
    #expect(Self.complaint(late).hasPrefix("list.commands[0]: not_after_ms"))
  }

  @Test("a configuration is known by the digest of its bytes, and goes in the bulk lane")
  func configuration() throws {
    let command = try CommandEncoding.encode(
      CommandEncodingTests.command { $0.configuration.content = .init(bytes: Array("abc".utf8)) }
    ).get()
    #expect(command.lane == 2)
    guard case .configuration(let configuration)? = command.sequence else {
      Issue.record("no configuration: \(command)")
      return
    }
    #expect(configuration.bytes == Array("abc".utf8))
    // FIPS 180-4's example.
    #expect(
      configuration.digest == [
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22,
        0x23,
      ])
  }

  @Test("a configuration that is empty, too large, or in another lane is refused")
  func wrongConfigurations() {
    #expect(
      Self.complaint(CommandEncodingTests.command { $0.configuration = .init() })
        .contains("1 to 1048576 bytes, not 0"))
    #expect(
      Self.complaint(
        CommandEncodingTests.command {
          $0.configuration.content = .init(repeating: 1, count: (1 << 20) + 1)
        }
      ).contains("not 1048577"))
    #expect(
      Self.complaint(
        CommandEncodingTests.command {
          $0.configuration.content = .init(bytes: [1])
          $0.lane = .urgent
        }
      ).contains("BULK"))
  }

  @Test("by a door behind which nobody keeps it a sequence is refused, and says where it belongs")
  func doors() {
    let refused = CommandEncoding.single(CommandEncoding.encode(Self.list()))
    guard case .failure(let refusal) = refused else {
      Issue.record("taken")
      return
    }
    #expect(refusal.id == CommandID(CommandEncodingTests.id))
    #expect(refusal.detail.contains("Attach stream"))
  }
}

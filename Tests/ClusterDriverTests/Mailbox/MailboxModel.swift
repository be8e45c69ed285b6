import DriverProtocol
import Election
import SwiftProtobuf

@testable import ClusterDriver

/// The mailbox in Redis as the scripts keep it, in memory.
struct MailboxModel {
  var index: [String: Letter] = [:]
  var bodies: [CommandID: [UInt8]] = [:]
  var marks: [CommandID: OpenedLetter.Mark] = [:]
  var ended: Set<CommandID> = []
  var owner = 0
  var range = OwnedRange(first: .lowest, last: .highest, epoch: Epoch(1))
  private var clock: UInt64 = 0

  mutating func post(
    _ command: Clusterdriver_V1_Command, serial: UInt64, id: CommandID, nowMs: UInt64
  )
    -> Letter?
  {
    guard self.bodies[id] == nil, !self.ended.contains(id) else { return nil }
    self.clock = max(self.clock + 1, nowMs * 1000)
    let letter = Letter(serial: serial, number: self.clock, id: id)
    self.index[letter.text] = letter
    self.bodies[id] = command.wireBytes()
    return letter
  }

  mutating func run(_ call: MailboxCall, by node: Int) -> MailboxReply {
    func owns(_ range: OwnedRange) -> Bool { self.owner == node && self.range == range }
    switch call {
    case .scan(let scan):
      let after = String(decoding: scan.after, as: UTF8.self)
      let found = self.index.values.filter {
        (scan.first...scan.last).contains($0.serial) && $0.text > after
      }
      return .scanned(found.map(\.text).sorted().prefix(3).map { Array($0.utf8) })
    case .open(let openings, let range):
      if let range, !owns(range) { return .notOwner }
      var letters: [OpenedLetter] = []
      for opening in openings {
        let found = self.index.values.filter {
          $0.serial == opening.serial && $0.number > opening.after
        }
        for letter in found.sorted(by: { $0.number < $1.number }).prefix(opening.count) {
          let body = self.bodies[letter.id] ?? []
          letters.append(
            OpenedLetter(
              text: Array(letter.text.utf8), body: body, mark: self.marks[letter.id] ?? .none))
          if opening.marks, self.marks[letter.id] == nil, !body.isEmpty {
            self.marks[letter.id] = .given(done: 0)
          }
        }
      }
      return .opened(letters, read: openings.count)
    case .decide(let letters, let results, let range):
      guard owns(range) else { return .notOwner }
      return .decided(
        zip(letters, results).map { letter, result in
          if case .result(let former) = self.marks[letter.id] { return .was(former) }
          guard self.index[letter.text] != nil else {
            return self.ended.contains(letter.id) ? .ended : .gone
          }
          self.marks[letter.id] = .result(result)
          return .taken
        })
    case .note(let letters, let done, let range):
      guard owns(range) else { return .notOwner }
      for (letter, done) in zip(letters, done) {
        if case .given = self.marks[letter.id] { self.marks[letter.id] = .given(done: done) }
      }
      return .noted
    case .remove(let texts, let range):
      guard owns(range) else { return .notOwner }
      for text in texts {
        guard let letter = self.index.removeValue(forKey: String(decoding: text, as: UTF8.self))
        else {
          continue
        }
        self.bodies[letter.id] = nil
        self.marks[letter.id] = nil
        self.ended.insert(letter.id)
      }
      return .removed
    }
  }
}

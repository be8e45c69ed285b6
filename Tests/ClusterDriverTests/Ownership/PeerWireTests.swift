import DriverProtocol
import Election
import SwiftProtobuf
import Testing

@testable import ClusterDriver

@Suite("Questions between nodes, as they travel")
struct PeerWireTests {
  private static let me = Owner(NodeID("host:5001"), Incarnation(.max))
  private static let store = StoreIdentity("0123456789abcdef")

  @Test(
    "a question arrives as it was asked",
    arguments: [
      .promise(
        FailsafeMachine.PromiseRequest(asker: me, round: .max, identity: store, version: 3)),
      .promise(
        FailsafeMachine.PromiseRequest(
          asker: me, round: 1, identity: store, version: 3, isProbe: true)),
      .consent(FailsafeMachine.ConsentRequest(asker: me, identity: store, against: nil)),
      .consent(
        FailsafeMachine.ConsentRequest(
          asker: me, identity: store, against: StoreCall.Watched(NodeID("b"), nil))),
      .consent(
        FailsafeMachine.ConsentRequest(
          asker: me, identity: store,
          against: StoreCall.Watched(NodeID("b"), SessionValue(Incarnation(0), 0)))),
    ] as [NodeMachine.Question])
  func questions(_ question: NodeMachine.Question) throws {
    let bytes: [UInt8] = try PeerWire.message(
      question, to: NodeID("b")
    ).serializedBytes()
    let (asker, read) = try #require(
      PeerWire.question(try Clusterdriver_V1_PeerQuestion(serializedBytes: bytes)))
    #expect(asker == PeerWireTests.me.node && read == question)
  }

  @Test(
    "an answer arrives as it was given",
    arguments: [
      .refused, .heard(round: .max), .consented(against: nil),
      .consented(against: StoreCall.Watched(NodeID("b"), SessionValue(Incarnation(1), .max))),
      .promised(round: 1, store, version: 2, news: []),
      .promised(
        round: 1, store, version: 2,
        news: [
          RangeRecord(first: .lowest, last: Serial(9)),
          RangeRecord(
            first: Serial(10), last: .highest, owner: me, epoch: Epoch(.max),
            load: RangeLoad(weight: 7, median: Serial(11)),
            successors: [NodeID("b"), NodeID("c")], move: PendingMove(to: NodeID("c"), number: 4),
            store: store, changed: 2),
        ]),
    ] as [NodeMachine.Answer])
  func answers(_ answer: NodeMachine.Answer) throws {
    let bytes: [UInt8] = try PeerWire.message(answer).serializedBytes()
    #expect(PeerWire.answer(try Clusterdriver_V1_PeerAnswer(serializedBytes: bytes)) == answer)
  }

  @Test("what no node would say is not taken for something")
  func nonsense() {
    #expect(PeerWire.question(Clusterdriver_V1_PeerQuestion()) == nil)
    #expect(PeerWire.answer(Clusterdriver_V1_PeerAnswer()) == nil)
    var question = PeerWire.message(
      .consent(
        FailsafeMachine.ConsentRequest(
          asker: PeerWireTests.me, identity: PeerWireTests.store, against: nil)),
      to: NodeID("b"))
    question.store = ""
    #expect(PeerWire.question(question) == nil)
    func answer(_ ranges: [(first: UInt64, last: UInt64)]) -> NodeMachine.Answer? {
      var message = Clusterdriver_V1_PeerAnswer()
      message.promised.news = ranges.map { range in
        .with {
          $0.first = range.first
          $0.last = range.last
        }
      }
      return PeerWire.answer(message)
    }
    #expect(answer([(1, 5), (6, 9)]) != nil)
    #expect(answer([(1, 5), (5, 9)]) == nil, "they overlap")
    #expect(answer([(5, 1)]) == nil, "backwards")
    #expect(answer([(0, 1)]) == nil, "0 is no serial")
    #expect(answer([(1, .max)]) == nil, "2^64 − 1 is no serial")
  }

  @Test("a promise whose news are too many is none, rather than one with news left out")
  func tooMuch() {
    let news = (1...UInt64(PeerWire.newsMax + 1)).map {
      RangeRecord(first: Serial($0), last: Serial($0))
    }
    let message = PeerWire.message(.promised(round: 1, PeerWireTests.store, version: 1, news: news))
    #expect(PeerWire.answer(message) == .refused)
  }
}

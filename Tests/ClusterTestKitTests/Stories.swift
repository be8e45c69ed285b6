import ClusterTestKit
import Election

/// What an operator would tell of a cluster. Each is a script; Traces/ has what comes of it.
struct Tale: Sendable, CustomStringConvertible {
  var name: String
  var nodes = 3
  var tolerance = 0
  var seconds: ClosedRange<Double>
  var script: [(seconds: Double, step: Story.Step)]

  var description: String { name }

  func begun() -> Story {
    Story(nodes: nodes, tolerance: tolerance, seconds: seconds, script: script)
  }
}

private let half = Serial(1000)

/// Two nodes: node-0 leads and has 1…4999, node-1 has 5000…, all settled by 6.5 s.
private let two: [(seconds: Double, step: Story.Step)] = [
  (0, .starts(0)), (2.5, .starts(1)), (4.5, .weighs(0, .lowest, 600, half: half)),
  (5, .weighs(0, half, 700, half: Serial(5000))),
]

/// And a third, that has nothing yet.
private let three = two + [(5.6, .starts(2))]

extension Tale {
  static let all: [Tale] = [
    Tale(
      name: "a cluster begins", nodes: 2, seconds: 0...6.5, script: two),
    Tale(
      name: "a renewal is lost", nodes: 2, seconds: 6.5...8,
      script: two + [(6.8, .losesStore(1)), (7, .reconnects(1))]),
    Tale(
      name: "the leader dies", nodes: 2, seconds: 6.5...9, script: two + [(6.6, .dies(0))]),
    Tale(
      name: "Redis restarts empty", nodes: 2, seconds: 6.5...10,
      script: two + [(6.6, .storeEmptied)]),
    Tale(
      name: "Redis fails over and loses writes", nodes: 3, seconds: 6.5...12,
      script: three + [
        (6.6, .storeCopied), (6.65, .losesAll(1)), (9, .storeFailsOver), (9.5, .reconnects(1)),
      ]),
    Tale(
      name: "one that was taken off reaches an emptied Redis first", nodes: 2,
      seconds: 17...29,
      script: two + [
        (6.6, .losesAll(1)), (19, .losesStore(0)), (19.2, .storeEmptied), (19.5, .reconnects(1)),
      ]),
    Tale(
      name: "a node is drained", nodes: 2, seconds: 6.5...8, script: two + [(6.6, .drains(1))]),
    Tale(
      name: "one does not reach the vendor app and later nobody does", nodes: 2, seconds: 6.5...24,
      script: two + [
        (6.6, .losesVendorApp(1)), (12, .reachesVendorApp(1)), (17, .losesVendorApp(0)),
        (17.3, .losesVendorApp(1)),
        (22, .reachesVendorApp(1)), (22.3, .reachesVendorApp(0)),
      ]),
    Tale(
      name: "a new node joins", nodes: 3, seconds: 6.5...9,
      script: two + [
        (5.6, .weighs(0, .lowest, 600, half: Serial(500))),
        (5.9, .weighs(0, half, 600, half: Serial(2000))), (6.6, .starts(2)),
      ]),
    Tale(
      name: "a range is to be split during its move", nodes: 2, seconds: 6.5...9,
      script: two + [
        (6.6, .drains(1)), (6.6, .weighs(1, Serial(5000), 900, half: Serial(9000))),
      ]),
    Tale(
      name: "the owner dies in a move", nodes: 2, seconds: 6.5...10,
      script: two + [(6.6, .drains(1)), (6.617, .dies(1))]),
    Tale(
      name: "the owner loses Redis in a move", nodes: 2, seconds: 6.5...11,
      script: two + [(6.6, .drains(1)), (6.617, .losesStore(1)), (10.5, .reconnects(1))]),
    Tale(
      name: "a node hears nothing and is heard", nodes: 3, seconds: 6.5...13,
      script: three + [(6.6, .hearsNothing(1)), (10, .reconnects(1))]),
    Tale(
      name: "a node that was without Redis hears nothing", nodes: 3, seconds: 6.5...14,
      script: three + [
        (6.6, .losesStore(1)), (10, .reconnects(1)), (10.8, .hearsNothing(1)),
        (12.9, .reconnects(1)),
      ]),
    Tale(
      name: "Redis is away for a minute and a node dies meanwhile", nodes: 3, seconds: 6.5...70,
      script: three + [(7, .storeDown), (30, .dies(2)), (67, .storeUp)]),
    Tale(
      name: "Redis is away for a minute and f is 1", nodes: 3, tolerance: 1, seconds: 6.5...70,
      script: three + [(7, .storeDown), (30, .dies(2)), (67, .storeUp)]),
    Tale(
      name: "a node stops and starts", nodes: 2, seconds: 6.5...10,
      script: two + [(6.6, .stops(1)), (7.5, .starts(1))]),
  ]
}

import Election
import Testing

@Suite("Session")
struct SessionMachineTests {
  private func began() -> SessionMachine {
    var session = SessionMachine(timing: defaults)
    #expect(
      session.step(.wake, at: at(0)) == [.heartbeat(counter: 1), .wake(at: at(250))])
    return session
  }

  @Test("the right to act counts from the sending, and not from the reply")
  func fromSending() {
    var session = began()
    #expect(session.deadline == nil)
    #expect(session.step(.confirmed(counter: 1), at: at(240)) == [.wake(at: at(250))])
    #expect(session.deadline == at(1200))
  }

  @Test("one heartbeat is under way at a time; the next goes as soon as it has ended")
  func oneAtATime() {
    var session = began()
    #expect(session.step(.wake, at: at(250)) == [])
    #expect(session.step(.nudged, at: at(300)) == [])
    #expect(
      session.step(.unreachable(counter: 1), at: at(400)) == [
        .heartbeat(counter: 2), .wake(at: at(650)),
      ])
  }

  @Test("counters never repeat, and an answer counts for its own heartbeat only")
  func counters() {
    var session = began()
    _ = session.step(.unreachable(counter: 1), at: at(400))
    #expect(session.step(.confirmed(counter: 1), at: at(410)) == [])
    #expect(session.deadline == nil && session.failures == 1)
    _ = session.step(.confirmed(counter: 2), at: at(420))
    #expect(session.deadline == at(1600))
    // The same answer a second time changes nothing.
    #expect(session.step(.confirmed(counter: 2), at: at(430)) == [])
    #expect(session.step(.unreachable(counter: 2), at: at(430)) == [])
    #expect(session.deadline == at(1600) && session.failures == 0)
  }

  @Test("failures count in a row; an answer ends the row")
  func failures() {
    var session = began()
    var now: Int64 = 0
    for counter in 1...4 as ClosedRange<UInt64> {
      now += 400
      _ = session.step(.unreachable(counter: counter), at: at(now))
      #expect(session.failures == Int(counter))
    }
    _ = session.step(.confirmed(counter: 5), at: at(now + 1))
    #expect(session.failures == 0)
  }

  @Test("an answer that others have overtaken moves no deadline, and is asked for again at once")
  func outdated() {
    var session = began()
    #expect(session.step(.outdated(counter: 1), at: at(5)) == [.wake(at: at(10))])
    #expect(session.deadline == nil)
    #expect(
      session.step(.wake, at: at(10)) == [.heartbeat(counter: 2), .wake(at: at(260))])
    #expect(session.step(.outdated(counter: 1), at: at(11)) == [])
  }

  @Test("nudges bring the next heartbeat forward, yet never closer than the gap")
  func nudged() {
    var session = began()
    _ = session.step(.confirmed(counter: 1), at: at(2))
    #expect(session.step(.nudged, at: at(9)) == [.wake(at: at(10))])
    #expect(
      session.step(.wake, at: at(10)) == [.heartbeat(counter: 2), .wake(at: at(260))])
    _ = session.step(.confirmed(counter: 2), at: at(11))
    // A nudge is used up by the heartbeat it has brought.
    #expect(session.step(.wake, at: at(25)) == [.wake(at: at(260))])
  }

  @Test("every sequence of 7 events: the deadline is that of a confirmed heartbeat's sending")
  func everySequence() {
    struct State {
      var session = SessionMachine(timing: defaults)
      var now: Int64 = 0
      var sent: [UInt64: Int64] = [:]
      var confirmedAt: Int64?
    }
    var seen = 0
    func explore(_ state: State, left: Int) {
      seen += 1
      let last = UInt64(state.sent.count)
      let events: [(SessionMachine.Event, Int64)] = [
        (.wake, 250), (.nudged, 3), (.confirmed(counter: last), 1), (.outdated(counter: last), 1),
        (.unreachable(counter: last), 400), (.confirmed(counter: last &- 1), 1),
      ]
      guard left > 0 else { return }
      for (event, takes) in events {
        var next = state
        next.now += takes
        let before = next.session
        let out = next.session.step(event, at: at(next.now))
        let wasUnderWay = before.wouldReturn(.wake, at: at(next.now + 100_000)).isEmpty
        if case .confirmed(let counter) = event, counter == last, last > 0, wasUnderWay {
          next.confirmedAt = next.sent[counter]
        }
        for case .heartbeat(let counter) in out {
          #expect(counter == last + 1)
          if let previous = next.sent[last] { #expect(next.now - previous >= 10) }
          next.sent[counter] = next.now
        }
        #expect(next.session.deadline == next.confirmedAt.map { at($0 + 1200) })
        explore(next, left: left - 1)
      }
    }
    explore(State(), left: 7)
    #expect(seen == (0...7).reduce(0) { sum, n in sum + (0..<n).reduce(1) { p, _ in p * 6 } })
  }
}

extension SessionMachine {
  /// What a step would return.
  fileprivate func wouldReturn(_ event: Event, at now: Instant) -> [Directive] {
    var copy = self
    return copy.step(event, at: now)
  }
}

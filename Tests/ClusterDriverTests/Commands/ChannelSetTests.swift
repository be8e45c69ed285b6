import Testing

@testable import ClusterDriver

@Suite("Channels listened on")
struct ChannelSetTests {
  let t0 = ContinuousClock.now

  @Test("a connected controller's channel is listened on until the grace after it left is over")
  func lifetime() {
    var set = ChannelSet(grace: .seconds(2))
    set.connected(7)
    #expect(set.takeChanges(at: self.t0) == .init(subscribe: [7]))
    #expect(set.takeChanges(at: self.t0) == .init())
    set.disconnected(7, at: self.t0)
    #expect(set.wakeAt == self.t0.advanced(by: .seconds(2)))
    #expect(set.takeChanges(at: self.t0.advanced(by: .seconds(1))) == .init())
    #expect(set.takeChanges(at: self.t0.advanced(by: .seconds(2))) == .init(unsubscribe: [7]))
    #expect(set.wakeAt == nil)
    #expect(set.all == [])
  }

  @Test("one that comes back within the grace is never let go of, however often")
  func flapping() {
    var set = ChannelSet(grace: .seconds(2))
    set.connected(7)
    _ = set.takeChanges(at: self.t0)
    for half in 0..<20 {
      let now = self.t0.advanced(by: .milliseconds(500 * half))
      set.disconnected(7, at: now)
      #expect(set.takeChanges(at: now) == .init())
      set.connected(7)
    }
    #expect(set.takeChanges(at: self.t0.advanced(by: .seconds(60))) == .init())
    #expect(set.all == [7])
  }

  @Test("a newer session may come before the older one is known to be gone")
  func superseded() {
    var set = ChannelSet(grace: .zero)
    set.connected(7)
    set.connected(7)
    set.disconnected(7, at: self.t0)
    #expect(set.takeChanges(at: self.t0.advanced(by: .seconds(1))) == .init(subscribe: [7]))
    #expect(set.all == [7])
  }

  @Test("come and gone between two looks is nothing to do")
  func cancelled() {
    var set = ChannelSet(grace: .zero)
    set.connected(7)
    set.disconnected(7, at: self.t0)
    #expect(set.takeChanges(at: self.t0).isEmpty)
  }
}

/// The durations that ownership rests on, and the laws between them (Docs/OWNERSHIP.md).
///
/// A value of this type keeps every law: there is no way to make one that does not.
public struct Timing: Sendable, Hashable {
  /// Silence of a session, on the watcher's clock, after which its node is dead.
  public let ttl: Duration
  /// Between the sending of two heartbeats.
  public let renewEvery: Duration
  /// By how much a holder ends before its TTL: for clocks that differ, and for what lies between the
  /// look at the clock and the wire.
  public let margin: Duration
  /// How long one call to the store may take before its outcome counts as unknown.
  public let callTimeout: Duration
  /// How long a member keeps what it has promised.
  public let promise: Duration
  /// What each rank waits longer than the one before it.
  public let rankDelay: Duration
  /// Time after which the leader takes a move back.
  public let moveTimeout: Duration
  /// Time a member must have been dead before it is taken off the list.
  public let removeAfter: Duration
  /// How long members go on by promises while one that was taken off the list may not know of it.
  public let shrunkHold: Duration
  /// How long a member must have been unhealthy before its ranges are moved…
  public let illSettle: Duration
  /// …and another one healthy.
  public let healthSettle: Duration

  /// Rates of two clocks differ from true by at most this share each.
  public static let clockRateErrorMax = 0.01

  /// A law that is broken, with its reason.
  public struct BrokenLaw: Error, Hashable, CustomStringConvertible {
    public let description: String
  }

  public init(
    ttl: Duration = .milliseconds(1500), renewEvery: Duration = .milliseconds(250),
    margin: Duration = .milliseconds(300), callTimeout: Duration = .milliseconds(400),
    promise: Duration? = nil, rankDelay: Duration = .milliseconds(50),
    moveTimeout: Duration = .seconds(10), removeAfter: Duration = .seconds(10),
    shrunkHold: Duration = .seconds(120), illSettle: Duration? = nil,
    healthSettle: Duration = .seconds(3)
  ) throws(BrokenLaw) {
    let promise = promise ?? ttl
    let illSettle = illSettle ?? renewEvery * 2 + callTimeout
    func law(_ holds: Bool, _ text: String) throws(BrokenLaw) {
      if !holds { throw BrokenLaw(description: text) }
    }
    try law(
      renewEvery > .zero && rankDelay > .zero && callTimeout > .zero,
      "renewEvery, rankDelay and callTimeout must be above zero")
    try law(
      ttl.wholeNanoseconds <= 3_600_000_000_000,
      "ttl \(ttl) must be an hour at most: for that long nobody takes the place of the dead")
    try law(
      margin.wholeNanoseconds
        >= Int64(2 * Timing.clockRateErrorMax * Double(ttl.wholeNanoseconds)),
      "margin \(margin) must be at least \(2 * Timing.clockRateErrorMax) × ttl \(ttl): else two"
        + " clocks can differ by more than it")
    try law(
      renewEvery * 3 <= ttl - margin,
      "three renewals (\(renewEvery) each) must fit into ttl − margin (\(ttl - margin)): else one"
        + " lost packet costs the ranges")
    try law(
      callTimeout + renewEvery * 2 <= ttl - margin,
      "after a call that timed out (\(callTimeout)) two more renewals must fit into ttl − margin"
        + " (\(ttl - margin))")
    try law(
      promise <= ttl,
      "promise \(promise) must not be longer than ttl \(ttl): a node that has started, and has"
        + " forgotten its promises, claims nothing for one ttl")
    try law(
      renewEvery * 3 <= promise - margin,
      "three askings (\(renewEvery) each) must fit into promise − margin (\(promise - margin))")
    try law(
      moveTimeout >= ttl * 2,
      "moveTimeout \(moveTimeout) must be two ttl or more: else a move is taken back before a peer"
        + " that is dead is known to be")
    try law(removeAfter >= ttl, "removeAfter \(removeAfter) must be a ttl (\(ttl)) or more")
    try law(
      2 * Timing.clockRateErrorMax * Double((ttl + removeAfter).wholeNanoseconds)
        <= Double(ttl.wholeNanoseconds),
      "removeAfter \(removeAfter) must be 49 ttl (\(ttl)) or less: else a member can be taken off while"
        + " its own clock says that it cannot")
    try law(
      shrunkHold >= .zero && shrunkHold.wholeNanoseconds <= 3_600_000_000_000,
      "shrunkHold \(shrunkHold) must be from nothing to an hour: for that long nobody claims when Redis"
        + " has come back empty and members are missing")
    try law(
      illSettle >= renewEvery * 2 + callTimeout,
      "illSettle \(illSettle) must be two renewals and a call (\(renewEvery * 2 + callTimeout)) or more: in that"
        + " time what all notice is heard from all")
    try law(
      healthSettle >= illSettle && healthSettle.wholeNanoseconds <= 3_600_000_000_000,
      "healthSettle \(healthSettle) must be from illSettle (\(illSettle)) to an hour")
    self.ttl = ttl
    self.renewEvery = renewEvery
    self.margin = margin
    self.callTimeout = callTimeout
    self.promise = promise
    self.rankDelay = rankDelay
    self.moveTimeout = moveTimeout
    self.removeAfter = removeAfter
    self.shrunkHold = shrunkHold
    self.illSettle = illSettle
    self.healthSettle = healthSettle
  }

  /// How long after the sending of a heartbeat that was confirmed a member cannot have been taken off the
  /// list, whatever the clocks: removeAfter of the leader's, with a TTL of it to spare.
  public var sureFor: Duration { removeAfter }

  /// How long a node that may have been taken off a list claims nothing after it has met a store: until
  /// all who act by promises without it have ended. They ended shrunkHold after what the store that is lost
  /// confirmed, by clocks that may be slower.
  public var unsureWait: Duration {
    let wait = ttl.wholeNanoseconds + shrunkHold.wholeNanoseconds
    return .nanoseconds(wait + Int64(3 * Timing.clockRateErrorMax * Double(wait)))
  }
}

/// What a step of a node comes to, as it is gathered: one `wake`, the earliest, at the end; one
/// `.actingChanged`, the first.
struct Gathered {
  private var directives: [NodeMachine.Directive] = []
  private var wakeAt: Instant?
  private var actingChangedAt: Int?

  mutating func append(_ directive: NodeMachine.Directive) {
    // Few come to more.
    if directives.isEmpty { directives.reserveCapacity(4) }
    directives.append(directive)
  }

  mutating func wake(at instant: Instant) { wakeAt = min(wakeAt ?? instant, instant) }

  mutating func actingChanged() {
    guard actingChangedAt == nil else { return }
    actingChangedAt = directives.count
    append(.actingChanged)
  }

  /// Before all that was gathered so far.
  mutating func actingChangedBefore() {
    guard actingChangedAt != 0 else { return }
    if let i = actingChangedAt { directives.remove(at: i) }
    actingChangedAt = 0
    directives.insert(.actingChanged, at: 0)
  }

  consuming func all() -> [NodeMachine.Directive] {
    if let wakeAt { directives.append(.wake(at: wakeAt)) }
    return directives
  }
}

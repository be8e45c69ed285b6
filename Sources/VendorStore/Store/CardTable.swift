/// Decides for whom a door opens. A value: answers without asking the disk.
public struct CardTable: Sendable {
  public enum Decision: Equatable, Sendable {
    case grant
    /// The reason as AnswerAccess says it: 1 unknown card, 3 blocked.
    case deny(reason: UInt32)
  }

  private struct Place: Hashable {
    var card: UInt64
    var serial: UInt64
    var door: UInt16
  }

  private var allowed: [Place: Bool] = [:]
  private var cards: Set<UInt64> = []

  /// Of rules for the same card, controller and door the last one counts.
  public init(_ rules: [CardRule] = []) {
    for rule in rules {
      allowed[Place(card: rule.card, serial: rule.serial, door: rule.door)] = rule.allowed
      cards.insert(rule.card)
    }
  }

  /// The most exact rule decides: that for this door of this controller, then for any door of it,
  /// then for this door number anywhere, then for anywhere. No rule: blocked when the card is known
  /// elsewhere, else unknown.
  public func decide(card: UInt64, serial: UInt64, door: UInt16) -> Decision {
    guard cards.contains(card) else { return .deny(reason: 1) }
    for place in [
      Place(card: card, serial: serial, door: door), Place(card: card, serial: serial, door: 0),
      Place(card: card, serial: 0, door: door), Place(card: card, serial: 0, door: 0),
    ] {
      if let isAllowed = allowed[place] { return isAllowed ? .grant : .deny(reason: 3) }
    }
    return .deny(reason: 3)
  }

  /// By card, controller and door.
  public var rules: [CardRule] {
    allowed.map {
      CardRule(card: $0.key.card, serial: $0.key.serial, door: $0.key.door, allowed: $0.value)
    }.sorted { ($0.card, $0.serial, $0.door) < ($1.card, $1.serial, $1.door) }
  }
}

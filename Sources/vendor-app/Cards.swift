internal import ArgumentParser
internal import VendorStore

struct Cards: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows and changes the table of cards that access requests are decided by.",
    discussion: """
      A running vendor app takes changes up within a second. The most exact rule decides: for this \
      door of this controller, for this controller, for this door number, for anywhere.
      """,
    subcommands: [Add.self, List.self, Remove.self])

  struct File: ParsableArguments {
    @Option(help: "The database: sqlite:PATH.")
    var db = Database.sqlite(path: "vendor-app.db")

    func validate() throws {
      if case .memory = db {
        throw ValidationError("memory: is another process's; give --cards FILE to that one.")
      }
    }

    func withStore(_ body: (any EventStore) async throws -> Void) async throws {
      do {
        let store = try db.open()
        try await body(store)
        try store.close()
      } catch let error as StoreError {
        throw Failure(message: "\(error)")
      }
    }
  }

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Adds a rule, or replaces it.")

    @OptionGroup var file: File
    @Argument(help: "The card's number, decimal or 0x….") var card: Number
    @Option(help: "The controller; 0 = any.") var serial = Number(0)
    @Option(help: "The door; 0 = any.") var door: UInt16 = 0
    @Flag(help: "The card is blocked there, not let in.") var deny = false

    func run() async throws {
      let rule = CardRule(card: card.value, serial: serial.value, door: door, allowed: !deny)
      try await file.withStore { try await $0.put(cards: [rule]) }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Prints the rules, in the form that --cards reads.")

    @OptionGroup var file: File

    func run() async throws {
      try await file.withStore { store in
        print("# card,serial,door,allowed")
        for rule in try await store.cards(since: nil)?.rules ?? [] {
          print("\(rule.card),\(rule.serial),\(rule.door),\(rule.allowed ? "yes" : "no")")
        }
      }
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Removes all rules of a card.")

    @OptionGroup var file: File
    @Argument(help: "The card's number, decimal or 0x….") var card: Number

    func run() async throws {
      try await file.withStore { store in
        guard try await store.remove(card: card.value) > 0 else {
          throw Failure(message: "there is no rule for card \(card.value)")
        }
      }
    }
  }
}

import Testing

@testable import ClusterDriver

@Suite("Networks")
struct NetworksTests {
  @Test(
    "a network is an address and how much of it counts",
    arguments: [
      ("10.0.0.0/24", 96 + 24), ("10.0.0.7", 128), ("0.0.0.0/0", 96), ("2001:db8::/32", 32),
      ("::1", 128), ("::/0", 0),
    ])
  func reads(_ text: String, _ bits: Int) throws {
    let network = try Network(parsing: text)
    #expect(Int(network.prefixBits) == bits && network.description == text)
    #expect(network.address.count == 16)
    #expect(network.address.prefix(12).suffix(2) == (text.contains(":") ? [0, 0] : [0xFF, 0xFF]))
  }

  @Test(
    "what is none is refused with its text",
    arguments: [
      "", "gate", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::/129", "10.0.0.0/24/1", "10.0.0",
    ])
  func refuses(_ text: String) {
    #expect { try Network(parsing: text) } throws: {
      ($0 as? Objection)?.why.contains("\"\(text)\"") == true
    }
  }

  @Test("a list holds 64 at most")
  func list() throws {
    let many = (0..<64).map { "10.0.\($0).0/24" }
    #expect(try Network.list(many.joined(separator: ",")).count == 64)
    #expect(throws: Objection.self) {
      try Network.list((many + ["::1"]).joined(separator: ","))
    }
    #expect(throws: Objection.self) { try Network.list("10.0.0.0/24,") }
  }
}

import GRPCNGHTTP2
import Testing

@testable import ClusterDriver
@testable import clusterctl

/// clusterctl does not import the node; where both must know the same thing, this holds them to it.
@Suite("What clusterctl and the node both know")
struct NodeAgreementTests {
  @Test(
    "clusterctl looks for sockets where a node puts them",
    arguments: [[:], ["XDG_RUNTIME_DIR": "/run/user/1000"], ["XDG_RUNTIME_DIR": "relative"]])
  func directories(environment: [String: String]) {
    #expect(
      Sockets.directories(environment: environment, user: 1_000)
        == AdminSocket.directories(environment: environment, user: 1_000))
  }

  @Test("an admin address that the node takes, clusterctl takes, from the same variable")
  func variable() throws {
    let option = try #require(ConfigurationOption.all.first { $0.name == "admin" })
    for text in ["unix:/run/x.sock", "127.0.0.1:7000", "[::1]:7000"] {
      #expect(try AdminAddress(parsing: text).description == text)
      let address = try Sockets.address(
        admin: nil, environment: [option.variable: text], found: { _ in [] })
      #expect(address.description == text)
    }
  }
}

import CSCP
import Testing

@testable import ClusterDriver

@Suite("Parking")
struct ParkingTests {
  @Test("what is inherited is for this process only, from descriptor 3 on, each under its name")
  func inherited() {
    func inherited(_ environment: [String: String]) -> [DescriptorStore.Inherited] {
      DescriptorStore.inherited(environment: environment, pid: 77)
    }
    let two = ["LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "cscp.book.3.0:a"]
    #expect(
      inherited(two) == [
        .init(name: "cscp.book.3.0", descriptor: 3), .init(name: "a", descriptor: 4),
      ])
    #expect(inherited(two.merging(["LISTEN_PID": "78"]) { $1 }) == [])
    #expect(inherited(two.merging(["LISTEN_FDS": "-1"]) { $1 }) == [])
    #expect(inherited(two.merging(["LISTEN_FDS": "999999999"]) { $1 }) == [])
    #expect(inherited(["LISTEN_FDS": "2"]) == [])
    #expect(inherited([:]) == [])
    // Fewer names than descriptors, as when nobody named them.
    #expect(
      inherited(["LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"]).map(\.name)
        == ["a", "unknown"])
  }

  @Test("names reach the controller layer whole, in the order of the descriptors")
  func lent() {
    let parking = Parking(
      store: DescriptorStore(),
      inherited: [
        .init(name: "cscp.lot.1.1", descriptor: 3), .init(name: "", descriptor: 4),
        .init(name: "cscp.listen.1.0", descriptor: 5),
      ])
    let seen = parking.withInherited { items in
      items.map { (name: String(cString: $0.name), fd: $0.fd) }
    }
    #expect(seen.map(\.name) == ["cscp.lot.1.1", "", "cscp.listen.1.0"])
    #expect(seen.map(\.fd) == [3, 4, 5])
    #expect(
      Parking(store: DescriptorStore(), inherited: []).withInherited { $0.count } == 0)
  }

  @Test("parking is asked for, and without a service manager the node says what to do instead")
  func asked() throws {
    var config = NodeConfiguration(
      redis: .memory, vendor: VendorSetting(address: HostPort(host: "a", port: 1)))
    #expect(try Parking.of(config, environment: [:], pid: 1) == nil)
    config.parking = true
    let failure = #expect(throws: Parking.Failure.self) {
      try Parking.of(config, environment: ["NOTIFY_SOCKET": ""], pid: 1)
    }
    #expect(failure?.description.contains("FileDescriptorStoreMax=") == true)
    #expect(try Parking.of(config, environment: ["NOTIFY_SOCKET": "/x"], pid: 1) != nil)
  }

  @Test("what became of what was inherited is told in words, trouble apart")
  func told() {
    var resumption = cscp_resumption()
    #expect(resumption.summary == nil && resumption.trouble == nil)
    resumption.connections = 9
    resumption.ended = 2
    #expect(
      resumption.summary == "going on with 9 connections of the former process; 2 had ended")
    #expect(resumption.trouble == nil)
    resumption.stateless = 4
    resumption.unknown_version = true
    #expect(
      resumption.trouble == """
        the state of the former process is of a version that this one does not know; 4 connections \
        without a state were closed; their controllers connect again
        """)
    resumption = cscp_resumption()
    resumption.undescribed = 1
    #expect(resumption.trouble?.contains("LimitNOFILE=") == true)
  }
}

import Election
import RedisLink

extension NodeConfiguration {
  /// As what a node joins its cluster once its port is bound.
  func membership(
    of name: String, incarnation: UInt64, redis: RedisURL, boundPort: UInt16, hostname: String,
    environment: [String: String]
  ) throws -> ClusterMember.Settings {
    let bind = self.peers.address(controllerPort: boundPort)
    let advertised = self.advertised(boundPort: boundPort, hostname: hostname)
    var settings = ClusterMember.Settings(
      node: NodeID(name), incarnation: Incarnation(incarnation), redis: redis,
      timing: try Timing(), peersBind: bind,
      // All addresses of the machine are none to be reached at.
      peersHost: ["::", "0.0.0.0"].contains(bind.host) ? advertised.host : bind.host)
    settings.cluster = self.cluster
    settings.tolerance = self.tolerance
    settings.status.version = NodeVersion.number
    settings.status.controllersAt = advertised.description
    settings.stateFile = self.stateFile(boundPort: boundPort, environment: environment)
    return settings
  }

  /// The one that is set, else one in the directory the service manager has made for that.
  func stateFile(boundPort: UInt16, environment: [String: String]) -> String? {
    if let stateFile { return stateFile }
    // Several are parted by colons.
    guard let directory = environment["STATE_DIRECTORY"]?.split(separator: ":").first else {
      return nil
    }
    return "\(directory)/\(boundPort).state"
  }
}

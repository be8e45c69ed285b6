/// The laws between settings, and the settings that must not be missing.
enum ConfigurationLaws {
  static func problems(
    with draft: ConfigurationOption.Draft, origins: [String: SettingOrigin]
  ) -> [String] {
    var problems: [String] = []
    func origin(_ name: String) -> String {
      (origins[name] ?? .flag("--\(name)")).description
    }
    if draft.redis == nil, !draft.failed.contains("redis") {
      problems.append(
        "no --redis (or CLUSTER_DRIVER_REDIS): nodes share their leases there; give"
          + " redis://host:6379, redis+sentinel://host,host,host/master,"
          + " redis+cluster://host,host,host, or memory: for one node on its own")
    }
    if draft.vendor == nil, !draft.failed.contains("vendor") {
      problems.append(
        "no --vendor (or CLUSTER_DRIVER_VENDOR): without a vendor app no event can be"
          + " acknowledged; give grpc://host:port")
    }
    let configuration = draft.rest
    if configuration.t2 >= configuration.t1 {
      problems.append(
        "\(origin("t2")): \(SettingValue.show(configuration.t2)) is not less than t1"
          + " (\(SettingValue.show(configuration.t1))); acknowledgements must come before a"
          + " controller would give the connection up")
    }
    guard !configuration.insecure else { return problems }
    if let vendor = draft.vendor, !vendor.address.isLoopback {
      problems.append(
        "\(origin("vendor")): \(vendor) is on another machine, and plain gRPC would carry events"
          + " and commands there unencrypted for anybody to read and send; reach it through a"
          + " TLS tunnel that ends on this machine, or give --insecure in a laboratory")
    }
    if !configuration.peers.isLocal {
      problems.append(
        "\(origin("peers")): \(configuration.peers) can be reached from other machines, and whoever"
          + " reaches it can speak as a node of the cluster, and open doors; use a loopback address,"
          + " or give --insecure in a laboratory, or on a network that nobody else is on")
    }
    if let admin = configuration.admin, !admin.isLocal {
      problems.append(
        "\(origin("admin")): \(admin) can be reached from other machines, and whoever reaches it"
          + " can open doors; use unix:/PATH or a loopback address, or give --insecure in a"
          + " laboratory")
    }
    return problems
  }
}

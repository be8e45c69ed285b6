import CSCP

/// A node's connections outlive it: with what it inherits, and whom it leaves them to.
struct Parking: Sendable {
  let store: DescriptorStore
  let inherited: [DescriptorStore.Inherited]

  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  /// Nil unless the configuration asks for it.
  static func of(
    _ config: NodeConfiguration, environment: [String: String], pid: Int32
  ) throws(Failure) -> Parking? {
    guard config.parking else { return nil }
    guard DescriptorStore.isThere(environment: environment) else {
      throw Failure(
        description: """
          --parking needs a service manager that keeps descriptors, and NOTIFY_SOCKET is not set: start \
          the node as a systemd unit of Type=notify with FileDescriptorStoreMax=, or without --parking
          """)
    }
    return Parking(
      store: DescriptorStore(),
      inherited: DescriptorStore.inherited(environment: environment, pid: pid))
  }

  /// To be called before the process' second thread begins: going on with thousands of connections is
  /// 100 ms faster then. See `cscp_make_room`.
  static func makeRoom(_ config: NodeConfiguration, environment: [String: String], pid: Int32) {
    guard config.parking else { return }
    let inherited = DescriptorStore.inherited(environment: environment, pid: pid)
    Parking(store: DescriptorStore(), inherited: inherited).withInherited {
      cscp_make_room($0.baseAddress, UInt32($0.count))
    }
  }

  /// Lends the inherited descriptors as the C layer wants them.
  func withInherited<Result>(
    _ body: (UnsafeBufferPointer<cscp_inherited>) -> Result
  ) -> Result {
    let names = self.inherited.map { Array($0.name.utf8CString) }
    let flat = names.flatMap { $0 }
    return flat.withUnsafeBufferPointer { bytes in
      var at = 0
      var raw: [cscp_inherited] = []
      for (item, name) in zip(self.inherited, names) {
        raw.append(cscp_inherited(name: bytes.baseAddress! + at, fd: item.descriptor))
        at += name.count
      }
      return raw.withUnsafeBufferPointer(body)
    }
  }
}

extension cscp_resumption {
  /// In words, for the log; nil when there was nothing to go on with.
  var summary: String? {
    let sockets = self.connections + self.ended + self.stateless + self.socketless
    guard sockets + self.unsound + self.undescribed > 0 || self.unknown_version else { return nil }
    var text = "going on with \(self.connections) connections of the former process"
    if self.ended > 0 { text += "; \(self.ended) had ended" }
    if self.socketless > 0 { text += "; \(self.socketless) were too new to be kept" }
    return text
  }

  /// What an operator should know of; nil when all is well.
  var trouble: String? {
    var parts: [String] = []
    if self.unknown_version {
      parts.append("the state of the former process is of a version that this one does not know")
    }
    if self.stateless > 0 {
      parts.append(
        "\(self.stateless) connections without a state were closed; their controllers connect again"
      )
    }
    if self.unsound > 0 { parts.append("\(self.unsound) entries of the state were damaged") }
    if self.undescribed > 0 {
      parts.append(
        """
        there were not enough descriptors for all sockets: raise LimitNOFILE= above the number of \
        controllers and restart, or they stay unserved
        """)
    }
    return parts.isEmpty ? nil : parts.joined(separator: "; ")
  }
}

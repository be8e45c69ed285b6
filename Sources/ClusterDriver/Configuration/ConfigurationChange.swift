/// What is another in a configuration that was read again, by the settings' names in the order of help.
struct ConfigurationChange: Equatable {
  /// Those a running node takes.
  var taken: [String] = []
  /// Those that need a restart.
  var left: [String] = []

  init(from old: NodeConfiguration, to new: NodeConfiguration) {
    for option in ConfigurationOption.all where !option.isSame(old, new) {
      if option.isReloadable {
        self.taken.append(option.name)
      } else {
        self.left.append(option.name)
      }
    }
  }
}

extension ConfigurationOption {
  /// What is shown has no passwords in it, which may be all that has changed.
  fileprivate func isSame(_ a: NodeConfiguration, _ b: NodeConfiguration) -> Bool {
    self.name == "redis" ? a.redis == b.redis : self.show(a) == self.show(b)
  }
}

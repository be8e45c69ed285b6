/// What the program calls itself.
public enum NodeVersion {
  public static let current = "1.0.0"

  /// The same as a number that grows with it: three digits for each part.
  static var number: UInt64 {
    self.current.split(separator: ".").reduce(0) { $0 * 1000 + (UInt64($1) ?? 0) }
  }
}

/// What the program calls itself.
public enum NodeVersion {
  public static let current = "1.0.0"
}

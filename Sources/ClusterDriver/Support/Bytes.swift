import FoundationEssentials

// The generated types hold bytes as FoundationEssentials' Data; the node's own hold arrays. This is
// where one becomes the other.
extension Data {
  init(bytes: [UInt8]) {
    self.init(bytes)
  }
}

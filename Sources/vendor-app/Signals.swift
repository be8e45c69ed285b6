internal import Dispatch
internal import Glibc

/// Signals as a stream of their numbers.
final class Signals: Sendable {
  let stream: AsyncStream<Int32>
  // Only kept alive here, and cancelled at the end.
  nonisolated(unsafe) private let sources: [any DispatchSourceSignal]

  init(_ numbers: [Int32]) {
    let (stream, continuation) = AsyncStream<Int32>.makeStream(
      bufferingPolicy: .bufferingNewest(16))
    self.stream = stream
    sources = numbers.map { number in
      // Dispatch sees a signal that is ignored as well; the default action must not come first.
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number)
      source.setEventHandler { continuation.yield(number) }
      source.resume()
      return source
    }
  }

  /// From here on these signals have their ordinary effect.
  func endAtNext(_ numbers: [Int32]) {
    for number in numbers { signal(number, SIG_DFL) }
  }

  deinit { for source in sources { source.cancel() } }
}

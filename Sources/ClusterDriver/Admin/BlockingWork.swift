internal import CSystem

/// Runs what may block where it stalls nobody: on a thread made for it. For what an operator does
/// now and then. `nil` when the system has no more threads.
func onThreadOfItsOwn<T: Sendable>(
  _ name: String, _ body: @escaping @Sendable () -> T
) async -> T? {
  await withCheckedContinuation { continuation in
    let work = Unmanaged.passRetained(
      BlockingWork { continuation.resume(returning: body()) })
    let main: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
      guard let context else { return }
      Unmanaged<BlockingWork>.fromOpaque(context).takeRetainedValue().body()
    }
    if csys_thread_start(name, main, work.toOpaque(), nil) < 0 {
      work.release()
      continuation.resume(returning: nil)
    }
  }
}

private final class BlockingWork: Sendable {
  let body: @Sendable () -> Void

  init(_ body: @escaping @Sendable () -> Void) {
    self.body = body
  }
}

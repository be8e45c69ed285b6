import Glibc

/// A place where one thread sleeps until another rings or a time has come. Not for tasks.
final class Bell: @unchecked Sendable {
  // Unchecked: both fields are made for use by several threads, and live as long as the object.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var rung = false

  init() {
    pthread_mutex_init(self.mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(self.condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(self.condition)
    pthread_mutex_destroy(self.mutex)
    self.condition.deallocate()
    self.mutex.deallocate()
  }

  /// The sleeper wakes, or the next one does not fall asleep.
  func ring() {
    pthread_mutex_lock(self.mutex)
    self.rung = true
    pthread_cond_signal(self.condition)
    pthread_mutex_unlock(self.mutex)
  }

  /// BLOCKS until somebody rang, at most this long.
  func wait(milliseconds: Int32) {
    var end = timespec()
    clock_gettime(CLOCK_MONOTONIC, &end)
    end.tv_sec += Int(milliseconds) / 1000
    end.tv_nsec += Int(milliseconds) % 1000 * 1_000_000
    if end.tv_nsec >= 1_000_000_000 {
      end.tv_sec += 1
      end.tv_nsec -= 1_000_000_000
    }
    pthread_mutex_lock(self.mutex)
    while !self.rung {
      if pthread_cond_timedwait(self.condition, self.mutex, &end) == ETIMEDOUT { break }
    }
    self.rung = false
    pthread_mutex_unlock(self.mutex)
  }
}

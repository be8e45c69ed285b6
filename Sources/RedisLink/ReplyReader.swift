internal import CHiredis

/// Turns received bytes into replies: hiredis's reader, which calls back for each element and here
/// builds values directly, without its reply objects in between.
///
/// One a connection, since a broken stream cannot be taken up again. Not for two threads at a time.
final class ReplyReader {
  private struct Frame {
    var missing: Int
    var values: [RedisValue]
  }

  private let reader: UnsafeMutablePointer<redisReader>
  private let functions: UnsafeMutablePointer<redisReplyObjectFunctions>
  private let bytesMax: Int
  private let elementsMax: Int
  private let payloadBytesMax: Int

  private var frames: [Frame] = []
  private var finished: RedisValue?
  /// Bytes of strings in arrays that are not complete.
  private var heldBytes = 0
  /// Why an array was not begun, which hiredis takes for want of memory.
  private var refusal: RedisFailure?
  /// The length of the longest string that was left out of the last reply, 0 if none was.
  private(set) var oversizeBytes = 0
  private var pendingOversize = 0

  /// Limits: bytes and elements of a reply. Of an array, the third string and those after it, which
  /// is where messages have their payload, are left out (empty) beyond `payloadBytesMax`.
  init(bytesMax: Int, elementsMax: Int, payloadBytesMax: Int = .max) throws(RedisFailure) {
    self.bytesMax = bytesMax
    self.elementsMax = elementsMax
    self.payloadBytesMax = payloadBytesMax
    functions = .allocate(capacity: 1)
    functions.initialize(to: makeFunctions())
    guard let reader = redisReaderCreateWithFunctions(functions) else {
      functions.deallocate()
      throw .system(doing: "making a reply reader", errno: outOfMemory)
    }
    self.reader = reader
    reader.pointee.privdata = Unmanaged.passUnretained(self).toOpaque()
  }

  deinit {
    redisReaderFree(reader)
    functions.deallocate()
  }

  func feed(_ bytes: UnsafeRawBufferPointer) throws(RedisFailure) {
    let text = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
    if redisReaderFeed(reader, text, bytes.count) != REDIS_OK { throw failure() }
  }

  /// The next complete reply, or nil until more bytes come.
  func next() throws(RedisFailure) -> RedisValue? {
    var reply: UnsafeMutableRawPointer?
    if redisReaderGetReply(reader, &reply) != REDIS_OK { throw failure() }
    guard reply != nil else {
      if heldBytes + reader.pointee.len - reader.pointee.pos > bytesMax { throw .replyTooLarge }
      return nil
    }
    guard let value = finished else {
      throw .protocolViolation("a reply of a type that was not asked for")
    }
    finished = nil
    heldBytes = 0
    oversizeBytes = pendingOversize
    pendingOversize = 0
    return value
  }

  private func failure() -> RedisFailure {
    if let refusal { return refusal }
    let text = withUnsafeBytes(of: reader.pointee.errstr) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    return .protocolViolation(text)
  }

  // MARK: What the callbacks bring

  fileprivate func addString(_ bytes: UnsafeRawBufferPointer, _ task: redisReadTask) {
    switch task.type {
    case REDIS_REPLY_STATUS: add(.status(String(decoding: bytes, as: UTF8.self)))
    case REDIS_REPLY_ERROR:
      add(.error(RedisServerError(message: String(decoding: bytes, as: UTF8.self))))
    case _ where bytes.count > payloadBytesMax && task.idx >= 2:
      pendingOversize = max(pendingOversize, bytes.count)
      add(.bytes([]))
    default:
      heldBytes += bytes.count
      add(.bytes([UInt8](bytes)))
    }
  }

  fileprivate func add(_ value: RedisValue) {
    var value = value
    while !frames.isEmpty {
      let last = frames.count - 1
      frames[last].values.append(value)
      frames[last].missing -= 1
      if frames[last].missing > 0 { return }
      value = .array(frames.removeLast().values)
    }
    finished = value
  }

  fileprivate func beginArray(of count: Int) -> Bool {
    if count > elementsMax {
      refusal = .replyTooLarge
      return false
    }
    if frames.count == depthMax {
      refusal = .protocolViolation("arrays nested deeper than \(depthMax)")
      return false
    }
    // An announced element costs the sender nothing: room is made for those that come.
    heldBytes += MemoryLayout<RedisValue>.stride
    if count == 0 {
      add(.array([]))
    } else {
      var values: [RedisValue] = []
      values.reserveCapacity(min(count, 64))
      frames.append(Frame(missing: count, values: values))
    }
    return true
  }
}

private let outOfMemory: Int32 = 12

/// What hiredis 0.14 can do; later ones nest without end.
private let depthMax = 7

/// What hiredis holds for the object it believes to have been given: never looked into.
private func token() -> UnsafeMutableRawPointer? {
  UnsafeMutableRawPointer(bitPattern: 1)
}

private func with(
  _ task: UnsafePointer<redisReadTask>?, _ body: (ReplyReader) -> Bool
) -> UnsafeMutableRawPointer? {
  guard let pointer = task?.pointee.privdata else { return nil }
  let isTaken = Unmanaged<ReplyReader>.fromOpaque(pointer)._withUnsafeGuaranteedRef { body($0) }
  return isTaken ? token() : nil
}

/// The closures take their types from the fields: the count of an array is an int in 0.14 and a
/// size_t from 1.0 on.
private func makeFunctions() -> redisReplyObjectFunctions {
  var functions = redisReplyObjectFunctions()
  functions.createString = { task, text, count in
    with(task) { reader in
      reader.addString(UnsafeRawBufferPointer(start: text, count: Int(count)), task!.pointee)
      return true
    }
  }
  functions.createArray = { task, count in with(task) { $0.beginArray(of: Int(count)) } }
  functions.createInteger = { task, number in
    with(task) { reader in
      reader.add(.integer(Int64(number)))
      return true
    }
  }
  functions.createNil = { task in
    with(task) { reader in
      reader.add(.null)
      return true
    }
  }
  functions.freeObject = { _ in }
  return functions
}

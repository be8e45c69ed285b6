import RedisLink

/// What a node does with the mailbox, each a script that runs at one instant in Redis. The vendor's side
/// is Docs/clients/mailbox_post.lua.
///
/// What only the owner of a serial may do names the owner's range, epoch, node and life as the range's
/// record begins with them (*fence*): whoever is owner no more changes nothing.
enum MailboxScripts {
  /// ARGV: the fence, or nothing when nothing is to be marked; bytes there may be; and for each
  /// controller two bounds, how many letters at most, and 1 if they are to be marked as given.
  /// Returns `ok`, how many controllers were read, and text, command and former mark of each letter; a
  /// command that is missing or too long is empty.
  static let open = RedisScript(
    """
    local mail, letters, marks, ranges = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
    \(fence)
    if ARGV[1] ~= '' and not owns() then return { 'other' } end
    local room, reply = tonumber(ARGV[2]), { 'ok', 0 }
    for i = 3, #ARGV, 4 do
      if room <= 0 then break end
      for _, text in ipairs(redis.call('ZRANGEBYLEX', mail, ARGV[i], ARGV[i + 1], 'LIMIT', 0, ARGV[i + 2])) do
        local id = string.sub(text, 39)
        local body, mark = '', ''
        if redis.call('HSTRLEN', letters, id) <= 8192 then body = redis.call('HGET', letters, id) or '' end
        if redis.call('HSTRLEN', marks, id) <= 8192 then mark = redis.call('HGET', marks, id) or '' end
        if ARGV[i + 3] == '1' and mark == '' and body ~= '' then redis.call('HSET', marks, id, 'g') end
        local n = #reply
        reply[n + 1], reply[n + 2], reply[n + 3] = text, body, mark
        room = room - #body - #mark - 100
      end
      reply[2] = reply[2] + 1
    end
    return reply
    """)

  /// ARGV: the fence; text and result of each letter. The first result of a letter is the one it has.
  /// Returns `ok` and of each letter: nothing (it has this result now), `r` and the one it had, `gone`
  /// (there is no such letter) or `ended` (it had its result a moment ago).
  static let decide = RedisScript(
    """
    local mail, letters, marks, ranges, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
    \(fence)
    if not owns() then return { 'other' } end
    local reply = { 'ok' }
    for i = 2, #ARGV, 2 do
      local id = string.sub(ARGV[i], 39)
      local mark = redis.call('HGET', marks, id) or ''
      local said = ''
      if string.sub(mark, 1, 1) == 'r' then
        said = mark
      elseif redis.call('ZSCORE', mail, ARGV[i]) then
        redis.call('HSET', marks, id, 'r' .. ARGV[i + 1])
      elseif redis.call('ZSCORE', ended, id) then
        said = 'ended'
      else
        said = 'gone'
      end
      reply[#reply + 1] = said
    end
    return reply
    """)

  /// ARGV: the fence; text and what is done of each letter, a list that was given. Returns `ok`.
  static let note = RedisScript(
    """
    local mail, letters, marks, ranges = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
    \(fence)
    if not owns() then return { 'other' } end
    for i = 2, #ARGV, 2 do
      local id = string.sub(ARGV[i], 39)
      if string.sub(redis.call('HGET', marks, id) or '', 1, 1) == 'g' then
        redis.call('HSET', marks, id, 'g' .. ARGV[i + 1])
      end
    end
    return { 'ok' }
    """)

  /// ARGV: the fence; the letters' texts. They are gone afterwards, and that they were there is known
  /// for ten minutes, so that one posted again (its reply was lost) is recognised.
  static let remove = RedisScript(
    """
    local mail, letters, marks, ranges, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
    \(fence)
    if not owns() then return { 'other' } end
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    for i = 2, #ARGV do
      redis.call('ZREM', mail, ARGV[i])
      local id = string.sub(ARGV[i], 39)
      if #ARGV[i] == \(Letter.textBytes) then
        redis.call('HDEL', letters, id)
        redis.call('HDEL', marks, id)
        redis.call('ZADD', ended, now, id)
      end
    end
    redis.call('ZREMRANGEBYSCORE', ended, '-inf', now - 600000)
    redis.call('ZREMRANGEBYRANK', ended, 0, -65537)
    return { 'ok' }
    """)

  static let all = [open, decide, note, remove]

  private static let fence = """
    local function owns()
      local record = redis.call('HGET', ranges, string.match(ARGV[1], '^%d+') or '')
      return record and string.sub(record, 1, #ARGV[1]) == ARGV[1]
    end
    """
}

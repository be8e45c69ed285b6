/// What every script begins and ends with, and what several share.
///
/// A script defines `run()`, which returns the reply. It reads and checks whatever it needs before
/// `flush()` writes: Redis takes nothing back when a script fails midway.
enum StoreLua {
  /// ARGV[1] is the store that is meant (`*` for any), ARGV[2] a word nobody else says; the call's
  /// own arguments follow.
  static let opening = """
    -- KEYS: hash of the state, hash of the ranges, sorted sets of serials, changes and tombstones.
    local S, dirty, dropped = {}, {}, {}
    local version, identity

    local function bad(what) error('CDDATA ' .. what, 0) end
    -- Numbers are decimal text: Lua's own are exact to 2^53 only, which the version stays below.
    local function lt(a, b)
      if #a ~= #b then return #a < #b end
      return a < b
    end
    local function whole(n) return string.format('%.0f', n) end
    local function set(field, value)
      S[field] = value
      dirty[#dirty + 1] = field
      dirty[#dirty + 1] = value
    end
    local function session(node)
      local text = S['s:' .. node]
      if not text then return end
      local incarnation, counter, released = string.match(text, '^(%d+) (%d+) ([01]) ')
      if not incarnation then bad(KEYS[1] .. ': the session of ' .. node .. ' is "' .. text .. '"') end
      return incarnation, counter, released == '1'
    end
    local function number(field)
      local n = tonumber(string.match(S[field] or '', '^%d+$'))
      if not n or n >= 9007199254740992 then
        bad(KEYS[1] .. ': ' .. field .. ' is "' .. tostring(S[field]) .. '"')
      end
      return n
    end
    local function list()
      local count = string.match(S.list or '', '^(%d+)')
      if not count then bad(KEYS[1] .. ': list is "' .. tostring(S.list) .. '"') end
      return count
    end

    -- Whether a key with all it held is gone (evicted, deleted): then nothing of the rest counts.
    local function isLost(sizes)
      if not S.generation then return true end
      local ranges, gone = number('ranges'), number('gone')
      for i, wanted in ipairs({ ranges, ranges, ranges, gone }) do
        if sizes[i] == 0 and wanted > 0 then return true end
        if sizes[i] ~= wanted then
          bad(KEYS[i + 1] .. ' holds ' .. sizes[i] .. ' where the state says ' .. whole(wanted))
        end
      end
      return false
    end

    local function open()
      local raw = redis.call('HGETALL', KEYS[1])
      for i = 1, #raw, 2 do S[raw[i]] = raw[i + 1] end
      local sizes = {
        redis.call('HLEN', KEYS[2]), redis.call('ZCARD', KEYS[3]),
        redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5]),
      }
      if isLost(sizes) then
        redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
        local time = redis.call('TIME')
        S = {}
        set('generation', time[1] .. '.' .. time[2] .. '-' .. ARGV[2])
        set('version', '0')
        set('ranges', '0')
        set('gone', '0')
        set('since', '0')
        set('list', '0')
        set('leader', '~')
      end
      version = number('version')
      list()
      -- The process, the history of data it is in, and these very keys: asked for in every call,
      -- because what was known a moment ago may be of before a failover.
      local run = string.match(redis.call('INFO', 'server'), '\\nrun_id:(%w+)')
      local history = string.match(redis.call('INFO', 'replication'), '\\nmaster_replid:(%w+)')
      if not run or not history then bad('INFO tells no run_id or no master_replid') end
      identity = string.sub(redis.sha1hex(run .. history .. S.generation), 1, 16)
    end

    local function write(command, key, items)
      for from = 1, #items, 2000 do
        redis.call(command, key, unpack(items, from, math.min(from + 1999, #items)))
      end
    end
    local function flush()
      if whole(version) ~= S.version then set('version', whole(version)) end
      write('HSET', KEYS[1], dirty)
      write('HDEL', KEYS[1], dropped)
    end

    """

  static let closing = """

    local ok, reply = pcall(function()
      open()
      if ARGV[1] ~= '*' and ARGV[1] ~= identity then
        flush()
        return { 'otherStore', identity }
      end
      return run()
    end)
    if ok then return reply end
    local text = type(reply) == 'table' and reply.err or tostring(reply)
    if string.find(text, 'WRONGTYPE', 1, true) then
      for i, wanted in ipairs({ 'hash', 'hash', 'zset', 'zset', 'zset' }) do
        local kind = redis.call('TYPE', KEYS[i]).ok
        if kind ~= wanted and kind ~= 'none' then
          text = 'CDDATA ' .. KEYS[i] .. ' is a ' .. kind .. ' where a ' .. wanted .. ' belongs'
        end
      end
    end
    return redis.error_reply(text)
    """

  /// Of numbers below 2⁶⁴, in halves of ten digits.
  static let arithmetic = """
    local MAX, HIGHEST = '18446744073709551615', '18446744073709551614'
    local function halves(n)
      return tonumber(string.sub(n, 1, -11)) or 0, tonumber(string.sub(n, -10))
    end
    local function joined(high, low)
      if high == 0 then return whole(low) end
      return string.format('%.0f%010.0f', high, low)
    end
    -- nil beyond 2^64 - 1.
    local function add(a, b)
      local high, low = halves(a)
      local high2, low2 = halves(b)
      high, low = high + high2, low + low2
      if low >= 1e10 then high, low = high + 1, low - 1e10 end
      local sum = joined(high, low)
      if lt(MAX, sum) then return nil end
      return sum
    end
    -- What to add to n so that it ends up above all that a lost store may have granted, with the low 20
    -- bits this store's own: Epoch.nextAfterLoss.
    local function afterLoss(n)
      local high, low = halves(n)
      local rest = ((high % 1048576) * (1e10 % 1048576) + low) % 1048576
      return whole(1048576 - rest + tonumber(string.sub(identity, 1, 5), 16))
    end
    local function before(n)
      local high, low = halves(n)
      if low == 0 then high, low = high - 1, 1e10 end
      return joined(high, low - 1)
    end
    local function half(n)
      local high, low = halves(n)
      return joined(math.floor(high / 2), math.floor((high % 2 * 1e10 + low) / 2))
    end
    local function max(a, b)
      if lt(a, b) then return b end
      return a
    end
    local function min(a, b)
      if lt(a, b) then return a end
      return b
    end

    """

  /// Who is who, as claims, campaigns and removals ask.
  static let peers = """
    local function isAsWatched(node, incarnation, counter)
      local i, c, released = session(node)
      return released or (i or '~') == incarnation and (c or '~') == counter
    end
    -- Whether the place of a holder may be taken by a taker, who has watched a session.
    local function isFree(holder, holderLife, taker, takerLife, watched, incarnation, counter)
      if holder == taker then return not lt(takerLife, holderLife) end
      return watched == holder and isAsWatched(watched, incarnation, counter)
    end
    -- The second of those that were taken off and have not come back.
    local function members()
      local added, removed, words = {}, {}, {}
      for word in string.gmatch(S.list, '%S+') do words[#words + 1] = word end
      for i = 2, #words, 2 do
        local which = words[i + 1] == '0' and removed or added
        which[words[i]] = words[i + 1]
      end
      return added, removed
    end

    """
}

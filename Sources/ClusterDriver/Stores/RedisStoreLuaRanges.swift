import Election

/// Ranges in the scripts: read when asked for, kept in a table, written by `flush()`.
extension StoreLua {
  static let ranges = """
    -- By first serial: the record or false; whether Redis has it; whether it is to be written.
    local cache, stored, touched, buried = {}, {}, {}, {}

    local function pad(serial) return string.sub('00000000000000000000', #serial + 1) .. serial end
    local function unpad(serial) return string.match(serial, '^0*(%d+)$') end

    local function parse(first, text)
      local r = {}
      r.first, r.last, r.epoch, r.owner, r.life, r.store, r.changed, r.weight, r.median, r.to,
        r.move, r.successors = string.match(text, '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+) (%d+)'
          .. ' (%d+) (%S+) (%S+) (%S+) (%S+)$')
      if r.first ~= first or lt(r.last, first) then
        bad(KEYS[2] .. ': the range ' .. first .. ' is "' .. string.sub(text, 1, 160) .. '"')
      end
      return r
    end
    local function line(r)
      return r.first .. ' ' .. r.last .. ' ' .. r.epoch .. ' ' .. r.owner .. ' ' .. r.life .. ' '
        .. r.store .. ' ' .. r.changed .. ' ' .. r.weight .. ' ' .. r.median .. ' ' .. r.to .. ' '
        .. r.move .. ' ' .. r.successors
    end
    local function copy(r)
      local c = {}
      for name, value in pairs(r) do c[name] = value end
      return c
    end
    local function get(first)
      local r = cache[first]
      if r == nil then
        local text = redis.call('HGET', KEYS[2], first)
        r = text and parse(first, text) or false
        cache[first], stored[first] = r, r and true
      end
      return r
    end
    -- Under the version there is now.
    local function put(r)
      get(r.first)
      r.changed = whole(version)
      cache[r.first], touched[r.first] = r, true
    end
    -- As a change of its own.
    local function save(r)
      version = version + 1
      put(r)
    end
    local function remove(first)
      get(first)
      cache[first], touched[first] = false, true
    end
    local function bury(first)
      buried[#buried + 1] = whole(version)
      buried[#buried + 1] = pad(first) .. ' ' .. whole(version)
    end
    local function records(firsts)
      local lines = {}
      for _, first in ipairs(firsts) do
        local r = get(first)
        if r then lines[#lines + 1] = line(r) end
      end
      return { 'ranges', identity, whole(version), table.concat(lines, '\\n') }
    end
    -- The ranges in arguments from the n-th on.
    local function pieces(from)
      local list, firsts = {}, {}
      for i = from, #ARGV do
        local first, last, epoch = string.match(ARGV[i], '^(%d+) (%d+) (%d+)$')
        list[#list + 1] = { first = first, last = last, epoch = epoch }
        firsts[#firsts + 1] = first
      end
      return list, firsts
    end
    local function areApart(list)
      for i, piece in ipairs(list) do
        if lt(piece.last, piece.first) then return false end
        if i > 1 and not lt(list[i - 1].last, piece.first) then return false end
      end
      return true
    end

    local function flushGone()
      local gone = number('gone') + #buried / 2
      if #buried == 0 then return end
      write('ZADD', KEYS[5], buried)
      local over = gone - \(MemoryStore.tombstonesMax)
      if over > 0 then
        local popped = redis.call('ZPOPMIN', KEYS[5], over)
        set('since', string.match(popped[#popped - 1], '(%d+)$'))
        gone = gone - over
      end
      set('gone', whole(gone))
    end
    local flushState = flush
    local function flush()
      local count, lines, changes, index = number('ranges'), {}, {}, {}
      local gone, goneIndex = {}, {}
      for first in pairs(touched) do
        local r = cache[first]
        if r then
          lines[#lines + 1] = first
          lines[#lines + 1] = line(r)
          changes[#changes + 1] = r.changed
          changes[#changes + 1] = first
          if not stored[first] then
            count = count + 1
            index[#index + 1] = '0'
            index[#index + 1] = pad(first)
          end
        elseif stored[first] then
          count = count - 1
          gone[#gone + 1] = first
          goneIndex[#goneIndex + 1] = pad(first)
        end
      end
      write('HSET', KEYS[2], lines)
      write('ZADD', KEYS[3], index)
      write('ZADD', KEYS[4], changes)
      write('HDEL', KEYS[2], gone)
      write('ZREM', KEYS[3], goneIndex)
      write('ZREM', KEYS[4], gone)
      if whole(count) ~= S.ranges then set('ranges', whole(count)) end
      flushGone()
      flushState()
    end

    """
}

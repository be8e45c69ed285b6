/// The calls of nodes: heartbeat, claim, assertion, hand-over, release, campaign.
extension StoreLua {
  /// node, incarnation, counter, status, list number, list, since, store known, 1 when sure to be a member;
  /// then loads.
  static let heartbeat = """
    local function sessions()
      local lines = {}
      for field, value in pairs(S) do
        if string.sub(field, 1, 2) == 's:' then
          lines[#lines + 1] = string.sub(field, 3) .. ' ' .. value
        end
      end
      return table.concat(lines, '\\n')
    end
    -- Ranges and tombstones later than a version.
    local function changes(since)
      if since == whole(version) then return '', '' end
      local lines, gone = {}, {}
      local firsts = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. since, '+inf')
      for from = 1, #firsts, 2000 do
        local to = math.min(from + 1999, #firsts)
        for i, text in ipairs(redis.call('HMGET', KEYS[2], unpack(firsts, from, to))) do
          -- One that is not there is told as its serial alone, which nobody takes for a range.
          lines[#lines + 1] = text or firsts[from + i - 1]
        end
      end
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. since, '+inf')) do
        local first = string.match(member, '^0*(%d+) ') or member
        if redis.call('HEXISTS', KEYS[2], first) == 0 then gone[#gone + 1] = first end
      end
      return table.concat(lines, '\\n'), table.concat(gone, '\\n')
    end

    local function run()
      local node, life, since, knows = ARGV[3], ARGV[4], ARGV[9], ARGV[10]
      local present, counter = session(node)
      -- The newer life of a node has the greater incarnation: one that is gone cannot come back.
      if present and lt(life, present) then
        flush()
        return { 'replaced', identity, present }
      end
      if lt(list(), ARGV[7]) then
        set('list', ARGV[8])
        version = version + 1
      end
      -- One that a later one has overtaken was on its way for long, and counts for nothing.
      if present ~= life or not lt(ARGV[5], counter) then
        local sureOf = string.match(S['s:' .. node] or '~', '(%S+)$')
        if ARGV[11] == '1' and knows == identity then sureOf = identity end
        set('s:' .. node,
          table.concat({ life, ARGV[5], '0', ARGV[6], ARGV[7], knows, sureOf }, ' '))
        takeLoads(node, life)
      end
      number('since')
      flush()
      local isWhole = knows ~= identity or since == '0' or lt(since, S.since)
        or lt(whole(version), since)
      local ranges, removed
      if isWhole then
        ranges, removed = table.concat(redis.call('HVALS', KEYS[2]), '\\n'), ''
      else
        ranges, removed = changes(since)
      end
      return { 'view', identity, whole(version), isWhole and '1' or '0', S.paused or '0',
        S.leader, S.list, sessions(), ranges, removed }
    end
    """

  static let withoutLoads = """
    local function takeLoads() end

    """

  static let withLoads = """
    local function takeLoads(node, life)
      for i = 12, #ARGV do
        local first, weight, median = string.match(ARGV[i], '^(%d+) (%d+) (%S+)$')
        local r = get(first)
        if r and r.owner == node and r.life == life
          and (r.weight ~= weight or r.median ~= median) then
          r.weight, r.median = weight, median
          save(r)
        end
      end
    end

    """

  /// node, incarnation, list number, watched node, incarnation and counter; then ranges.
  static let claim = """
    local function grant(wanted, me, life)
      local r = get(wanted.first)
      if not r or r.last ~= wanted.last then return end
      local isOwn, isHere = r.owner == me and r.life == life, r.store == identity
      -- The same again is the same grant, unless an epoch above it has been seen.
      if isOwn and isHere and not lt(r.epoch, wanted.epoch) then return end
      if r.owner ~= '~'
        and not isFree(r.owner, r.life, me, life, ARGV[6], ARGV[7], ARGV[8]) then return end
      local known = max(r.epoch, wanted.epoch)
      local epoch = add(known, (isHere or known == '0') and '1' or afterLoss(known))
      if not epoch then return end
      r.owner, r.life, r.epoch, r.to, r.move, r.store = me, life, epoch, '~', '~', identity
      save(r)
    end

    local function run()
      local me, life = ARGV[3], ARGV[4]
      local wanted, firsts = pieces(9)
      local present, _, released = session(me)
      -- A claimer that has been replaced, or does not know who its peers are, gets nothing.
      if list() == ARGV[5] and members()[me] and present == life and not released then
        for _, piece in ipairs(wanted) do grant(piece, me, life) end
      end
      local reply = records(firsts)
      flush()
      return reply
    end
    """

  /// node, incarnation; then ranges, by serial and apart.
  static let assertion = """
    -- The right rest of the last range that was carved: the only one that Redis does not list yet
    -- and that a later assertion can touch.
    local tail

    local function overlapping(held)
      local found, low, high = {}, pad(held.first), pad(held.last)
      local function consider(first)
        local r = get(first)
        if r and not lt(r.last, held.first) and not lt(held.last, r.first) then
          found[#found + 1] = r
        end
      end
      if tail and not stored[tail] then consider(tail) end
      local function below(serial)
        return redis.call('ZREVRANGEBYLEX', KEYS[3], '[' .. serial, '-', 'LIMIT', 0, 1)[1]
      end
      local nearest = below(high)
      if nearest and nearest > low then
        local outer = below(low)
        if outer then consider(unpad(outer)) end
        local inside = redis.call('ZRANGEBYLEX', KEYS[3], '(' .. low, '[' .. high)
        for _, first in ipairs(inside) do consider(unpad(first)) end
      elseif nearest then
        consider(unpad(nearest))
      end
      return found
    end

    -- What lies outside of what is asserted stays as it was. Nothing is taken when somebody else has
    -- got any of it in this store, or had it under as high an epoch before.
    local function take(held, me, life)
      local taken = { first = held.first, last = held.last, epoch = held.epoch, owner = me,
        life = life, store = identity, changed = '0', weight = '1', median = '~', to = '~',
        move = '~', successors = '~' }
      local found = overlapping(held)
      for _, r in ipairs(found) do
        local isOwn = r.owner == me and r.life == life
        if isOwn then
          taken.epoch = max(taken.epoch, r.epoch)
        elseif r.owner == '~' then
          if lt(held.epoch, r.epoch) then return end
        elseif not lt(r.epoch, held.epoch) or r.store == identity then
          return
        end
        if r.first == held.first then
          taken.weight, taken.median, taken.successors = r.weight, r.median, r.successors
          taken.changed = r.changed
          if isOwn and r.last == held.last then taken.to, taken.move = r.to, r.move end
        end
      end
      if #found == 1 and line(found[1]) == line(taken) then return end
      version = version + 1
      for _, r in ipairs(found) do
        remove(r.first)
        if r.first ~= held.first then bury(r.first) end
      end
      for _, r in ipairs(found) do
        if lt(r.first, held.first) then
          local rest = copy(r)
          rest.last, rest.to, rest.move = before(held.first), '~', '~'
          put(rest)
        end
        if lt(held.last, r.last) then
          local rest = copy(r)
          rest.first, rest.to, rest.move = add(held.last, '1'), '~', '~'
          put(rest)
          tail = rest.first
        end
      end
      put(taken)
    end

    local function run()
      local me, life = ARGV[3], ARGV[4]
      local held, firsts = pieces(5)
      if session(me) == life and areApart(held) then
        for _, piece in ipairs(held) do take(piece, me, life) end
      end
      local reply = records(firsts)
      flush()
      return reply
    end
    """

  /// node, incarnation, range, move.
  static let handOver = """
    local function run()
      local r = get(ARGV[5])
      if r and r.owner == ARGV[3] and r.life == ARGV[4] and r.store == identity
        and r.move == ARGV[6] then
        local life, _, released = session(r.to)
        local epoch = add(r.epoch, '1')
        if life and not released and epoch then
          r.owner, r.life, r.epoch, r.to, r.move = r.to, life, epoch, '~', '~'
          save(r)
        end
      end
      local reply = records({ ARGV[5] })
      flush()
      return reply
    end
    """

  /// node, incarnation.
  static let release = """
    local function run()
      if session(ARGV[3]) == ARGV[4] then
        local field = 's:' .. ARGV[3]
        set(field, (string.gsub(S[field], '^(%d+ %d+) [01]', '%1 1')))
      end
      flush()
      return { 'done', identity }
    end
    """
}

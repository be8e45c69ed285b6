/// The leader in the scripts: its lease and its orders.
extension StoreLua {
  static let leader = """
    local function leader()
      if S.leader == '~' then return end
      local node, life, term, orders = string.match(S.leader or '', '^(%S+) (%d+) (%d+) (%d+)$')
      if not node then bad(KEYS[1] .. ': leader is "' .. tostring(S.leader) .. '"') end
      return node, life, term, orders
    end

    """

  /// node, incarnation, hint, watched node, incarnation and counter.
  static let campaign = """
    local function run()
      local me, life = ARGV[3], ARGV[4]
      local node, present, term = leader()
      if not node or isFree(node, present, me, life, ARGV[6], ARGV[7], ARGV[8]) then
        local above = add(max(term or '0', ARGV[5]), '1')
        if above and not (node == me and present == life) then
          set('leader', table.concat({ me, life, above, '0' }, ' '))
          version = version + 1
        end
      end
      flush()
      return { 'leader', identity, S.leader }
    end
    """

  static let lists = """
    local function setList(count, added, removed)
      local nodes, words = {}, { count }
      for node in pairs(added) do nodes[#nodes + 1] = node end
      for node in pairs(removed) do nodes[#nodes + 1] = node end
      table.sort(nodes)
      for _, node in ipairs(nodes) do
        words[#words + 1] = node
        words[#words + 1] = added[node] or '0'
      end
      set('list', table.concat(words, ' '))
      version = version + 1
    end


    """

  /// What is wanted, and of whom or whether.
  static let operate = """
    local function run()
      if ARGV[3] == 'pauseBalancing' then
        if (S.paused or '0') ~= ARGV[4] then
          set('paused', ARGV[4])
          version = version + 1
        end
      elseif ARGV[3] == 'forget' then
        local added, removed = members()
        local count, node = add(list(), '1'), ARGV[4]
        if removed[node] and count then
          removed[node] = nil
          setList(count, added, removed)
        end
      else
        bad('no order is called "' .. ARGV[3] .. '"')
      end
      flush()
      return { 'done', identity }
    end
    """

  /// node, incarnation, term, number of the list; then orders. Each is carried out if it fits.
  static let orders = """
    local orders = {}

    -- Fills what no range has. Those that this very call has made or removed count, too.
    function orders.create(words)
      local list = {}
      for i = 2, #words, 3 do
        list[#list + 1] = { first = words[i], last = words[i + 1], epoch = words[i + 2] }
      end
      if not areApart(list) then return end
      version = version + 1
      local firsts = {}
      for _, padded in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
        local first = unpad(padded) or bad(KEYS[3] .. ' holds "' .. padded .. '"')
        if cache[first] ~= false then firsts[#firsts + 1] = first end
      end
      for first in pairs(touched) do
        if cache[first] and not stored[first] then firsts[#firsts + 1] = first end
      end
      table.sort(firsts, lt)
      local at = 1
      local function fill(low, high)
        while list[at] and lt(list[at].last, low) do at = at + 1 end
        local i = at
        while list[i] and not lt(high, list[i].first) do
          put({ first = max(low, list[i].first), last = min(high, list[i].last),
            epoch = list[i].epoch, owner = '~', life = '~', store = '~', weight = '1',
            median = '~', to = '~', move = '~', successors = '~' })
          i = i + 1
        end
      end
      local free = '1'
      for _, first in ipairs(firsts) do
        local r = get(first) or bad(KEYS[3] .. ' lists ' .. first .. ', which is no range')
        if lt(free, first) then fill(free, before(first)) end
        if not lt(r.last, HIGHEST) then return end
        free = add(r.last, '1')
      end
      fill(free, HIGHEST)
    end

    function orders.startMove(words)
      local r, from, life, to = get(words[2]), words[3], words[4], words[5]
      if not r or r.owner ~= from or r.life ~= life or r.to ~= '~' or r.store ~= identity
        or from == to or not members()[to] then return end
      -- The version this change will have: never the number of another move.
      r.to, r.move = to, whole(version + 1)
      save(r)
    end

    function orders.cancelMove(words)
      local r = get(words[2])
      if not r or r.move ~= words[3] then return end
      r.to, r.move = '~', '~'
      save(r)
    end

    function orders.setSuccessors(words)
      local r = get(words[2])
      if not r or r.successors == words[3] then return end
      r.successors = words[3]
      save(r)
    end

    function orders.split(words)
      local r, at = get(words[2]), words[3]
      if not r or r.to ~= '~' or not lt(r.first, at) or lt(r.last, at) then return end
      local small = half(r.weight)
      local great = small
      if string.find(r.weight, '[13579]$') then great = add(small, '1') end
      local behind = copy(r)
      behind.first, behind.weight, behind.median = at, max(small, '1'), '~'
      save(behind)
      r.last, r.weight, r.median = before(at), max(great, '1'), '~'
      save(r)
    end

    function orders.merge(words)
      local r = get(words[2])
      if not r or not lt(r.last, HIGHEST) then return end
      local behind = get(add(r.last, '1'))
      if not behind or behind.owner ~= r.owner or behind.life ~= r.life
        or behind.store ~= r.store or r.to ~= '~' or behind.to ~= '~' then return end
      remove(behind.first)
      r.last, r.epoch, r.median = behind.last, max(r.epoch, behind.epoch), '~'
      r.weight = add(r.weight, behind.weight) or MAX
      save(r)
      bury(behind.first)
    end

    function orders.addMember(words)
      local added, removed = members()
      local count, node = add(list(), '1'), words[2]
      if added[node] or not session(node) or not count then return end
      added[node], removed[node] = count, nil
      setList(count, added, removed)
    end

    function orders.removeMember(words)
      local added, removed = members()
      local count, node = add(list(), '1'), words[2]
      if list() ~= words[5] or not count or not added[node]
        or not isAsWatched(node, words[3], words[4]) then return end
      added[node], removed[node] = nil, '0'
      setList(count, added, removed)
      if S['s:' .. node] then
        S['s:' .. node] = nil
        dropped[#dropped + 1] = 's:' .. node
      end
    end

    local function run()
      local node, life, term, done = leader()
      if node == ARGV[3] and life == ARGV[4] and term == ARGV[5]
        and add(done, '1') == ARGV[6] then
        set('leader', table.concat({ node, life, term, ARGV[6] }, ' '))
        for i = 7, #ARGV do
          local words = {}
          for word in string.gmatch(ARGV[i], '%S+') do words[#words + 1] = word end
          orders[words[1]](words)
        end
      end
      flush()
      return { 'leader', identity, S.leader }
    end
    """
}

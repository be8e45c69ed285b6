-- Puts a command into the mailbox of a controller: Docs/VENDOR.md, "The mailbox".
--
-- KEYS  {cd:NAME}:mail, {cd:NAME}:letters, {cd:NAME}:marks, {cd:NAME}:ended, where NAME is the nodes' --cluster
-- ARGV  1  the controller's serial number, in decimal
--       2  the command's id, 32 hexadecimal digits in lower case
--       3  the command (clusterdriver.v1.Command) in proto3 JSON or binary, at most 8,192 bytes; id and serial may be
--          left out of it
-- Says  "posted"   it waits in the mailbox now
--       "waiting"  this id waits there already, or its result does; nothing was changed
--       "ended"    this id has had its result a moment ago; nothing was changed
-- or an error that begins with CDMAIL. Nothing is written then.

local mail, letters, marks, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local serial, id, body = ARGV[1], ARGV[2], ARGV[3]
local LETTERS_MAX, CONTROLLER_MAX, BODY_MAX = 65536, 256, 8192

local function refuse(why) return redis.error_reply('CDMAIL ' .. why) end

if #KEYS ~= 4 or #ARGV ~= 3 then return refuse('takes 4 keys and 3 arguments: serial, id, command') end
if not string.match(serial, '^[1-9]%d*$') or #serial > 20
  or #serial == 20 and serial > '18446744073709551614' then
  return refuse('the serial must be 1 to 18446744073709551614')
end
if #id ~= 32 or string.match(id, '[^0-9a-f]') or not string.match(id, '[^0]') then
  return refuse('the id must be 32 hexadecimal digits in lower case, not all 0')
end
if #body == 0 or #body > BODY_MAX then
  return refuse('the command has ' .. #body .. ' bytes; 1 to ' .. BODY_MAX .. ' are allowed')
end

-- Without the index nobody finds what else is left.
local count = redis.call('ZCARD', mail)
if count == 0 then redis.call('UNLINK', letters, marks) end
if redis.call('HEXISTS', letters, id) == 1 then
  redis.call('PUBLISH', mail .. ':bell', serial)
  return 'waiting'
end
if redis.call('ZSCORE', ended, id) then return 'ended' end
if count >= LETTERS_MAX then
  return refuse('the mailbox is full: ' .. count .. ' commands wait in it; try again later')
end

-- A serial does not fit into a score, which is exact to 2^53 only: all scores are 0, and members are in the order of
-- their text, 20 digits of the serial, 16 of a number that grows with each command (µs of Redis' clock), the id.
local box = string.rep('0', 20 - #serial) .. serial
local first, behind = '[' .. box .. ' ', '(' .. box .. '!'
if redis.call('ZLEXCOUNT', mail, first, behind) >= CONTROLLER_MAX then
  return refuse('controller ' .. serial .. ' has ' .. CONTROLLER_MAX .. ' commands in the mailbox; try again later')
end
local time = redis.call('TIME')
local number = time[1] * 1000000 + time[2]
local last = redis.call('ZREVRANGEBYLEX', mail, behind, first, 'LIMIT', 0, 1)[1]
if last then number = math.max(number, (tonumber(string.sub(last, 22, 37)) or 0) + 1) end
redis.call('ZADD', mail, 0, box .. ' ' .. string.format('%016.0f', number) .. ' ' .. id)
redis.call('HSET', letters, id, body)
redis.call('PUBLISH', mail .. ':bell', serial)
return 'posted'

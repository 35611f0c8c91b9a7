-- Ack-and-emit: the transactions of a batch, each taking effect whole or not at all.
-- KEYS[1]   receipt of this committer: "<sequence>:<result>" of its latest commit
-- KEYS[2..] every other key that the batch touches, all in one hash slot
-- ARGV[1]   the transactions, packed; numbers are big-endian
--             transaction: guards (2 bytes), writes (2), steps (2), length of what follows (4),
--                          then so many guards, writes and steps
--             guard: list of a command, then list of accepted replies ("" stands for nil)
--             write: list of a command; step: a transaction, tried once the guards hold
--             list: count (2), then for each its length (4) and bytes
-- ARGV[2]   this commit's sequence number; sent again, it answers with the receipt
-- ARGV[3]   seconds the receipt is kept
-- returns   for each transaction "1" (took effect), "0" (a guard did not hold) or "!" (the
--           server refused a write; what came before it stands), then, if any failed, a line
--           feed and the first failure's reason
-- Besides the server's own, these commands, carried out together when all transactions have run:
--   EMIT stream event        events, into entries with one field `batch` (a JSON array)
--   SUM hash field n         increments of integer fields
--   PUT zset score member    and DROP zset member: the last word on a member counts
--   MOVE zset zset member    from the first to the second, at the score that it has there, if any
-- A guard may also be HAS stream id: 1 if that entry is there, else 0.
-- A guard that reads several fields (HMGET) is held against their values joined by spaces.
local receipt = redis.call('GET', KEYS[1])
if receipt then
  local sequence, result = string.match(receipt, '^(%d+):(.*)$')
  -- An older one is a copy, still under way while its successors were sent: nobody awaits it.
  if tonumber(sequence) >= tonumber(ARGV[2]) then return result end
end

local MAX_EVENTS, MAX_BYTES, MAX_ARGUMENTS = 100, 65536, 1000
local body, read = ARGV[1], struct.unpack
local streams, order, sums, places = {}, {}, {}, {}

-- Reading a list of n strings is one call: their formats, made when first needed.
local formats = setmetatable({}, {__index = function(made, n)
  made[n] = '>' .. string.rep('I4c0', n)
  return made[n]
end})

local function list(position)
  local n, start = read('>I2', body, position)
  local values = {read(formats[n], body, start)}
  position = values[n + 1]
  values[n + 1] = nil
  return values, position
end

local function flush(key)
  local s = streams[key]
  if #s.events > 0 then
    redis.call('XADD', key, '*', 'batch', '[' .. table.concat(s.events, ',') .. ']')
    s.events, s.bytes = {}, 0
  end
end

-- The table kept under a key, made when first needed.
local function under(all, key)
  local one = all[key]
  if not one then
    one = {}
    all[key] = one
  end
  return one
end

local own = {
  EMIT = function(op)
    local key, event = op[2], op[3]
    local s = streams[key]
    if not s then
      redis.call('XLEN', key) -- a key of another type is refused here, not at the end
      s = {events = {}, bytes = 0}
      streams[key] = s
      order[#order + 1] = key
    end
    if #s.events >= MAX_EVENTS or s.bytes + #event > MAX_BYTES then flush(key) end
    s.events[#s.events + 1] = event
    s.bytes = s.bytes + #event
  end,
  SUM = function(op)
    local hash = sums[op[2]]
    if not hash then
      hash = {}
      sums[op[2]] = hash
    end
    if not hash[op[3]] then
      local before = redis.call('HGET', op[2], op[3]) -- refused here, likewise
      if before and not string.match(before, '^%-?%d+$') then error('ERR not an integer') end
    end
    hash[op[3]] = (hash[op[3]] or 0) + tonumber(op[4])
  end,
  PUT = function(op) under(places, op[2])[op[4]] = op[3] end,
  DROP = function(op) under(places, op[2])[op[3]] = false end,
  MOVE = function(op)
    local from, member = under(places, op[2]), op[4]
    local score = from[member]
    if score == nil then score = redis.call('ZSCORE', op[2], member) end
    from[member] = false
    if score then under(places, op[3])[member] = score end
  end,
}

local function holds(op, accepted)
  local reply
  if op[1] == 'HAS' then
    reply = #redis.call('XRANGE', op[2], op[3], op[3])
  else
    reply = redis.call(unpack(op))
  end
  if type(reply) == 'table' then
    for i = 1, #op - 2 do reply[i] = reply[i] or '' end
    reply = reply.ok or table.concat(reply, ' ')
  end
  reply = reply and tostring(reply) or ''
  for _, value in ipairs(accepted) do
    if value == reply then return true end
  end
  return false
end

-- Runs the transaction at a position; returns whether it held, and where it ends.
local function run(position)
  local guards, writes, steps, length, at = read('>I2I2I2I4', body, position)
  local finish = at + length
  local op, accepted
  for _ = 1, guards do
    op, at = list(at)
    accepted, at = list(at)
    if not holds(op, accepted) then return false, finish end
  end
  for _ = 1, writes do
    op, at = list(at)
    local mine = own[op[1]]
    if mine then mine(op) else redis.call(unpack(op)) end
  end
  for _ = 1, steps do
    local _, after = run(at)
    at = after
  end
  return true, finish
end

local result, position, reason = {}, 1, nil
while position <= #body do
  local _, _, _, length, start = read('>I2I2I2I4', body, position)
  local sound, held = pcall(run, position)
  if not sound then
    -- One refused write must not take the whole batch with it.
    local why = type(held) == 'table' and held.err or tostring(held)
    -- A full server refuses the first write of all: nothing has happened yet.
    if string.find(why, '^%-?OOM') then return redis.error_reply(why) end
    reason = reason or why
    held = nil
  end
  result[#result + 1] = held and '1' or held == nil and '!' or '0'
  position = start + length
end

-- What was collected. Refused here (an overflow, a rival use of the key in this very batch) it
-- may have been anybody's: all are told, for an acknowledged loss would be told to nobody.
local function finish(write, ...)
  local sound, why = pcall(write, ...)
  if sound then return end
  reason = reason or (type(why) == 'table' and why.err or tostring(why))
  for i = 1, #result do
    if result[i] == '1' then result[i] = '!' end
  end
end
for _, key in ipairs(order) do finish(flush, key) end
for key, hash in pairs(sums) do
  for field, n in pairs(hash) do
    if n ~= 0 then finish(redis.call, 'HINCRBY', key, field, string.format('%.0f', n)) end
  end
end
local function place(command, key, arguments)
  for from = 1, #arguments, MAX_ARGUMENTS do
    redis.call(command, key, unpack(arguments, from, math.min(from + MAX_ARGUMENTS - 1, #arguments)))
  end
end
for key, members in pairs(places) do
  local put, drop = {}, {}
  for member, score in pairs(members) do
    if score then
      put[#put + 1] = score
      put[#put + 1] = member
    else
      drop[#drop + 1] = member
    end
  end
  finish(place, 'ZREM', key, drop)
  finish(place, 'ZADD', key, put)
end
result = table.concat(result) .. (reason and '\n' .. reason or '')
redis.call('SET', KEYS[1], ARGV[2] .. ':' .. result, 'EX', ARGV[3])
return result

-- Ack-and-emit: the transactions of a batch, each taking effect whole or not at all.
-- KEYS[1]   receipt of this committer: "<sequence>:<result>" of its latest commit
-- KEYS[2..] every other key that the batch touches, all in one hash slot
-- ARGV[1]   msgpack array of transactions {guards, writes, steps}
--             guard: {operation, accepted reply, ...}; holds if the reply is one of them ("" = nil)
--             operation: {command, index into KEYS, argument, ...}
--             steps: transactions tried in order once the guards hold
-- ARGV[2]   this commit's sequence number; sent again, it answers with the receipt
-- ARGV[3]   seconds the receipt is kept
-- returns   a string, "1" or "0" for each transaction of the batch
-- EMIT stream event  collects events into entries with one field `batch` (a JSON array)
-- SUM hash field n   adds up increments, written once per field
local receipt = redis.call('GET', KEYS[1])
if receipt then
  local sequence, result = string.match(receipt, '^(%d+):(%d*)$')
  if sequence == ARGV[2] then return result end
end

local MAX_EVENTS, MAX_BYTES = 100, 65536
local streams, order, sums = {}, {}, {}

local function flush(key)
  local s = streams[key]
  if #s.events > 0 then
    redis.call('XADD', key, '*', 'batch', '[' .. table.concat(s.events, ',') .. ']')
    s.events, s.bytes = {}, 0
  end
end

local own = {
  EMIT = function(key, event)
    local s = streams[key]
    if not s then
      s = {events = {}, bytes = 0}
      streams[key] = s
      order[#order + 1] = key
    end
    if #s.events >= MAX_EVENTS or s.bytes + #event > MAX_BYTES then flush(key) end
    s.events[#s.events + 1] = event
    s.bytes = s.bytes + #event
  end,
  SUM = function(key, field, n)
    local hash = sums[key]
    if not hash then
      hash = {}
      sums[key] = hash
    end
    hash[field] = (hash[field] or 0) + n
  end,
}

local function call(op)
  local mine = own[op[1]]
  if mine then return mine(KEYS[op[2]], op[3], op[4]) end
  return redis.call(op[1], KEYS[op[2]], unpack(op, 3))
end

local function holds(guard)
  local reply = call(guard[1])
  if type(reply) == 'table' then reply = reply.ok end
  reply = reply and tostring(reply) or ''
  for i = 2, #guard do
    if guard[i] == reply then return true end
  end
  return false
end

local function run(transaction)
  for _, guard in ipairs(transaction[1]) do
    if not holds(guard) then return false end
  end
  for _, op in ipairs(transaction[2]) do call(op) end
  for _, step in ipairs(transaction[3]) do run(step) end
  return true
end

local result = {}
for i, transaction in ipairs(cmsgpack.unpack(ARGV[1])) do
  result[i] = run(transaction) and '1' or '0'
end
for _, key in ipairs(order) do flush(key) end
for key, hash in pairs(sums) do
  for field, n in pairs(hash) do
    if n ~= 0 then redis.call('HINCRBY', key, field, string.format('%.0f', n)) end
  end
end
result = table.concat(result)
redis.call('SET', KEYS[1], ARGV[2] .. ':' .. result, 'EX', ARGV[3])
return result

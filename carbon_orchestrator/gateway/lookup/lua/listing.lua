-- One slice of a list of jobs: as of one moment, in order, and short enough to hold nobody up.
-- KEYS     sorted sets of job ids, whose order is by score, then id
-- ARGV[1]  what the ids' records are named by, before the id
-- ARGV[2]  JSON: `descending`; `after`, [score, id] to go on behind, if any; `least` and `most`, the
--          scores between which it looks, both included, if any; `limit`, of jobs; `ms`, of
--          processor time that it may take; `first`, the fields of a record to return, of which
--          the first two are `state` and `attempt`; `later`, those to return besides, but of jobs
--          without an attempt that are in one of the states `untried`; `record`, the values that
--          fields must have, any of a list; `spec`, a list of {field, default, values, said}:
--          likewise of the JSON object in the field `spec`, where the default may be left out; any
--          of the texts in `said` is in it where a value is wanted that is not the default
-- returns  of each job its score, its id, the values of `first`, and a list of those of `later` and
--          the attempt's start, or nil, all jobs in one list (a list of lists costs a tenth
--          more); then {score, id} of the last job that was looked at or nil, and of the one
--          after it or nil if there is none
-- The records, of the same slot as the sets, are not among KEYS: which these are is only known here.
local TURN = 16
local prefix, query = ARGV[1], cjson.decode(ARGV[2])
local descending, least, most = query.descending, query.least, query.most
local searched = #query.spec > 0 or next(query.record)
local began, chunk = os.clock(), searched and 100 or math.min(query.limit + 1, 100)

-- By bytes: Lua's own comparison goes by the server's language.
local function less(one, other)
  local n = math.min(#one, #other)
  for i = 1, n do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

local function before(score, id, score2, id2)
  if score ~= score2 then return (score < score2) ~= descending end
  return id ~= id2 and less(id, id2) ~= descending
end

local function range(key, first, last)
  if descending then return redis.call('ZRANGE', key, first, last, 'REV', 'WITHSCORES') end
  return redis.call('ZRANGE', key, first, last, 'WITHSCORES')
end

local function text(score) return string.format('%.0f', score) end

-- The rank of a set's first job behind a place: by halves, for many may have the same score.
local function rank(key, score, id)
  local low
  if descending then
    low = redis.call('ZCOUNT', key, '(' .. text(score), '+inf')
  else
    low = redis.call('ZCOUNT', key, '-inf', '(' .. text(score))
  end
  local high = low + redis.call('ZCOUNT', key, text(score), text(score))
  while low < high do
    local middle = math.floor((low + high) / 2)
    local there = range(key, middle, middle)
    if before(score, id, score, there[1]) then high = middle else low = middle + 1 end
  end
  return low
end

local function first(key)
  if query.after then return rank(key, query.after[1], query.after[2]) end
  if descending and most then return redis.call('ZCOUNT', key, '(' .. text(most), '+inf') end
  if not descending and least then return redis.call('ZCOUNT', key, '-inf', '(' .. text(least)) end
  return 0
end

-- Each set is read by the chunk; its head is the next job of it, nil at the end. `told`: its score
-- in the server's words.
local sets = {}
local function advance(set)
  set.at = set.at + 2
  if set.at > #set.rows then
    set.rows, set.at = range(set.key, set.next, set.next + chunk - 1), 1
    set.next = set.next + chunk
  end
  set.id, set.told = set.rows[set.at], set.rows[set.at + 1]
  set.score = tonumber(set.told)
  if set.id and ((least and set.score < least) or (most and set.score > most)) then set.id = nil end
end
for i, key in ipairs(KEYS) do
  sets[i] = {key = key, next = first(key), rows = {}, at = 0}
  advance(sets[i])
end

local function head()
  if #sets == 1 then return sets[1].id and sets[1] end
  local found
  for _, set in ipairs(sets) do
    if set.id and (not found or before(set.score, set.id, found.score, found.id)) then found = set end
  end
  return found
end

for _, rule in ipairs(query.spec) do
  rule.wanted = {}
  for _, value in ipairs(rule.values) do rule.wanted[value] = true end
end

-- Whether a spec may be one that is wanted: it says so, if perhaps elsewhere than it should.
local function plausible(spec, rule)
  if rule.default and rule.wanted[rule.default] then return true end
  for _, said in ipairs(rule.said) do
    if string.find(spec, said, 1, true) then return true end
  end
  return false
end

local function wanted(spec)
  for _, rule in ipairs(query.spec) do
    if not plausible(spec, rule) then return false end
  end
  local sound, decoded = pcall(cjson.decode, spec)
  for _, rule in ipairs(sound and query.spec or {}) do -- what is too deep for it is for the caller
    if not rule.wanted[decoded[rule.field] or rule.default] then return false end
  end
  return true
end

local function matches(key)
  if #query.spec > 0 then
    local spec = redis.call('HGET', key, 'spec')
    if not spec or not wanted(spec) then return false end
  end
  for field, values in pairs(query.record) do
    local value, any = redis.call('HGET', key, field), false
    for _, each in ipairs(values) do any = any or each == value end
    if not any then return false end
  end
  return true
end

local untried = {}
for _, state in ipairs(query.untried) do untried[state] = true end

-- Puts what is to be returned of a job behind what was found, if it is one that is looked for;
-- whether it was.
local found, first_fields, later_fields = {}, query.first, query.later
local started_at = #later_fields + 1
local function show(told, id)
  local key = prefix .. id
  if searched and not matches(key) then return false end
  local values = redis.call('HMGET', key, unpack(first_fields))
  local state, attempt, n = values[1], values[2], #found
  if not state then return false end
  found[n + 1], found[n + 2], n = told, id, n + 2
  for i = 1, #first_fields do found[n + i] = values[i] end
  if attempt or not untried[state] then
    later_fields[started_at] = (attempt or '') .. '.started'
    values = redis.call('HMGET', key, unpack(later_fields))
  else
    values = false
  end
  found[n + #first_fields + 1] = values
  return true
end

local count, looked, set, told, id = 0, 0, head(), nil, nil
while set and count < query.limit do
  if looked % TURN == 0 and looked > 0 and (os.clock() - began) * 1000 > query.ms then break end
  looked, told, id = looked + 1, set.told, set.id
  if show(told, id) then count = count + 1 end
  advance(set)
  set = head()
end
return {found, id and {told, id} or false, set and {set.told, set.id} or false}

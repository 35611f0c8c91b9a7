-- Remove consumers that hold nothing: their pending entries would be lost with them.
-- KEYS     streams    ARGV[1]  group    ARGV[2]  this consumer only, or "" for all
-- ARGV[3]  least idle milliseconds
-- returns  how many were removed
local removed = 0
for _, key in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  if not consumers.err then
    for _, flat in ipairs(consumers) do
      local c = {}
      for i = 1, #flat, 2 do c[flat[i]] = flat[i + 1] end
      if c.pending == 0 and c.idle >= tonumber(ARGV[3]) and (ARGV[2] == '' or ARGV[2] == c.name) then
        redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], c.name)
        removed = removed + 1
      end
    end
  end
end
return removed

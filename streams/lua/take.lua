-- Take up to a number of new entries, from the first stream that has any, then the next.
-- KEYS     the streams, most urgent first
-- ARGV[1]  group    ARGV[2]  consumer    ARGV[3]  how many at the most
-- returns  like XREADGROUP: {{stream, {{id, {field, value, ...}}, ...}}, ...}, or an empty array
local left = tonumber(ARGV[3])
local taken = {}
for _, key in ipairs(KEYS) do
  if left <= 0 then break end
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', key, '>')
  if reply then
    taken[#taken + 1] = reply[1]
    left = left - #reply[1][2]
  end
end
return taken

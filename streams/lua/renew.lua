-- Renew the leases of entries being worked on, as far as they are still the caller's.
-- KEYS     for each lease its stream, then the record that holds the fence
-- ARGV[1]  group    ARGV[2]  consumer    ARGV[3]  n
-- ARGV[4..3+n] fields of the records: the fence, then the signals
-- ARGV[4+n..]  for each lease its entry id, then the fence's value while it is ours
-- returns  for each lease the signals' values ("" if unset), or nil if the lease is lost
local n = tonumber(ARGV[3])
local fields = {unpack(ARGV, 4, 3 + n)}
local replies = {}
for i = 1, #KEYS / 2 do
  local stream, record = KEYS[2 * i - 1], KEYS[2 * i]
  local id, fence = ARGV[2 * i + 2 + n], ARGV[2 * i + 3 + n]
  local values = redis.call('HMGET', record, unpack(fields))
  if values[1] == fence then
    redis.call('XCLAIM', stream, ARGV[1], ARGV[2], 0, id, 'IDLE', 0, 'JUSTID')
    replies[i] = {}
    for signal = 2, n do replies[i][signal - 1] = values[signal] or '' end
  else
    replies[i] = false
  end
end
return replies

-- Renew the leases of entries being worked on, as far as they are still the caller's.
-- KEYS     for each lease its stream, then the record that holds the fence
-- ARGV[1]  group    ARGV[2]  consumer    ARGV[3]  fence field    ARGV[4]  signal field
-- ARGV[5..] for each lease its entry id, then the fence's value while it is ours
-- returns  for each lease the signal field's value ("" if unset), or nil if the lease is lost
local replies = {}
for i = 1, #KEYS / 2 do
  local stream, record = KEYS[2 * i - 1], KEYS[2 * i]
  local id, fence = ARGV[2 * i + 3], ARGV[2 * i + 4]
  local fields = redis.call('HMGET', record, ARGV[3], ARGV[4])
  if fields[1] == fence then
    redis.call('XCLAIM', stream, ARGV[1], ARGV[2], 0, id, 'IDLE', 0, 'JUSTID')
    replies[i] = fields[2] or ''
  else
    replies[i] = false
  end
end
return replies

-- Many jobs in one round trip: all of each one's record, and where its output begins and ends.
-- KEYS     of each job its record (a hash) and its output (a byte log, streams/byte_log.py)
-- returns  for each job {names and values of the record in turn, or an error; the id of its output's
--          first entry, the bytes in that, the id of its last entry: nil where there is no output}
local rows = {}
for i = 1, #KEYS, 2 do
  local record, output = redis.pcall('HGETALL', KEYS[i]), KEYS[i + 1]
  local first = redis.call('XRANGE', output, '-', '+', 'COUNT', 1)[1]
  if first then
    local last = redis.call('XREVRANGE', output, '+', '-', 'COUNT', 1)[1]
    rows[#rows + 1] = {record, first[1], #first[2][4], last[1]}
  else
    rows[#rows + 1] = {record, false, false, false}
  end
end
return rows

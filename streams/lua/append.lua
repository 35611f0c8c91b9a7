-- Append to byte logs (byte_log.py): streams whose entries have the ids END-WRITER, where END
-- counts all bytes of the log up to the entry's last, and the fields base (where the writer's
-- bytes begin) and data.
-- KEYS  the logs    ARGV  bytes to keep, entries to keep, expiry in ms;
--       for each log: the writer's number, an offset among that writer's bytes, the bytes there
-- returns  for each log its end then; -1 where a later writer has written. What is there already
--          is not written again, so that a call may be repeated.
local ends = {}
for i, key in ipairs(KEYS) do
  local writer, offset, data = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), ARGV[3 * i + 3]
  local base, last, latest = 0, 0, 0
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if newest then
    local stop, number = string.match(newest[1], '^(%d+)-(%d+)$')
    last, latest = tonumber(stop), tonumber(number)
    base = latest == writer and tonumber(newest[2][2]) or last
  end
  local stop = base + offset + #data
  if latest > writer then
    stop = -1
  elseif stop > last then
    data = string.sub(data, math.max(0, last - base - offset) + 1)
    local id = string.format('%.0f-%.0f', stop, writer)
    local from = string.format('%.0f', base)
    local first = string.format('%.0f', math.max(0, stop - ARGV[1]))
    redis.call('XADD', key, 'MINID', '=', first, id, 'base', from, 'data', data)
    if redis.call('XLEN', key) > tonumber(ARGV[2]) then
      redis.call('XTRIM', key, 'MAXLEN', ARGV[2])
    end
    redis.call('PEXPIRE', key, ARGV[3])
  end
  ends[i] = stop
end
return ends

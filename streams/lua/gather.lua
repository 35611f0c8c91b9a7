-- Read the same fields of many hashes in one round trip.
-- KEYS  the hashes    ARGV  the fields
-- returns  for each hash an array of its values, nil where absent
local rows = {}
for i, key in ipairs(KEYS) do rows[i] = redis.call('HMGET', key, unpack(ARGV)) end
return rows

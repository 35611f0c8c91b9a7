#!lua flags=allow-oom
-- Say up to where a stream is archived, so that it may be trimmed; on a full server, too.
-- KEYS[1]  hash: stream to the last archived id
-- ARGV     stream's name, the id that was the last before ("0-0" if none), the id that is now
-- returns  1 if that id is the last now, 0 if another one was before
local now = redis.call('HGET', KEYS[1], ARGV[1]) or '0-0'
if now == ARGV[3] then return 1 end
if now ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1

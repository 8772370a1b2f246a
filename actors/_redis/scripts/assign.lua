-- Replaces the assignment record, if it is still the version it was computed from.
--
-- KEYS 1 assignment
--      2 control
-- ARGV 1 version seen ('0' for none)
--      2 record, which begins with its own version and a space
-- Returns {'ok'} | {'stale', record} (another was first: follow that one)
--
-- Invariant: versions follow one another, each computed from the one before. A late copy is stale. The
-- first write frees.

local record = redis.call('GET', KEYS[1]) or ''
if (string.match(record, '^(%d+) ') or '0') ~= ARGV[1] then
  return { 'stale', record }
end
redis.call('XLEN', KEYS[2])

redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '1000', '*', 'e', 'assigned', 'v', string.match(ARGV[2], '^(%d+) '))
return { 'ok' }

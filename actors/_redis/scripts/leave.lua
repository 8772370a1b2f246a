-- Takes a runner out of the membership, once it owns nothing.
--
-- KEYS 1 members
--      2 lease of the incarnation
--      3 control
--      4 own
-- ARGV 1 runner name
--      2 incarnation
-- Returns {'ok'} | {'owns', label, ...} (first 100) when records name this incarnation: nothing was changed
--
-- Invariant: after 'ok' no record names this incarnation, and none ever will, since its lease is gone and
-- acquire needs it. May be repeated. The first write frees.

local prefix, owned = ARGV[2] .. ' ', { 'owns' }
local own = redis.call('HGETALL', KEYS[4])
for i = 1, #own, 2 do
  if #owned <= 100 and string.sub(own[i + 1], 1, #prefix) == prefix then
    owned[#owned + 1] = own[i]
  end
end
if #owned > 1 then
  return owned
end
redis.call('XLEN', KEYS[3])

redis.call('DEL', KEYS[2])
if string.sub(redis.call('HGET', KEYS[1], ARGV[1]) or '', 1, 16) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '1000', '*', 'e', 'left', 'n', ARGV[1], 'i', ARGV[2])
end
return { 'ok' }

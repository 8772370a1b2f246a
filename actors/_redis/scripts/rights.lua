-- Calls every command that a script of a runner or a client calls, to see whether this user may.
--
-- KEYS 1 hash, 2 string, 3 stream, 4 sorted set: scratch keys, used by nobody
-- Returns the names of those that were refused, with the server's word for it: {name, error, ...}
--
-- Invariant: a denial in the middle of a script leaves what it wrote before, so no right may be found
-- missing there. It is found here, before the runner has joined. The first write is never refused for lack
-- of memory, so that what is refused here is for want of a right. Whoever calls this removes the keys.

local refused = {}

local function try(name, ...)
  local answer = redis.pcall(name, ...)
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = name
    refused[#refused + 1] = answer.err
  end
  return answer
end

try('TIME')
try('DEL', KEYS[2])
try('HSET', KEYS[1], 'a', '1', 'b', '2')
try('HGET', KEYS[1], 'a')
try('HMGET', KEYS[1], 'a', 'b')
try('HGETALL', KEYS[1])
try('HEXISTS', KEYS[1], 'a')
try('HLEN', KEYS[1])
try('HINCRBY', KEYS[1], 'a', 1)
try('HDEL', KEYS[1], 'a')
try('SET', KEYS[2], '1', 'PX', '5000')
try('MSET', KEYS[2], '1')
try('GET', KEYS[2])
try('INCRBY', KEYS[2], 1)
try('PEXPIRE', KEYS[2], '5000')
try('PTTL', KEYS[2])
try('EXISTS', KEYS[2])
try('XGROUP', 'CREATE', KEYS[3], 'rights', '0', 'MKSTREAM')
local entry = try('XADD', KEYS[3], '*', 'd', '')
try('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
try('XLEN', KEYS[3])
try('XINFO', 'STREAM', KEYS[3])
try('XINFO', 'GROUPS', KEYS[3])
try('XDEL', KEYS[3], type(entry) == 'string' and entry or '0-1')
try('XTRIM', KEYS[3], 'MAXLEN', 0)
try('XGROUP', 'DESTROY', KEYS[3], 'rights')
try('ZADD', KEYS[4], 1, 'a')
try('ZCARD', KEYS[4])
try('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
try('ZRANGEBYSCORE', KEYS[4], '-inf', 1, 'LIMIT', 0, 1)
try('ZREM', KEYS[4], 'a')
return refused

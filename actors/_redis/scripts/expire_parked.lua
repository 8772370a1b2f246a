-- Move one parked message that nobody has come for to the dead letters.
--
-- Keeps: once only, since taking it out decides. Its idempotency key is free again, and who
-- waited under it is told.
--
-- KEYS[1] parked  KEYS[2] dead  KEYS[3] dead count  KEYS[4] its idempotency record
-- ARGV[1] id  ARGV[2] dead capacity  ARGV[3] 1 if it has a record  ARGV[4] prefix  ARGV[5] answer  ARGV[6...] fields
-- Returns 1 when it was there.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6))
local over = redis.call('XLEN', KEYS[2]) - tonumber(ARGV[2])
if over > 0 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[2])
  redis.call('INCRBY', KEYS[3], over)
end
if ARGV[3] == '1' then
  local prefix = ARGV[4]
  local tag = string.sub(KEYS[4], 1, string.find(KEYS[4], '}', 1, true))
  local waiters = redis.call('HGET', KEYS[4], prefix .. 'w') or ''
  for inbox, call in string.gmatch(waiters, '(%S+) (%d+)\n') do
    redis.call('XADD', tag .. ':i:' .. inbox, 'NOMKSTREAM', '*', call, ARGV[5])
  end
  redis.call('HDEL', KEYS[4], prefix .. 'h', prefix .. 's', prefix .. 'i', prefix .. 'w')
end
return 1

-- Move one parked message that nobody has come for to the dead letters.
--
-- Keeps: once only, since taking it out decides.
-- KEYS[1] parked  KEYS[2] dead  KEYS[3] dead count   ARGV[1] id  ARGV[2] dead capacity  ARGV[3...] fields
-- Returns 1 when it was there.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
local over = redis.call('XLEN', KEYS[2]) - tonumber(ARGV[2])
if over > 0 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[2])
  redis.call('INCRBY', KEYS[3], over)
end
return 1

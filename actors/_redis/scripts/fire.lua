-- Put delayed messages that are due into their shard's mailbox.
--
-- Keeps: each fires once, by the shard's owner only; taking it out of the timers and putting
-- it into the mailbox is one step, so that running this again moves nothing twice.
--
-- KEYS[1] own hash  KEYS[2] timers  KEYS[3] timer values  KEYS[4] mailbox
-- ARGV[1] label  ARGV[2] "<inc> <epoch> "  ARGV[3] how many at most
-- Returns {"fenced"} or {number moved, due time of the next in ms or "", Redis time in ms}.
local value = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.sub(value, 1, #ARGV[2]) ~= ARGV[2] then return { 'fenced' } end
local t = redis.call('TIME')
local now = t[1] .. string.format('%03d', math.floor(t[2] / 1000))
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])
if #due > 0 then
  redis.call('ZREM', KEYS[2], unpack(due))
  local values = redis.call('HMGET', KEYS[3], unpack(due))
  redis.call('HDEL', KEYS[3], unpack(due))
  for i = 1, #due do
    if values[i] then redis.call('XADD', KEYS[4], '*', 'd', values[i]) end
  end
end
local following = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { #due, following[2] or '', now }

-- Puts the new layout of one shard in the place of the old one.
--
-- KEYS 1 facts
--      2 own
--      3 backlog totals
--      4 mailbox, 5 held, 6 marks, 7 timers, 8 timer values, 9 streams
--      10... the same six as they are to be
-- ARGV 1 field of the progress
--      2 its value now, 'swap <n>' (for another one nothing is done)
--      3 its value afterwards
--      4 shard label
--      5 last id copied from the old mailbox
--      6 messages in backlogs as they are to be
--      7 last id of suspects as they are to be, '' for none
-- Returns 1, or 0 when the progress was another
--
-- Invariant: each shard is swapped once, in one step. What a client has appended to the old mailbox since it
-- was copied goes along behind the rest; the step after this one moves it to where it belongs.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[4], '(' .. ARGV[5], '+')) do
    redis.call('XADD', KEYS[10], '*', unpack(entry[2]))
  end
end
for n = 4, 9 do
  redis.call('DEL', KEYS[n])
  if redis.call('EXISTS', KEYS[n + 6]) == 1 then
    redis.call('RENAME', KEYS[n + 6], KEYS[n])
  end
end
if ARGV[6] == '0' then
  redis.call('HDEL', KEYS[3], ARGV[4])
else
  redis.call('HSET', KEYS[3], ARGV[4], ARGV[6])
end
if ARGV[7] == '' then
  redis.call('HDEL', KEYS[2], ARGV[4])
else
  redis.call('HSET', KEYS[2], ARGV[4], '- 0 0 1 ' .. ARGV[7])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1

-- Put messages that were set aside (dead letters, parked ones) back into their mailboxes.
--
-- Keeps: each goes back once: taking it out decides, and putting it in is the same step.
-- Running this again moves nothing twice.
--
-- KEYS[1] the stream they were set aside in  KEYS[2...] mailbox of each
-- ARGV id, envelope of each
-- Returns how many went back.
local moved = 0
for i = 2, #KEYS do
  if redis.call('XDEL', KEYS[1], ARGV[2 * i - 3]) == 1 then
    redis.call('XADD', KEYS[i], '*', 'd', ARGV[2 * i - 2])
    moved = moved + 1
  end
end
return moved

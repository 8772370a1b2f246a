-- Put parked messages back into their mailboxes, for a runner that knows them has come.
--
-- Keeps: each goes back once: taking it out and putting it in are one step.
--
-- KEYS[1] parked  KEYS[2...] mailbox of each message
-- ARGV id, envelope of each message
-- Returns how many went back.
local moved = 0
for i = 2, #KEYS do
  if redis.call('XDEL', KEYS[1], ARGV[2 * i - 3]) == 1 then
    redis.call('XADD', KEYS[i], '*', 'd', ARGV[2 * i - 2])
    moved = moved + 1
  end
end
return moved

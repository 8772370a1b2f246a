-- Moves messages from one mailbox to those they belong in.
--
-- KEYS 1 mailbox
--      2... the mailbox of each message
-- ARGV id, envelope of each message
-- Returns how many were moved
--
-- Invariant: each is moved once: taking it out and putting it in are one step.

local moved = 0
for n = 2, #KEYS do
  if redis.call('XDEL', KEYS[1], ARGV[2 * n - 3]) == 1 then
    redis.call('XADD', KEYS[n], '*', 'd', ARGV[2 * n - 2])
    moved = moved + 1
  end
end
return moved

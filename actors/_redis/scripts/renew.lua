-- Renews an incarnation's lease, or revives it.
--
-- KEYS 1 members
--      2 lease of the incarnation
-- ARGV 1 runner name
--      2 incarnation
--      3 lease in ms
-- Returns {'renewed', listed}   the lease was there all along: nobody can have taken anything
--         {'revived', listed}   it was gone: whatever nobody took is still this incarnation's
--         {'superseded'}        the name belongs to another incarnation; nothing was changed
--      listed: 1, or 0 when the membership has lost this runner, which then has to register again
--
-- Invariant: no lease is prolonged for an incarnation that another has replaced. A late copy prolongs
-- liveness by one lease at most and never ownership, which is a record of its own. The first write is
-- never refused for lack of memory.

local holder = string.sub(redis.call('HGET', KEYS[1], ARGV[1]) or '', 1, 16)
if holder ~= '' and holder ~= ARGV[2] then
  return { 'superseded' }
end

local status = 'renewed'
if redis.call('PEXPIRE', KEYS[2], ARGV[3]) == 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
  status = 'revived'
end
return { status, holder == '' and 0 or 1 }

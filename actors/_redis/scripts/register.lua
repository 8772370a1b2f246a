-- Writes a runner into the membership and gives its incarnation a lease.
--
-- KEYS 1 members
--      2 lease of the incarnation
--      3 control
--      4 lease of the incarnation that held the name (the newcomer's own where none was seen)
-- ARGV 1 runner name
--      2 incarnation
--      3 member record, which begins with the incarnation
--      4 lease in ms
--      5 incarnation seen to hold the name ('' for none)
--      6 time to live in ms last seen on that incarnation's lease (0 for none)
-- Returns {'ok'} | {'taken', incarnation holding the name}
--
-- Invariant: a name passes from one incarnation to another only when the one that held it was watched and
-- has not renewed since. Shards do not follow the name, they follow the lease. The same incarnation may
-- register again, with the same record (a retry: no event) or another. The first write is never refused
-- for lack of memory.

redis.call('XLEN', KEYS[3])
local listed = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local holder = string.sub(listed, 1, 16)
if holder ~= '' and holder ~= ARGV[2] and (holder ~= ARGV[5] or redis.call('PTTL', KEYS[4]) > tonumber(ARGV[6])) then
  return { 'taken', holder }
end

if redis.call('PEXPIRE', KEYS[2], ARGV[4]) == 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
end
if listed ~= ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  local event = holder == ARGV[2] and 'changed' or 'joined'
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '1000', '*', 'e', event, 'n', ARGV[1], 'i', ARGV[2])
end
return { 'ok' }

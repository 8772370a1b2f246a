-- Closes a shard group for a change of its number of shards.
--
-- KEYS 1 facts
--      2 members
--      3 own
--      then the leases of all members and owners that were seen
-- ARGV 1 field of the number of shards
--      2 its value now
--      3 the value to leave: '<old>><new>', which fits no member, so that none can start
--      4 how many members were seen
--      5... their incarnations, then those of other owners that were seen
-- Returns {'ok'} | {'alive', incarnation} | {'changed'} (look again)
--
-- Invariant: a group is closed only while no runner lives, and stays closed until its last shard has been
-- moved.

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return { 'changed' }
end
local seen = {}
for n = 5, #ARGV do
  seen[ARGV[n]] = true
  if redis.call('EXISTS', KEYS[n - 1]) == 1 then
    return { 'alive', ARGV[n] }
  end
end
local members = redis.call('HVALS', KEYS[2])
if #members ~= tonumber(ARGV[4]) then
  return { 'changed' }
end
for _, member in ipairs(members) do
  if not seen[string.sub(member, 1, 16)] then
    return { 'changed' }
  end
end
for _, record in ipairs(redis.call('HVALS', KEYS[3])) do
  local owner = string.match(record, '^(%x+) ')
  if owner and not seen[owner] then
    return { 'changed' }
  end
end

redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return { 'ok' }

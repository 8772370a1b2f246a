-- Deletes an actor's state, and takes its shard from its owner for a moment.
--
-- KEYS 1 own
--      2 control
--      3 mailbox
--      4 marks
--      5 state
-- ARGV 1 shard label
-- Returns 0 or 1: states deleted
--
-- Invariant: the owner may have the actor in memory and write it back with its next commit. So its record
-- is freed in the same step: that commit is fenced, what it knew of the shard is dropped, and whoever
-- acquires the shard next loads what is here. Messages that wait stay and run then; a turn that was
-- running runs again. `upto` and the epoch stay; the marks of that epoch go, since they prove nothing of a
-- turn that was interrupted from here. The first write is never refused for lack of memory.
--@include groups
--@include marks

local epoch, upto = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%x+ (%d+) %d+ %d (%S+)$')
local changes = {}
if epoch then
  local _
  _, changes = marks_without(KEYS[4], epoch)
end

local deleted = redis.call('DEL', KEYS[5])
if epoch then
  redis.call('HSET', KEYS[1], ARGV[1], '- ' .. epoch .. ' 0 1 ' .. upto)
  for _, group in ipairs(groups_of(KEYS[3])) do
    redis.call('XGROUP', 'DESTROY', KEYS[3], group)
  end
  take_back(KEYS[4], changes)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', '1000', '*', 'e', 'released', 's', ARGV[1])
end
return deleted

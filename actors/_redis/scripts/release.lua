-- Gives shards back, and tells everybody in one event.
--
-- KEYS 1 own
--      2 control
--      then 2 per shard: mailbox, marks
-- ARGV 2 per shard: label, token (the own value as it stands)
-- Returns one per shard: 'ok' | 'fenced' (the record is not the one named: nothing was changed)
--
-- Invariant: only the record named is released, so a late copy changes nothing, whoever owns the shard
-- by then. `upto` stays: entries that stood at an unclean takeover remain suspects until they are gone.
-- The marks of this epoch are taken back, since the process that set them is alive. No group is left, so
-- that a read still waiting ends. The first write is never refused for lack of memory.
--@include groups
--@include marks

redis.call('XLEN', KEYS[2])
local answers, given = {}, {}
for n = 1, #ARGV / 2 do
  local label, token = ARGV[n * 2 - 1], ARGV[n * 2]
  local mailbox, marks = KEYS[n * 2 + 1], KEYS[n * 2 + 2]
  if redis.call('HGET', KEYS[1], label) == token then
    local epoch, upto = string.match(token, '^%S+ (%d+) %d+ %d (%S+)$')
    local _, changes = marks_without(marks, epoch)
    given[#given + 1] = { label, '- ' .. epoch .. ' 0 1 ' .. upto, mailbox, groups_of(mailbox), marks, changes }
    answers[n] = 'ok'
  else
    answers[n] = 'fenced'
  end
end
if #given == 0 then
  return answers
end

redis.call('HDEL', KEYS[1], '-')
local labels = {}
for n, shard in ipairs(given) do
  local label, value, mailbox, groups, marks, changes = unpack(shard)
  redis.call('HSET', KEYS[1], label, value)
  for _, old in ipairs(groups) do
    redis.call('XGROUP', 'DESTROY', mailbox, old)
  end
  take_back(marks, changes)
  labels[n] = label
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '1000', '*', 'e', 'released', 's', table.concat(labels, ' '))
return answers

-- Takes shards for one incarnation and hands it what it must know before their first turn.
--
-- KEYS 1 own
--      2 lease of the taker
--      then 6 per shard: lease of the owner seen (the taker's where none was), mailbox, held, marks,
--      streams, timers
-- ARGV 1 incarnation of the taker
--      then 3 per shard: label, own value seen ('' for none), group to create on the mailbox
-- Returns {'lease'} and changes nothing when the taker's lease is gone; else {'ok', one per shard}:
--      {'ok', token, held, marks, streams, due}   hashes flat; due: lowest timer in ms or ''
--      {'moved', own value or ''}                 the record is not the one seen
--      {'alive'}                                  its owner's lease is there
--
-- Invariant: a shard changes hands only from the very record that was seen, and only when that record is
-- free, or its owner's lease is gone, or its owner is the taker itself. The epoch is new, also after
-- records were lost (it follows the clock), and the only group left on the mailbox is the taker's, at 0:
-- a read by anyone else ends with NOGROUP having taken nothing. `upto` moves to the end of the mailbox when
-- another incarnation went without a release; else it stays.
-- A late copy finds another record and changes nothing. The first write is one that the server never
-- refuses for lack of memory, so that a full Redis can still be taken over.
--@include groups
--@include marks

if redis.call('EXISTS', KEYS[2]) == 0 then
  return { 'lease' }
end
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000000 + tonumber(now[2])
local taker = ARGV[1]
local answers, taken = { 'ok' }, {}

for n = 1, (#ARGV - 1) / 3 do
  local k, a = 2 + (n - 1) * 6, 1 + (n - 1) * 3
  local label, seen, group = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local mailbox = KEYS[k + 2]
  local value = redis.call('HGET', KEYS[1], label) or ''
  local owner, epoch, upto = '-', '0', '0-0'
  if value ~= '' then
    owner, epoch, upto = string.match(value, '^(%S+) (%d+) %d+ %d (%d+%-%d+)$')
    if not owner then -- not a record of ours: it is replaced
      owner, epoch, upto = '-', '0', '0-0'
    end
  end
  if value ~= seen then
    answers[n + 1] = { 'moved', value }
  elseif owner ~= '-' and owner ~= taker and redis.call('EXISTS', KEYS[k + 1]) == 1 then
    answers[n + 1] = { 'alive' }
  else
    if owner ~= '-' and owner ~= taker and redis.call('EXISTS', mailbox) == 1 then
      local facts = redis.call('XINFO', 'STREAM', mailbox)
      for i = 1, #facts, 2 do
        if facts[i] == 'last-generated-id' then
          upto = facts[i + 1]
        end
      end
    end
    local marks, changes = marks_without(KEYS[k + 4], owner == taker and epoch or '')
    local first = redis.call('ZRANGE', KEYS[k + 6], 0, 0, 'WITHSCORES')
    local token = string.format('%s %.0f 0 0 %s', taker, math.max(tonumber(epoch) + 1, now), upto)
    taken[#taken + 1] = { label, token, mailbox, group, groups_of(mailbox), KEYS[k + 4], changes }
    answers[n + 1] = {
      'ok',
      token,
      redis.call('HGETALL', KEYS[k + 3]),
      marks,
      redis.call('HGETALL', KEYS[k + 5]),
      first[2] or '',
    }
  end
end

redis.call('HDEL', KEYS[1], '-')
for _, shard in ipairs(taken) do
  local label, token, mailbox, group, groups, marks, changes = unpack(shard)
  redis.call('HSET', KEYS[1], label, token)
  for _, old in ipairs(groups) do
    redis.call('XGROUP', 'DESTROY', mailbox, old)
  end
  redis.call('XGROUP', 'CREATE', mailbox, group, '0', 'MKSTREAM')
  take_back(marks, changes)
end
return answers

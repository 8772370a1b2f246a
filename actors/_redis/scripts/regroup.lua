-- Gives one reader's streams a new read group, so that its earlier reads, still on their way, take nothing.
--
-- KEYS 1 own
--      then 1 per shard: mailbox
-- ARGV 1 incarnation
--      2 reader
--      3 generation, greater than any before
--      then 4 per shard: label, epoch, last id this epoch has read there ('0-0' for none), commits it knows of
-- Returns {'old'} and changes nothing when one of the streams has a group of this reader with that
--      generation or a newer one; else {'ok', one per shard: 'ok' | 'fenced'}
--
-- Invariant: the group '<incarnation>.<reader>.<generation>' is then the only one on each stream still
-- owned in that epoch, and begins behind what was read; generations only rise, so a late copy of an
-- earlier call is 'old' or fenced. A retry takes the next generation. Streams no longer owned are left as
-- they are, and so are those whose record has counted fewer commits than their owner knows of: Redis has
-- gone back, what was handled stands in the mailbox again, and the shard has to be acquired anew. The first
-- write is never refused for lack of memory.
--@include groups

local incarnation, reader, generation = ARGV[1], ARGV[2], tonumber(ARGV[3])
local prefix = incarnation .. '.' .. reader .. '.'
local answers, taken = { 'ok' }, {}
for n = 1, (#ARGV - 3) / 4 do
  local label, epoch, read, known = ARGV[n * 4], ARGV[n * 4 + 1], ARGV[n * 4 + 2], tonumber(ARGV[n * 4 + 3])
  local mailbox = KEYS[n + 1]
  local owned = incarnation .. ' ' .. epoch .. ' '
  local value = redis.call('HGET', KEYS[1], label) or ''
  if string.sub(value, 1, #owned) == owned and tonumber(string.match(value, '(%d+)', #owned + 1)) >= known then
    local groups = groups_of(mailbox)
    for _, group in ipairs(groups) do
      if string.sub(group, 1, #prefix) == prefix and tonumber(string.sub(group, #prefix + 1)) >= generation then
        return { 'old' }
      end
    end
    taken[#taken + 1] = { mailbox, groups, read }
    answers[n + 1] = 'ok'
  else
    answers[n + 1] = 'fenced'
  end
end

redis.call('HDEL', KEYS[1], '-')
local name = prefix .. ARGV[3]
for _, shard in ipairs(taken) do
  for _, old in ipairs(shard[2]) do
    redis.call('XGROUP', 'DESTROY', shard[1], old)
  end
  redis.call('XGROUP', 'CREATE', shard[1], name, shard[3], 'MKSTREAM')
end
return answers

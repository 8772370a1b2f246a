-- Tells how much waits in some shards, in one command.
--
-- KEYS 1 backlog totals
--      then mailboxes
-- ARGV the shards' labels, in the order of their mailboxes
-- Returns the time in ms, then per shard: entries, id of the first entry ('' for none), messages in backlogs
--
-- Reads only.

local t = redis.call('TIME')
local answers = { string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)) }
for n = 1, #ARGV do
  local mailbox = KEYS[n + 1]
  local length, first = redis.call('XLEN', mailbox), ''
  if length > 0 then
    first = redis.call('XRANGE', mailbox, '-', '+', 'COUNT', 1)[1][1]
  end
  answers[#answers + 1] = length
  answers[#answers + 1] = first
  answers[#answers + 1] = (tonumber(redis.call('HGET', KEYS[1], ARGV[n]) or 0) or 0)
end
return answers

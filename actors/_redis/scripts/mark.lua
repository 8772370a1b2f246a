-- Mark suspects as started, as the last step before they are.
--
-- Keeps: the death of a process is charged only to messages that had started in it. A mark
-- counts once per epoch, and only while its entry still exists; a release or a re-acquire by
-- a living owner takes that epoch's marks back. Running it again changes nothing. The first write
-- is never refused for lack of memory, or a full server could not be drained after a takeover.
--
-- KEYS[1] own hash  KEYS[2] marks  KEYS[3] mailbox  KEYS[4...] the backlog each entry may be in
-- ARGV[1] label  ARGV[2] "<inc> <epoch> "  ARGV[3] epoch  ARGV[4...] entry ids
-- Returns {"fenced"}, or the count of each entry (0: it does not exist any more).
local value = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.sub(value, 1, #ARGV[2]) ~= ARGV[2] then return { 'fenced' } end
redis.call('HDEL', KEYS[2], '')
local counts = {}
for i = 4, #ARGV do
  local entry = ARGV[i]
  if #redis.call('XRANGE', KEYS[3], entry, entry) == 0 and #redis.call('XRANGE', KEYS[i], entry, entry) == 0 then
    counts[#counts + 1] = 0
  else
    local count, epoch = 0, ''
    local mark = redis.call('HGET', KEYS[2], entry)
    if mark then
      local space = string.find(mark, ' ', 1, true)
      if space then
        count, epoch = tonumber(string.sub(mark, 1, space - 1)) or 0, string.sub(mark, space + 1)
      end
    end
    if epoch ~= ARGV[3] then
      count = count + 1
      redis.call('HSET', KEYS[2], entry, count .. ' ' .. ARGV[3])
    end
    counts[#counts + 1] = count
  end
end
return counts

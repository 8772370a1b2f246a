-- Takes runners out of the membership whose lease is gone.
--
-- KEYS 1 members
--      2 control
--      then 1 per runner: lease of its incarnation
-- ARGV 2 per runner: name, incarnation
-- Returns the names taken out
--
-- Invariant: only the incarnation named is taken out, and only without a lease. One event tells of all of
-- them. May be repeated. The first write frees.

redis.call('XLEN', KEYS[2])
local names = {}
for n = 1, #ARGV / 2 do
  local name, incarnation = ARGV[n * 2 - 1], ARGV[n * 2]
  if
    redis.call('EXISTS', KEYS[n + 2]) == 0
    and string.sub(redis.call('HGET', KEYS[1], name) or '', 1, 16) == incarnation
  then
    names[#names + 1] = name
  end
end

for _, name in ipairs(names) do
  redis.call('HDEL', KEYS[1], name)
end
if #names > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', '1000', '*', 'e', 'died', 'n', table.concat(names, ' '))
end
return names

-- Records what every member of the system has to agree on.
--
-- KEYS 1 facts
-- ARGV 2 per fact: name, value
-- Returns all recorded facts, flat
--
-- Invariant: a fact once recorded is never changed here, and those given are recorded together or, when
-- one of them is recorded with another value, not at all. May be repeated.

for i = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  if value and value ~= ARGV[i + 1] then
    return redis.call('HGETALL', KEYS[1])
  end
end

redis.call('HDEL', KEYS[1], '')
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
return redis.call('HGETALL', KEYS[1])

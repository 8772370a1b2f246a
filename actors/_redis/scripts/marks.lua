-- What to change in a shard's marks (entry id -> '<count> <epoch>') so that those set in one epoch are
-- taken back: the process that set them is alive, so they prove nothing. Returns the hash as it will
-- be, flat, and the changes. Reads only; `take_back` writes.
local function marks_without(key, epoch)
  local all, kept, changes = redis.call('HGETALL', key), {}, {}
  for i = 1, #all, 2 do
    local count, set_in = string.match(all[i + 1], '^(%d+) (%S+)$')
    if set_in == epoch then
      count = tonumber(count) - 1
      local value = count > 0 and string.format('%.0f -', count) or false
      changes[#changes + 1] = { all[i], value }
      if value then
        kept[#kept + 1] = all[i]
        kept[#kept + 1] = value
      end
    else
      kept[#kept + 1] = all[i]
      kept[#kept + 1] = all[i + 1]
    end
  end
  return kept, changes
end

local function take_back(key, changes)
  for _, change in ipairs(changes) do
    if change[2] then
      redis.call('HSET', key, change[1], change[2])
    else
      redis.call('HDEL', key, change[1])
    end
  end
end

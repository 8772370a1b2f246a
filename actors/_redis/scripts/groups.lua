-- Names of the consumer groups of a stream; none where the stream does not exist.
local function groups_of(stream)
  local names = {}
  if redis.call('EXISTS', stream) == 1 then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      for i = 1, #group, 2 do
        if group[i] == 'name' then
          names[#names + 1] = group[i + 1]
        end
      end
    end
  end
  return names
end

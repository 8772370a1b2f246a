-- Make the turns of one commit real: per shard all of its part, or none of it.
--
-- Keeps: a part is applied exactly once and only by the shard's owner. The own hash holds
-- "<inc> <epoch> <seq> <clean> <upto>" of each shard; a part names the value it expects and
-- the value it leaves behind. Equal to the former: apply. Equal to the latter: it was
-- applied already (a retry is safe). Same owner and epoch with another sequence: history
-- was lost (gap). Anything else: fenced. All parts are checked before anything is written,
-- and the first write frees memory, so that a full Redis can still be drained.
--
-- KEYS[1] own hash; then the keys of all operations, in order.
-- ARGV[1] number of parts; then per part: label, expected, left behind, number of keys,
-- number of arguments, number of operations; then per operation: code, number of keys,
-- number of arguments, arguments.
--   D mailbox | ids...                      delete handled entries
--   S state keys... | values...             write states
--   R inbox | call, body, ...               answer callers
--   T mailbox, dead, dead count, totals | capacity, dead capacity, label, payloads...   send; dead-letter what does not fit
--   and those of commit_ops.lua, which are rare.
-- Returns one digit a part: 0 applied, 1 was applied already, 2 fenced, 3 gap.
local parts = tonumber(ARGV[1])
local labels, status = {}, {}
local p = 2
for i = 1, parts do
  labels[i] = ARGV[p]
  p = p + 6 + tonumber(ARGV[p + 4])
end
local own = redis.call('HMGET', KEYS[1], unpack(labels))
p = 2
local left = {}
for i = 1, parts do
  local value = own[i]
  if value == ARGV[p + 1] then
    status[i] = '0'
    left[#left + 1] = labels[i]
    left[#left + 1] = ARGV[p + 2]
  elseif value == ARGV[p + 2] then
    status[i] = '1'
  else
    local holder = string.match(ARGV[p + 1], '^%S+ %S+ ')
    status[i] = (value and string.sub(value, 1, #holder) == holder) and '3' or '2'
  end
  p = p + 6 + tonumber(ARGV[p + 4])
end
if #left == 0 then return table.concat(status) end

redis.call('HDEL', KEYS[1], '')
local k = 2
local states, inboxes, order = {}, {}, {}

-- Answers gather per inbox and leave as one entry: its fields are call numbers, its values
-- the answers. An inbox that has gone is not created again.
local function answer(inbox, call, body)
  local fields = inboxes[inbox]
  if not fields then
    fields = {}
    inboxes[inbox] = fields
    order[#order + 1] = inbox
  end
  fields[#fields + 1] = call
  fields[#fields + 1] = body
end

local function bury(dead, lost, capacity, fields)
  redis.call('XADD', dead, '*', unpack(fields))
  local over = redis.call('XLEN', dead) - capacity
  if over > 0 then
    redis.call('XTRIM', dead, 'MAXLEN', capacity)
    redis.call('INCRBY', lost, over)
  end
end

--@include commit_ops

p = 2
for i = 1, parts do
  if status[i] ~= '0' then
    k = k + tonumber(ARGV[p + 3])
    p = p + 6 + tonumber(ARGV[p + 4])
  else
    local ops = tonumber(ARGV[p + 5])
    p = p + 6
    for _ = 1, ops do
      local code, nk, na = ARGV[p], tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
      p = p + 3
      if code == 'D' then
        redis.call('XDEL', KEYS[k], unpack(ARGV, p, p + na - 1))
      elseif code == 'S' then
        for j = 0, nk - 1 do
          states[#states + 1] = KEYS[k + j]
          states[#states + 1] = ARGV[p + j]
        end
      elseif code == 'R' then
        for j = 0, na - 1, 2 do answer(KEYS[k], ARGV[p + j], ARGV[p + j + 1]) end
      elseif code == 'T' then
        local depth, capacity = redis.call('XLEN', KEYS[k]), tonumber(ARGV[p])
        if na > 3 then
          depth = depth + tonumber(redis.call('HGET', KEYS[k + 3], ARGV[p + 2]) or 0)
        end
        for j = 3, na - 1 do
          if depth < capacity then
            redis.call('XADD', KEYS[k], '*', 'd', ARGV[p + j])
            depth = depth + 1
          else
            local t = redis.call('TIME')
            bury(KEYS[k + 1], KEYS[k + 2], tonumber(ARGV[p + 1]), {
              'd', ARGV[p + j], 'r', 'mailbox_full', 'e', 'the shard already held ' .. depth .. ' of ' .. ARGV[p] .. ' messages',
              's', ARGV[p + 2], 'i', '', 'a', '0', 't', t[1] .. string.format('%03d', math.floor(t[2] / 1000)),
            })
          end
        end
      else
        rare(code, k, nk, p, na)
      end
      k = k + nk
      p = p + na
    end
  end
end
if #states > 0 then redis.call('MSET', unpack(states)) end
for i = 1, #order do
  local fields = inboxes[order[i]]
  for j = 1, #fields, 4000 do -- Lua unpacks fewer than 8,000 values; one key may have more waiters than that
    redis.call('XADD', order[i], 'NOMKSTREAM', '*', unpack(fields, j, math.min(j + 3999, #fields)))
  end
end
redis.call('HSET', KEYS[1], unpack(left))
return table.concat(status)

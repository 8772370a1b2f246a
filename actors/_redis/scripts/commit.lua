-- Make the turns of one commit real: per shard all of its part, or none of it.
--
-- Keeps: a part is applied exactly once and only by the shard's owner. The own hash holds
-- "<inc> <epoch> <seq> <clean> <upto>" of each shard; a part names the value it expects and
-- the value it leaves behind. Equal to the former: apply. Equal to the latter: it was
-- applied already (a retry is safe). Same owner and epoch with another sequence: history
-- was lost (gap). Anything else: fenced. All parts are checked before anything is written,
-- and the first write frees memory, so that a full Redis can still be drained.
--
-- KEYS[1] own hash; then the keys of all parts, in order.
-- ARGV[1] number of parts; then per part: label, expected, left behind, its counts as one number
-- (entries + 1024 * states + 1024^2 * inboxes + 1024^3 * operations); then, part by part:
--   KEYS mailbox, if there are entries   ARGV ids...               delete handled entries
--   KEYS states...                       ARGV values...            write states
--   KEYS inboxes...                      ARGV per inbox: number of answers, call, body, ...
--   KEYS of the operations               ARGV per operation: code, number of keys, number of arguments, arguments
-- The operation T is here, the rarer ones are in commit_ops.lua:
--   T mailbox, dead, dead count, totals | capacity, dead capacity, label, payloads...   send; dead-letter what does not fit
-- Returns one digit a part: 0 applied, 1 was applied already, 2 fenced, 3 gap; then, on a line each,
-- "<label> <depth>" of the shards that had no room for what was sent to them, and "! <error>" of what
-- Redis refused in mid-commit (a key of ours that holds something else). Such a refusal does not end
-- the script: what was written stands, so the rest and the sequence have to follow.
local parts = tonumber(ARGV[1])
local labels, status, left = {}, {}, {}
for i = 1, parts do labels[i] = ARGV[4 * i - 2] end
local own = redis.call('HMGET', KEYS[1], unpack(labels))
for i = 1, parts do
  local value, at = own[i], 4 * i - 1
  if value == ARGV[at] then
    status[i] = '0'
    left[#left + 1] = labels[i]
    left[#left + 1] = ARGV[at + 1]
  elseif value == ARGV[at + 1] then
    status[i] = '1'
  else
    local holder = string.match(ARGV[at], '^%S+ %S+ ')
    status[i] = (value and string.sub(value, 1, #holder) == holder) and '3' or '2'
  end
end
if #left == 0 then return table.concat(status) end

redis.call('HDEL', KEYS[1], '')
local k = 2
local states, inboxes, order, full = {}, {}, {}, {}

local function refused(problem)
  local text = type(problem) == 'table' and (problem.err or 'unknown error') or tostring(problem)
  full[#full + 1] = '! ' .. string.gsub(text, '%s+', ' ')
end

-- Run a command; false if Redis refused it, which is then told.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    refused(reply)
    return false
  end
  return true
end

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

local p = 4 * parts + 2
for i = 1, parts do
  local apply, counts = status[i] == '0', tonumber(ARGV[4 * i + 1])
  local entries = counts % 1024
  counts = (counts - entries) / 1024
  local written = counts % 1024
  counts = (counts - written) / 1024
  local answered = counts % 1024
  local ops = (counts - answered) / 1024
  if entries > 0 then
    if apply then try('XDEL', KEYS[k], unpack(ARGV, p, p + entries - 1)) end
    k = k + 1
    p = p + entries
  end
  if apply then
    for j = 0, written - 1 do
      states[#states + 1] = KEYS[k + j]
      states[#states + 1] = ARGV[p + j]
    end
  end
  k = k + written
  p = p + written
  for j = 0, answered - 1 do
    local n = tonumber(ARGV[p])
    if apply then
      for q = p + 1, p + 2 * n, 2 do answer(KEYS[k + j], ARGV[q], ARGV[q + 1]) end
    end
    p = p + 1 + 2 * n
  end
  k = k + answered
  for _ = 1, ops do
    local code, nk, na = ARGV[p], tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2])
    p = p + 3
    if apply then
      if code == 'T' then
        local length = redis.pcall('XLEN', KEYS[k])
        local usable, capacity = type(length) == 'number', tonumber(ARGV[p])
        local depth = 0
        if usable then
          depth = length + (tonumber(redis.call('HGET', KEYS[k + 3], ARGV[p + 2]) or 0) or 0)
        else
          refused(length)
        end
        for j = 3, na - 1 do
          if usable and depth < capacity then
            redis.call('XADD', KEYS[k], '*', 'd', ARGV[p + j])
            depth = depth + 1
          else
            local reason, why = 'mailbox_full', 'the shard already held ' .. depth .. ' of ' .. ARGV[p] .. ' messages'
            if not usable then
              reason, why = 'mailbox_refused', 'the mailbox of the shard holds something else'
            elseif full[#full] ~= ARGV[p + 2] .. ' ' .. depth then
              full[#full + 1] = ARGV[p + 2] .. ' ' .. depth
            end
            local t = redis.call('TIME')
            bury(KEYS[k + 1], KEYS[k + 2], tonumber(ARGV[p + 1]), {
              'd', ARGV[p + j], 'r', reason, 'e', why,
              's', ARGV[p + 2], 'i', '', 'a', '0', 't', t[1] .. string.format('%03d', math.floor(t[2] / 1000)),
            })
          end
        end
      else
        local done, problem = pcall(rare, code, k, nk, p, na)
        if not done then refused(problem) end
      end
    end
    k = k + nk
    p = p + na
  end
end
if #states > 0 then redis.call('MSET', unpack(states)) end
for i = 1, #order do
  local fields = inboxes[order[i]]
  for j = 1, #fields, 4000 do -- Lua unpacks fewer than 8,000 values; one key may have more waiters than that
    try('XADD', order[i], 'NOMKSTREAM', '*', unpack(fields, j, math.min(j + 3999, #fields)))
  end
end
redis.call('HSET', KEYS[1], unpack(left))
if #full > 0 then return table.concat(status) .. '\n' .. table.concat(full, '\n') end
return table.concat(status)

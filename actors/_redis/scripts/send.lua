-- Append one batch of a sender to the mailboxes of its targets.
--
-- Keeps: a batch is applied at most once, whatever is retried. The sender's record holds
-- the number and the outcomes of its last batch: the next number applies, the same number
-- answers what was answered before, anything else is stale (its outcome is unknown and the
-- sender takes a new id). Number 1 without a record is applied only while the sender id is
-- younger than half the record's life, so that a record that expired cannot let a batch in
-- twice. All checks of a message precede its writes; the first write of a plain batch is
-- XADD on purpose: a full Redis then refuses the batch whole.
--
-- KEYS[1] sender record   KEYS[2] own hash   KEYS[3] backlog totals (shard label -> waiting)
-- KEYS[4...] keys the messages name by their position
-- ARGV[1] number  ARGV[2] made (ms, Redis time)  ARGV[3] life of the record (ms)
-- ARGV[4] shard capacity  ARGV[5] actor backlog capacity  ARGV[6] fences
-- then per fence: shard label, "<inc> <epoch> "
-- then per message: kind, and its arguments (positions are indexes into KEYS):
--   <n>  payload                       a plain message for the mailbox KEYS[n]
--   x    flags... see below            anything else: x, mailbox, payload, label, fence (0: none),
--        record (0: none), prefix, hash, waiter, record life (ms, 0: until done), message id,
--        timers (0: at once), timer values, due ("+ms" from now, or ms)
--   c    mailbox, payload, record (0: none), prefix, waiter      a cancellation (kept back while others wait under
--        the record), or another word to the owner; there is always room for it
-- Returns -1: stale; else the outcomes of the messages that were not simply appended:
--   {index, code, detail...} flattened as text "<index> <code> <length>:<detail>".
local number = ARGV[1]
local record = redis.call('GET', KEYS[1])
if record then
  local space = string.find(record, ' ', 1, true)
  local last = string.sub(record, 1, space - 1)
  if last == number then return string.sub(record, space + 1) end
  if tonumber(last) + 1 ~= tonumber(number) then return -1 end
elseif number ~= '1' then
  return -1
else
  local t = redis.call('TIME')
  if t[1] * 1000 + math.floor(t[2] / 1000) - tonumber(ARGV[2]) > tonumber(ARGV[3]) / 2 then return -1 end
end

local shard_capacity, actor_capacity = tonumber(ARGV[4]), tonumber(ARGV[5])
local backlogs = redis.call('HLEN', KEYS[3]) > 0
local fences, p = {}, 7
for i = 1, tonumber(ARGV[6]) do
  local value = redis.call('HGET', KEYS[2], ARGV[p]) or ''
  fences[i] = string.sub(value, 1, #ARGV[p + 1]) == ARGV[p + 1]
  p = p + 2
end

local depth, outcomes, index, count = {}, {}, 0, #ARGV

local function outcome(code, detail)
  outcomes[#outcomes + 1] = index .. ' ' .. code .. ' ' .. #detail .. ':' .. detail
end

-- The text at position q of a msgpack string, and the position behind it.
local function text(s, q)
  local b = string.byte(s, q)
  if b >= 160 and b < 192 then return string.sub(s, q + 1, q + b - 160), q + 1 + b - 160 end
  if b == 217 then local n = string.byte(s, q + 1) return string.sub(s, q + 2, q + 1 + n), q + 2 + n end
  local n = string.byte(s, q + 1) * 256 + string.byte(s, q + 2)
  return string.sub(s, q + 3, q + 2 + n), q + 3 + n
end

-- Whether the target has room. Backlogs are looked at only while there are any.
local function room(mailbox, payload, asked)
  local d = depth[mailbox]
  if not d then
    d = redis.call('XLEN', mailbox)
    if backlogs then
      local label = string.sub(mailbox, string.find(mailbox, '}:m:', 1, true) + 4)
      d = d + (tonumber(redis.call('HGET', KEYS[3], label) or 0) or 0)
    end
    depth[mailbox] = d
  end
  if not asked and d >= shard_capacity then
    outcome('full', 'shard ' .. shard_capacity .. ' ' .. d)
    return false
  end
  if backlogs and not asked then
    local at = string.find(mailbox, '}:m:', 1, true)
    local kind, q = text(payload, 3)
    local key = text(payload, q)
    local name = string.sub(mailbox, 1, at) .. ':b:' .. string.sub(mailbox, at + 4) .. ':' .. kind .. ':' .. key
    local waiting = redis.call('XLEN', name)
    if waiting >= actor_capacity then
      outcome('full', 'actor ' .. actor_capacity .. ' ' .. waiting)
      return false
    end
  end
  depth[mailbox] = d + 1
  return true
end

local function nudge(mailbox)
  redis.call('XADD', mailbox, '*', 'd', '\153\1\161-\161-\160\128\160\192\0\148\192\144\192\2')
end

while p <= count do
  local kind = ARGV[p]
  if kind == 'x' then
    local mailbox, payload, fence = KEYS[tonumber(ARGV[p + 1])], ARGV[p + 2], tonumber(ARGV[p + 4])
    local rec, prefix, waiter = tonumber(ARGV[p + 5]), ARGV[p + 6], ARGV[p + 8]
    local timers = tonumber(ARGV[p + 11])
    local send = true
    if fence > 0 and not fences[fence] then
      outcome('fenced', '')
      send = false
    elseif rec > 0 then
      local seen = redis.call('HMGET', KEYS[rec], prefix .. 'h', prefix .. 's', prefix .. 'i', prefix .. 'w')
      if seen[1] then
        send = false
        if seen[1] ~= ARGV[p + 7] then
          outcome('conflict', seen[3] or '')
        elseif seen[2] then
          outcome('done', (seen[3] or '') .. ' ' .. seen[2])
        else
          if waiter ~= '' and not string.find('\n' .. (seen[4] or ''), '\n' .. waiter .. '\n', 1, true) then
            redis.call('HSET', KEYS[rec], prefix .. 'w', (seen[4] or '') .. waiter .. '\n')
          end
          outcome('joined', seen[3] or '')
        end
      end
    end
    if send and timers > 0 and redis.call('ZCARD', KEYS[timers]) >= shard_capacity then
      outcome('full', 'shard ' .. shard_capacity .. ' ' .. redis.call('ZCARD', KEYS[timers]))
      send = false
    end
    if send and room(mailbox, payload, fence > 0) then
      if timers > 0 then
        local due = ARGV[p + 13]
        if string.sub(due, 1, 1) == '+' then
          local t = redis.call('TIME')
          due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(due))
        end
        redis.call('HSET', KEYS[tonumber(ARGV[p + 12])], ARGV[p + 10], payload)
        redis.call('ZADD', KEYS[timers], due, ARGV[p + 10])
        if redis.call('ZRANGE', KEYS[timers], 0, 0)[1] == ARGV[p + 10] then nudge(mailbox) end
      else
        redis.call('XADD', mailbox, '*', 'd', payload)
      end
      if rec > 0 then
        redis.call('HSET', KEYS[rec], prefix .. 'h', ARGV[p + 7], prefix .. 'i', ARGV[p + 10], prefix .. 'w', waiter == '' and '' or waiter .. '\n')
        if ARGV[p + 9] ~= '0' then redis.call('PEXPIRE', KEYS[rec], ARGV[p + 9]) end
      end
    end
    p = p + 14
  elseif kind == 'c' then
    local rec, prefix, waiter, alone = tonumber(ARGV[p + 3]), ARGV[p + 4], ARGV[p + 5] .. '\n', true
    if rec > 0 then
      local waiting = '\n' .. (redis.call('HGET', KEYS[rec], prefix .. 'w') or '')
      local at = string.find(waiting, '\n' .. waiter, 1, true)
      if at then waiting = string.sub(waiting, 1, at) .. string.sub(waiting, at + 1 + #waiter) end
      alone = waiting == '\n'
      if at and not alone then redis.call('HSET', KEYS[rec], prefix .. 'w', string.sub(waiting, 2)) end
      if not at then alone = false end
    end
    if alone then redis.call('XADD', KEYS[tonumber(ARGV[p + 1])], '*', 'd', ARGV[p + 2]) else outcome('kept', '') end
    p = p + 6
  else
    local mailbox, payload = KEYS[tonumber(kind)], ARGV[p + 1]
    if room(mailbox, payload, false) then redis.call('XADD', mailbox, '*', 'd', payload) end
    p = p + 2
  end
  index = index + 1
end
local result = table.concat(outcomes)
redis.call('SET', KEYS[1], number .. ' ' .. result, 'PX', ARGV[3])
return result

-- The rarer operations of a commit. Pasted into commit.lua, whose `answer` and `bury` they use.
-- Each is given its first key and the number of keys, its first argument and their number.
--   E keys...                               delete (cleared state, the asks of an ended turn)
--   X state | value, ttl ms                 write a state that expires
--   K record | prefix, ttl ms (0: forget), body, call-less   complete an idempotency record, answer its waiters
--   L timers, values, mailbox | due, id, payload, ...        delayed sends of a turn
--   I mailbox, record, timers, values, dead, dead count, totals | payload, hash, id, due ("": at once), dead capacity,
--     label, capacity                       a send of a turn under an idempotency key
--   B mailbox, backlog, held, totals | label, actor, held value, id, payload, ...   move to the backlog
--   b backlog, held, totals | label, actor, ids...            backlog entries that were handled
--   H held | actor, held value              backoff of a held actor
--   M marks | ids...                        forget marks
--   Z dead, dead count | capacity, fields...                  dead-letter
--   P parked, dead, dead count | capacity, dead capacity, fields...   park for a runner that knows it
--   G streams | id, value                   a streaming reply begins
--   g streams | id                          a streaming reply has ended

-- Put a message among the timers of its shard; the owner is nudged when it is the first that is due.
local function delay(timers, mailbox, due, id, payload)
  if string.sub(due, 1, 1) == '+' then
    local t = redis.call('TIME')
    due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(due))
  end
  redis.call('HSET', KEYS[timers + 1], id, payload)
  redis.call('ZADD', KEYS[timers], due, id)
  if redis.call('ZRANGE', KEYS[timers], 0, 0)[1] == id then
    redis.call('XADD', KEYS[mailbox], '*', 'd', '\153\1\161-\161-\160\128\160\192\0\148\192\144\192\2')
  end
end

local function rare(code, k, nk, p, na)
  if code == 'E' then
    redis.call('DEL', unpack(KEYS, k, k + nk - 1))
  elseif code == 'X' then
    redis.call('SET', KEYS[k], ARGV[p], 'PX', ARGV[p + 1])
  elseif code == 'K' then
    local prefix, ttl, body = ARGV[p], ARGV[p + 1], ARGV[p + 2]
    local tag = string.sub(KEYS[k], 1, string.find(KEYS[k], '}', 1, true))
    local waiters = redis.call('HGET', KEYS[k], prefix .. 'w') or ''
    for inbox, call in string.gmatch(waiters, '(%S+) (%d+)\n') do answer(tag .. ':i:' .. inbox, call, body) end
    if ttl == '0' then
      redis.call('HDEL', KEYS[k], prefix .. 'h', prefix .. 's', prefix .. 'i', prefix .. 'w')
    elseif redis.call('HEXISTS', KEYS[k], prefix .. 'h') == 1 then
      redis.call('HDEL', KEYS[k], prefix .. 'w')
      redis.call('HSET', KEYS[k], prefix .. 's', body)
      redis.call('PEXPIRE', KEYS[k], ttl)
    end
  elseif code == 'L' then
    for j = p, p + na - 1, 3 do delay(k, k + 2, ARGV[j], ARGV[j + 1], ARGV[j + 2]) end
  elseif code == 'I' then
    local seen = redis.call('HGET', KEYS[k + 1], 'h')
    local depth, capacity = 0, tonumber(ARGV[p + 6])
    if not seen and ARGV[p + 3] == '' then
      depth = redis.call('XLEN', KEYS[k]) + (tonumber(redis.call('HGET', KEYS[k + 6], ARGV[p + 5]) or 0) or 0)
    end
    if depth >= capacity then
      local t = redis.call('TIME')
      bury(KEYS[k + 4], KEYS[k + 5], tonumber(ARGV[p + 4]), {
        'd', ARGV[p], 'r', 'mailbox_full', 'e', 'the shard already held ' .. depth .. ' of ' .. ARGV[p + 6] .. ' messages',
        's', ARGV[p + 5], 'i', '', 'a', '0', 't', t[1] .. string.format('%03d', math.floor(t[2] / 1000)),
      })
    elseif not seen then
      redis.call('HSET', KEYS[k + 1], 'h', ARGV[p + 1], 'i', ARGV[p + 2], 'w', '')
      if ARGV[p + 3] == '' then
        redis.call('XADD', KEYS[k], '*', 'd', ARGV[p])
      else
        delay(k + 2, k, ARGV[p + 3], ARGV[p + 2], ARGV[p])
      end
    elseif seen ~= ARGV[p + 1] then
      local t = redis.call('TIME')
      bury(KEYS[k + 4], KEYS[k + 5], tonumber(ARGV[p + 4]), {
        'd', ARGV[p], 'r', 'idempotency_conflict', 'e', 'its idempotency key was used with another method or other arguments',
        's', ARGV[p + 5], 'i', '', 'a', '0', 't', t[1] .. string.format('%03d', math.floor(t[2] / 1000)),
      })
    end
  elseif code == 'B' then
    local moved = 0
    for j = p + 3, p + na - 1, 2 do
      if redis.call('XDEL', KEYS[k], ARGV[j]) == 1 then
        redis.call('XADD', KEYS[k + 1], ARGV[j], 'd', ARGV[j + 1])
        moved = moved + 1
      end
    end
    redis.call('HSET', KEYS[k + 2], ARGV[p + 1], ARGV[p + 2])
    if moved > 0 then redis.call('HINCRBY', KEYS[k + 3], ARGV[p], moved) end
  elseif code == 'b' then
    local gone = redis.call('XDEL', KEYS[k], unpack(ARGV, p + 2, p + na - 1))
    if gone > 0 and redis.call('HINCRBY', KEYS[k + 2], ARGV[p], -gone) <= 0 then redis.call('HDEL', KEYS[k + 2], ARGV[p]) end
    if redis.call('XLEN', KEYS[k]) == 0 then
      redis.call('DEL', KEYS[k])
      redis.call('HDEL', KEYS[k + 1], ARGV[p + 1])
    end
  elseif code == 'H' then
    if redis.call('HEXISTS', KEYS[k], ARGV[p]) == 1 then redis.call('HSET', KEYS[k], ARGV[p], ARGV[p + 1]) end
  elseif code == 'M' then
    redis.call('HDEL', KEYS[k], unpack(ARGV, p, p + na - 1))
  elseif code == 'Z' then
    bury(KEYS[k], KEYS[k + 1], tonumber(ARGV[p]), { unpack(ARGV, p + 1, p + na - 1) })
  elseif code == 'P' then
    local fields = { unpack(ARGV, p + 2, p + na - 1) }
    if redis.call('XLEN', KEYS[k]) < tonumber(ARGV[p]) then
      redis.call('XADD', KEYS[k], '*', unpack(fields))
    else
      for _, word in ipairs({ 'r', 'parked_full', 'e', 'no running runner has it, and ' .. ARGV[p] .. ' messages are parked already', 'a', '0' }) do
        fields[#fields + 1] = word
      end
      bury(KEYS[k + 1], KEYS[k + 2], tonumber(ARGV[p + 1]), fields)
    end
  elseif code == 'G' then
    redis.call('HSET', KEYS[k], ARGV[p], ARGV[p + 1])
  elseif code == 'g' then
    redis.call('HDEL', KEYS[k], ARGV[p])
  end
end

-- Send items of a streaming reply, while its shard is still ours.
--
-- Keeps: a former owner's stream sends nothing more. An inbox that has gone is not created again.
--
-- KEYS[1] own hash  KEYS[2] inbox
-- ARGV[1] label  ARGV[2] "<inc> <epoch> "  ARGV[3...] call, answer, call, answer, ...
-- Returns 1: sent; 0: fenced; -1: nobody reads that inbox any more.
local value = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.sub(value, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
local id = redis.call('XADD', KEYS[2], 'NOMKSTREAM', '*', unpack(ARGV, 3))
return id and 1 or -1

-- Create a client's inbox, if it is not there, and let it live for a while.
--
-- Keeps: no inbox is without an end, whenever its client dies, and however late this runs.
--
-- KEYS[1] inbox   ARGV[1] life in ms
-- Returns 1 if it was there, 0 if it is new.
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], '-', '0', 'MKSTREAM')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  return 0
end
return 1

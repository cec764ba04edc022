-- Holds the lease KEYS[1] of the owner ARGV[1] for ARGV[2] ms from now on. Returns 0 when it is not the owner's.
-- A server that has lost the lease gives it again.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

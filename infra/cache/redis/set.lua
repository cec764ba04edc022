-- Stores a copy, unless a tag has another state than in the lease. KEYS are the copy and the tags; ARGV is the lease, the
-- value and the milliseconds that it lives. A tag lives as long as what is stored with it. Returns 1 if it was stored.
local states = {}
for i = 2, #KEYS do
  local state = redis.call('GET', KEYS[i])
  if not state or #state == 18 then return 0 end -- see invalidate.lua
  states[i - 1] = state
end
if table.concat(states) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], #ARGV[1] .. ':' .. ARGV[1] .. ARGV[2], 'PX', ARGV[3])
for i = 2, #KEYS do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
end
return 1

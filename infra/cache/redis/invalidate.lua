-- Takes the states of tags, so that no copy with one of them counts. KEYS are the tags; ARGV is a random text, and for how
-- many milliseconds nothing is stored with them: they get a state then that is one byte longer than others. Such a state
-- is replaced by another one and lives for as long as it would have, or longer. Returns 1.
for i, key in ipairs(KEYS) do
  local left, state = tonumber(ARGV[2]), redis.call('GET', key)
  if state and #state == 18 then left = math.max(left, redis.call('PTTL', key)) end
  if left > 0 then
    redis.call('SET', key, ARGV[1] .. string.char(i % 256) .. 's', 'PX', left)
  else
    redis.call('DEL', key)
  end
end
return 1

-- Returns a copy, or an empty text, and the states of its tags. KEYS are the copy and the tags; ARGV is a random text,
-- from which tags get a state that have none, and for how many milliseconds they have it. A copy begins with the states
-- of its tags at the time when it was read: with other ones it does not count.
local found = redis.call('MGET', unpack(KEYS))
local states, complete = {}, true
for i = 2, #KEYS do
  states[i - 1] = found[i]
  complete = complete and found[i]
end
if complete and found[1] then
  local lease = table.concat(states)
  local head = #lease .. ':' .. lease
  if string.sub(found[1], 1, #head) == head then return {string.sub(found[1], #head + 1), lease} end
end
for i = 2, #KEYS do
  if not found[i] then
    states[i - 1] = ARGV[1] .. string.char(i)
    redis.call('SET', KEYS[i], states[i - 1], 'PX', ARGV[2])
  end
end
return {false, table.concat(states)}

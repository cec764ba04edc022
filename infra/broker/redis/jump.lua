-- Appends a group of events to the stream KEYS[1] as append.lua does, but at a position behind every one that was given
-- before, also behind those that were lost with their entries: the time in microseconds, since no stream grows by a
-- million entries a second. The list KEYS[3] has the last jumps, as FROM-TO.
local last = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = tonumber(string.match(info[i + 1], '^0%-(%d+)$'))
    end
  end
end
local now = redis.call('TIME')
local position = math.max(last + 1, now[1] * 1000000 + now[2])
local id = redis.call('XADD', KEYS[1], string.format('0-%.0f', position), 'e', ARGV[1])
redis.call('RPUSH', KEYS[3], string.format('%.0f-%.0f', last + 1, position))
redis.call('LTRIM', KEYS[3], -100, -1)
redis.call('PUBLISH', KEYS[2], id)
return id
